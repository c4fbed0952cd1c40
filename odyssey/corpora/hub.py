"""Files from the Hugging Face hub and from plain web hosts: fetched once, checked, resumed.

Files of the hub lie in huggingface_hub's own cache, under its layout and locks, so that every
other library finds them there. What huggingface_hub 2.4 does not do is done here: it drops a
file's first gigabytes when the process ends before the last, and it does not compare the bytes
with the hash that they are known by. So a file is received beside the cache's blobs, under its
hash's name, where the next process goes on with it; it becomes a blob when its hash is right.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from odyssey.errors import OdysseyError
from odyssey.progress import bar
from odyssey.store import read_json, write_json, write_text
from odyssey.store import sha256 as file_sha256

if TYPE_CHECKING:
    import httpx2

Kind = Literal["model", "dataset"]
T = TypeVar("T")

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is wanted of a model's repository, which may also hold pickles, ONNX, Flax weights, ..."""
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request is made again after a failure that may pass; after the last, it is an error."""
LONG = 64 * 10**6
"""Bytes from which on a download shows its progress."""

# Loading these runs code that is in them.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_COMMIT = re.compile("[0-9a-f]{40}")
_SHORT_COMMIT = re.compile("[0-9a-f]{7,39}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEPT = "run again: what was fetched is kept"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, as the hub lists it."""

    path: str
    size: int
    sha256: str | None
    """Of an LFS file (all large ones are); None for others."""


@dataclass(frozen=True)
class _Asked:
    """What was asked of the hub, for messages."""

    repo: str
    revision: str
    kind: Kind
    path: str | None = None

    def __str__(self) -> str:
        file = "" if self.path is None else f", file '{self.path}'"
        return f"{self.kind} '{self.repo}'{file}, revision '{self.revision}'"

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{'datasets/' * (self.kind == 'dataset')}{self.repo}"


def resolve(repo: str, revision: str, kind: Kind) -> str:
    """The commit (40 hexadecimal digits) that a branch, tag or short commit stands for.

    Of a full commit nothing is asked. A short one is asked for once; where a branch or tag points
    to is asked each time, and read from the cache if the hub cannot be reached.

    Raises OdysseyError naming repository, revision and remedy.
    """
    with _explained(_Asked(repo, revision, kind)):
        return _resolve(repo, revision, kind)


def list_files(repo: str, revision: str, kind: Kind) -> list[HubFile]:
    """All files of a repository, in the order of their paths; a commit's list is asked for once.

    Raises OdysseyError naming repository, revision and remedy.
    """
    with _explained(_Asked(repo, revision, kind)):
        return _list_files(repo, _resolve(repo, revision, kind), kind)


def fetch(repo: str, path: str, revision: str, kind: Kind) -> Path:
    """A file of the hub in the local cache, downloaded if it is not there yet.

    A download goes on where an earlier one broke off, and is checked by size and hash. What is in
    the cache is used as it is, without asking the hub if `revision` is a commit.

    Raises OdysseyError naming repository, file, revision and remedy.
    """
    from huggingface_hub import hf_hub_download

    asked = _Asked(repo, revision, kind, path)
    with _explained(asked):
        commit = _resolve(repo, revision, kind)
        cached = _cached(repo, path, commit, kind)
        if cached is not None:
            return cached
        _download_blob(asked, commit)
        # Nothing is left to download: this enters the file into the cache, under its name.
        return Path(hf_hub_download(repo, path, revision=commit, repo_type=kind))


