"""Files from any web host: received into a partial file, which the next try or process goes on with."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from odyssey.corpora.hub_errors import explained
from odyssey.corpora.retries import patiently
from odyssey.errors import OdysseyError
from odyssey.progress import bar
from odyssey.store import write_text

if TYPE_CHECKING:
    import httpx2

LONG = 64 * 10**6
"""Bytes from which on a download shows its progress."""


def fetch_url(url: str, folder: Path) -> Path:
    """A plain web file in a folder, under the last part of its URL; one that is there is kept.

    It is received into a `.part` file, which the next call goes on with if the host still has the
    same file (by its ETag, else by its date), and renamed when it has the length that was announced.

    Raises OdysseyError naming the URL and the remedy.
    """
    from huggingface_hub import cached_assets_path

    shown = _without_secrets(url)
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if urlsplit(url).scheme not in ("http", "https") or name in ("", ".", "..") or "/" in name:
        raise OdysseyError(f"'{shown}': not the URL of a file; give one that starts with http:// or https://")
    target = folder / name
    if target.is_file():
        return target
    part, state = folder / f"{name}.part", folder / f"{name}.part.state"
    lock = hashlib.sha256(str(target.resolve()).encode()).hexdigest()
    with explained(shown, folder), locked(cached_assets_path("odyssey", "locks") / f"{lock}.lock"):
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            receive(url, part, {}, state)
            part.replace(target)
            state.unlink(missing_ok=True)
    return target


def receive(url: str, part: Path, headers: dict[str, str], state: Path | None = None) -> None:
    """Append to a file what it lacks of a URL's content, in as many requests as it takes.

    `state` is where the ETag or date of what the file holds is kept; without it, the content is
    taken never to change. Raises what the client raises; what had come by then is in the file.
    """
    patiently(lambda: _receive_once(url, part, headers, state), lambda: _size(part))


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other processes that want the same file waiting."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    file.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file):
        yield


def _receive_once(url: str, part: Path, headers: dict[str, str], state: Path | None) -> None:
    from huggingface_hub import constants, get_session

    have = _size(part)
    # Not compressed on its way: length, ranges and hashes are those of the file.
    asked = {**headers, "Accept-Encoding": "identity", **_range(have, state)}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=asked, timeout=timeout, follow_redirects=True) as response:
        if response.status_code == 416:  # the host's file is not longer than what is here
            part.unlink(missing_ok=True)
        response.raise_for_status()
        start = _start(response, have, state)
        if start == 0:
            part.unlink(missing_ok=True)  # before its state changes: never old bytes beside a new ETag
        if start == 0 and state is not None:
            write_text(state, _validator(response))
        length = int(response.headers.get("Content-Length", 0))
        if length > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.parent))
        # As the file is called where it comes from: the cache calls it by its hash.
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        _write(response, name, part, start, start + length)


def _write(response: httpx2.Response, name: str, part: Path, start: int, total: int) -> None:
    done = start
    with part.open("ab" if start else "wb") as file, _progress(name, start, total) as advance:
        for chunk in response.iter_raw():
            file.write(chunk)
            done += len(chunk)
            advance(done)


def _range(have: int, state: Path | None) -> dict[str, str]:
    """Headers that ask for what comes after the first `have` bytes; for all, if they may be of another file."""
    if have == 0:
        return {}
    if state is None:
        return {"Range": f"bytes={have}-"}
    known = _known(state)
    # A weak ETag does not promise equal bytes.
    return {"Range": f"bytes={have}-", "If-Range": known} if known and not known.startswith("W/") else {}


def _start(response: httpx2.Response, have: int, state: Path | None) -> int:
    """Where in the file an answer begins: at its start, or after what is there already.

    Raises what counts as a failure that may pass, with nothing left to go on with, if it is the
    middle of another file (some hosts do not heed If-Range).
    """
    import httpx2

    if response.status_code != 206:
        return 0
    fits = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    if fits and (state is None or _validator(response) == _known(state)):
        return have
    if state is not None:
        state.unlink(missing_ok=True)
    raise httpx2.RemoteProtocolError("the host sent a part that was not asked for")


def _validator(response: httpx2.Response) -> str:
    """What tells one version of a host's file from another; empty if nothing does."""
    return str(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")


def _known(state: Path) -> str:
    return state.read_text(encoding="utf-8") if state.is_file() else ""


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


@contextmanager
def _progress(name: str, start: int, total: int) -> Iterator[Callable[[int], object]]:
    """A bar in megabytes for what is long; yields the function to call with the number of bytes done."""
    if total - start < LONG:
        yield lambda done: None
        return
    with bar(label=name, total=total // 10**6, unit="MB") as shown:
        yield lambda done: shown.update(done // 10**6 - shown.n)


def _without_secrets(url: str) -> str:
    """A URL as it may be shown: without user, password and query, which can hold a signature."""
    split = urlsplit(url)
    return split._replace(netloc=split.netloc.rpartition("@")[2], query="", fragment="").geturl()
