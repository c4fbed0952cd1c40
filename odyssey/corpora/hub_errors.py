"""What the libraries raise for a request to the hub or another host, as one line with the remedy."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from odyssey.corpora.retries import status_of
from odyssey.errors import OdysseyError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEPT = "run again: what was fetched is kept"


@dataclass(frozen=True)
class Asked:
    """What was asked of the hub, for messages."""

    repo: str
    revision: str
    kind: Literal["model", "dataset"]
    path: str | None = None

    def __str__(self) -> str:
        file = "" if self.path is None else f", file '{self.path}'"
        return f"{self.kind} '{self.repo}'{file}, revision '{self.revision}'"

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{'datasets/' * (self.kind == 'dataset')}{self.repo}"

    @property
    def files_page(self) -> str:
        return f"{self.page}/tree/{self.revision}"


@contextmanager
def explained(asked: Asked | str, folder: Path | None = None) -> Iterator[None]:
    """Turn what the libraries raise for a request into one OdysseyError.

    `asked` is a URL, whose content goes to `folder`, or of the hub, whose files go to its cache.

    Raises OdysseyError naming what was asked, the reason and the remedy.
    """
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # the hub's own are among these
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
        reason = cause if isinstance(cause, Exception) else error
        told = _explain_hub(asked, reason) if isinstance(asked, Asked) else None
        raise OdysseyError(f"{asked}: {told or _explain(asked, reason, folder)}") from error


def no_hub() -> str:
    """What is said of a server whose answers are not those of a hub."""
    return f"{_endpoint()} does not answer as the hub does; is HF_ENDPOINT right, or a proxy in the way?"


def _endpoint() -> str:
    """The hub's address, without a user and password in it."""
    from huggingface_hub import constants

    return re.sub(r"(?<=://).*@", "", constants.ENDPOINT)  # a password may have any character in it


def _explain_hub(asked: Asked, error: Exception) -> str | None:
    """What only the hub can have to say: ids, revisions and rights."""
    from huggingface_hub import errors

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.HFValidationError):
        return "not a repository's id; it looks like 'owner/name'"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"no such revision; give a branch, a tag or a commit of {asked.page}/commits/main"
    if isinstance(error, errors.GatedRepoError) or status_of(error) == 403:
        return f"access is restricted; accept the licence on {asked.page} and {log_in}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such {asked.kind} on the hub, or a private one; check the id, or {log_in} and see {asked.page}"
    if isinstance(error, json.JSONDecodeError):
        return no_hub()
    if status_of(error) == 401:
        return f"the hub does not accept the token; {log_in} anew"
    return None


def _explain(asked: Asked | str, error: Exception, folder: Path | None) -> str:
    """What can happen with any host, and on this side."""
    import httpx2
    from huggingface_hub import constants, errors

    host = f"{urlsplit(asked).hostname}" if isinstance(asked, str) else f"the hub ({_endpoint()})"
    where = folder or constants.HF_HUB_CACHE
    status = status_of(error)
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return (
            f"not in {where}, and HF_HUB_OFFLINE keeps it from being fetched; run once online, or unset HF_HUB_OFFLINE"
        )
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError | httpx2.ReadTimeout):
        return f"the connection to {host} breaks off again and again; {_KEPT}"
    if isinstance(error, httpx2.TransportError):
        return f"{host} cannot be reached ({_first_line(error)}); check the network and {_KEPT}"
    if status == 429:
        return f"{host} has had too many requests from here; wait some minutes and {_KEPT}"
    if status >= 500:
        return f"{host} is out of order (status {status}); wait some minutes and {_KEPT}"
    if status:
        return (
            f"{host} refuses it (status {status}); check the URL" if folder else f"{host} answers with status {status}"
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"no space left in {where}; free some or set HF_HOME, and {_KEPT}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be stored: {error.filename or where}: {error.strerror}"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