def fetch_all(repo: str, patterns: Sequence[str], revision: str, kind: Kind) -> Path:
    """The folder with the files of a repository that match a pattern (`MODEL_FILES` for a model).

    `*` also stands for `/`. Weights in pickled form are left out whatever the patterns say.

    Raises OdysseyError naming repository, file, revision and remedy, also if nothing matches.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    asked = _Asked(repo, revision, kind)
    with _explained(asked):
        commit = _resolve(repo, revision, kind)
        try:
            files = _list_files(repo, commit, kind)
        except OfflineModeIsEnabled:
            return _cached_snapshot(repo, patterns, commit, kind)
    wanted = [file.path for file in files if _is_wanted(file.path, patterns)]
    if not wanted:
        raise OdysseyError(f"{asked}: holds no file like {', '.join(patterns)}; see {asked.page}/tree/{revision}")
    for path in wanted:
        fetched = fetch(repo, path, commit, kind)
    return fetched.parents[path.count("/")]


def fetch_url(url: str, folder: Path) -> Path:
    """A plain web file in a folder, under the last part of its URL; one that is there is kept.

    It is received into a `.part` file, which the next call goes on with if the host still has the
    same file (by its ETag, else by its date), and renamed when it has the length that was announced.

    Raises OdysseyError naming the URL and the remedy.
    """
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if urlsplit(url).scheme not in ("http", "https") or name in ("", ".", "..") or "/" in name:
        raise OdysseyError(
            f"'{_without_secrets(url)}': not the URL of a file; give one that starts with http:// or https://"
        )
    target = folder / name
    if target.is_file():
        return target
    part, state = folder / f"{name}.part", folder / f"{name}.part.state"
    lock = _lock_folder() / f"{hashlib.sha256(str(target.resolve()).encode()).hexdigest()}.lock"
    with _explained(_without_secrets(url), folder), _lock(lock):
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _patiently(lambda: _receive(url, part, {}, state), lambda: _size(part))
            part.replace(target)
            state.unlink(missing_ok=True)
    return target


# -- the hub


def _resolve(repo: str, revision: str, kind: Kind) -> str:
    from huggingface_hub.errors import RevisionNotFoundError

    if not revision:
        raise ValueError("no revision given; give a branch, a tag or a commit")
    if _COMMIT.fullmatch(revision):
        return revision
    ref = _storage(repo, kind) / "refs" / revision
    if _SHORT_COMMIT.fullmatch(revision) and ref.is_file():
        return ref.read_text().strip()
    try:
        commit = _ask_commit(repo, revision, kind)
    except RevisionNotFoundError:
        found = _expand(repo, revision, kind)
        if found is None:
            raise
        commit = found
    except Exception as error:
        if not (_is_out_of_reach(error) and ref.is_file()):
            raise
        return ref.read_text().strip()
    with suppress(OSError):  # a cache that may only be read serves as well
        write_text(ref, commit)
    return commit


def _ask_commit(repo: str, revision: str, kind: Kind) -> str:
    from huggingface_hub import HfApi, constants

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = _patiently(lambda: HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=timeout))
    return str(info.sha)


def _expand(repo: str, revision: str, kind: Kind) -> str | None:
    """The one commit of the main branch that starts like this: the hub need not know short ones."""
    from huggingface_hub import HfApi

    if not _SHORT_COMMIT.fullmatch(revision):
        return None
    commits = [commit.commit_id for commit in HfApi().list_repo_commits(repo, repo_type=kind)]
    found = [commit for commit in commits if commit.startswith(revision)]
    return found[0] if len(found) == 1 else None


def _list_files(repo: str, commit: str, kind: Kind) -> list[HubFile]:
    from huggingface_hub import HfApi, cached_assets_path, constants

    # A commit's files never change, so the list is kept: with it, a later run needs no network.
    kept = cached_assets_path("odyssey", f"{kind}s--{repo}", "files") / f"{commit}.json"
    if kept.is_file():
        return [HubFile(**entry) for entry in read_json(kept)]
    info: Any = _patiently(
        lambda: HfApi().repo_info(
            repo, revision=commit, repo_type=kind, timeout=constants.HF_HUB_ETAG_TIMEOUT, files_metadata=True
        )
    )
    files = sorted(
        (HubFile(one.rfilename, one.size or 0, one.lfs and one.lfs.sha256) for one in info.siblings or ()),
        key=lambda file: file.path,
    )
    with suppress(OSError):
        write_json(kept, [asdict(file) for file in files])
    return files


def _cached(repo: str, path: str, commit: str, kind: Kind) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, path, revision=commit, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def _cached_snapshot(repo: str, patterns: Sequence[str], commit: str, kind: Kind) -> Path:
    """What another library left of a commit in the cache.

    Raises LocalEntryNotFoundError if there is nothing, or if it is known to lack files.
    """
    from huggingface_hub import snapshot_download

    allowed = list(patterns)
    return Path(snapshot_download(repo, revision=commit, repo_type=kind, allow_patterns=allowed, local_files_only=True))


def _is_wanted(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns) and not path.endswith(_PICKLES)


def _storage(repo: str, kind: Kind) -> Path:
    """The repository's folder in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)


def _download_blob(asked: _Asked, commit: str) -> None:
    """Bring a file's content into the cache, as the blob that its hash names."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(asked.repo, str(asked.path), revision=commit, repo_type=asked.kind)
    found = _patiently(lambda: get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT))
    etag, size = found.etag, found.size
    if not etag or size is None or found.commit_hash is None:
        raise OdysseyError(f"{asked}: {_no_hub()}")
    storage = _storage(asked.repo, asked.kind)
    blob = storage / "blobs" / etag
    part = blob.with_name(f"{etag}.incomplete")
    with _lock(storage.parent / ".locks" / storage.name / f"{etag}.lock"):
        blob.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            if blob.exists():
                return
            if not part.is_file() or _size(part) < size:
                _patiently(lambda: _receive(url, part, build_hf_headers()), lambda: _size(part))
            fault = _find_fault(part, size, etag)
            if fault is None:
                part.replace(blob)
                return
            part.unlink()
            if last:
                raise OdysseyError(f"{asked}: damaged on its way, twice: {fault}; run again, or ask at {asked.page}")


def _find_fault(file: Path, size: int, etag: str) -> str | None:
    """How a file differs from what the hub has: its etag is the sha256 of an LFS file, else git's sha1."""
    if _size(file) != size:
        return f"it has {_size(file):,} bytes instead of {size:,}"
    if len(etag) == 64:
        found = file_sha256(file)
    elif len(etag) == 40:
        found = hashlib.sha1(b"blob %d\0" % size + file.read_bytes()).hexdigest()
    else:
        return None
    return None if found == etag else f"its hash is {found} instead of {etag}"


# -- any host


def _receive(url: str, part: Path, headers: dict[str, str], state: Path | None = None) -> None:
    """Append to a file what it lacks of a URL's content, in one request.

    `state` is where the ETag or date of what the file holds is kept; without it, the content is
    taken never to change. Raises what the client raises; what had come by then is in the file.
    """
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
        _write(response, part, start, start + length)


def _write(response: httpx2.Response, part: Path, start: int, total: int) -> None:
    done = start
    with part.open("ab" if start else "wb") as file, _progress(part.name, start, total) as advance:
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


@contextmanager
def _progress(name: str, start: int, total: int) -> Iterator[Callable[[int], object]]:
    """A bar in megabytes for what is long; yields the function to call with the number of bytes done."""
    if total - start < LONG:
        yield lambda done: None
        return
    with bar(label=name, total=total // 10**6, unit="MB") as shown:
        yield lambda done: shown.update(done // 10**6 - shown.n)


def _patiently(action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """What `action` returns, after some tries if need be; those begin anew whenever `progress` grew."""
    failures, reached = 0, progress()
    while True:
        try:
            return action()
        except Exception as error:
            if progress() > reached:
                failures, reached = 0, progress()
            if failures == len(RETRY_DELAYS) or not _may_pass(error):
                raise
        print(f"no answer, or a broken one; trying again in {RETRY_DELAYS[failures]:g} s", file=sys.stderr)
        time.sleep(RETRY_DELAYS[failures])
        failures += 1


def _may_pass(error: Exception) -> bool:
    """Whether a failure is of the kind that goes away: dropped connections, timeouts, overload."""
    import httpx2

    if isinstance(error, httpx2.TimeoutException | httpx2.NetworkError | httpx2.RemoteProtocolError):
        return True
    status = _status(error)
    return status in (408, 416, 429) or status >= 500


def _is_out_of_reach(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled) or _may_pass(error)


def _status(error: Exception) -> int:
    """The HTTP status that an error is about; 0 if there is none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Keep other processes that want the same file waiting."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    file.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file):
        yield


def _lock_folder() -> Path:
    from huggingface_hub import cached_assets_path

    return cached_assets_path("odyssey", "locks")


# -- messages


@contextmanager
def _explained(asked: _Asked | str, folder: Path | None = None) -> Iterator[None]:
    """Turn what the libraries raise for a request into one OdysseyError; `asked` is a URL or of the hub."""
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # the hub's own are among these
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
        reason = cause if isinstance(cause, Exception) else error
        told = _explain_hub(asked, reason) if isinstance(asked, _Asked) else None
        raise OdysseyError(f"{asked}: {told or _explain(asked, reason, folder)}") from error


def _explain_hub(asked: _Asked, error: Exception) -> str | None:
    """What only the hub can have to say: ids, revisions, names and rights."""
    from huggingface_hub import errors

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.HFValidationError):
        return "not a repository's id; it looks like 'owner/name'"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"no such file{_nearest(asked)}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"no such revision; give a branch, a tag or a commit of {asked.page}/commits/main"
    if isinstance(error, errors.GatedRepoError) or _status(error) == 403:
        return f"access is restricted; accept the licence on {asked.page} and {log_in}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such {asked.kind} on the hub, or a private one; check the id, or {log_in} and see {asked.page}"
    if isinstance(error, json.JSONDecodeError):
        return _no_hub()
    if _status(error) == 401:
        return f"the hub does not accept the token; {log_in} anew"
    return None


def _no_hub() -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT} does not answer as the hub does; is HF_ENDPOINT right, or a proxy in the way?"


def _nearest(asked: _Asked) -> str:
    try:
        names = [file.path for file in list_files(asked.repo, asked.revision, asked.kind)]
    except OdysseyError:
        names = []
    close = get_close_matches(str(asked.path), names, n=3, cutoff=0.5)
    return f"; near it are {', '.join(close)}" if close else f"; see {asked.page}/tree/{asked.revision}"


def _explain(asked: _Asked | str, error: Exception, folder: Path | None) -> str:
    """What can happen with any host, and on this side."""
    import httpx2
    from huggingface_hub import constants, errors

    host = f"{urlsplit(asked).hostname}" if isinstance(asked, str) else f"the hub ({constants.ENDPOINT})"
    status = _status(error)
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        where = folder or constants.HF_HUB_CACHE
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
        return f"no space left in {folder or constants.HF_HUB_CACHE}; free some or set HF_HOME, and {_KEPT}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be stored: {error.filename or folder or constants.HF_HUB_CACHE}: {error.strerror}"
    return _first_line(error)


def _without_secrets(url: str) -> str:
    """A URL as it may be shown: without user, password and query, which can hold a signature."""
    split = urlsplit(url)
    return split._replace(netloc=split.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
