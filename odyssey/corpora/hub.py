"""Files from the Hugging Face hub: fetched once, checked, resumed.

They lie in huggingface_hub's own cache, under its layout and locks, so that every other library
finds them there. What huggingface_hub 2.4 does not do is done here: it drops a file's first
gigabytes when the process ends before the last, and it does not compare the bytes with the hash
that they are known by. So a file is received beside the cache's blobs, under its hash's name,
where the next process goes on with it; it becomes a blob when its hash is right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from odyssey.corpora.download import locked, receive
from odyssey.corpora.hub_errors import Asked, explained, no_hub
from odyssey.corpora.retries import may_pass, patiently
from odyssey.errors import OdysseyError
from odyssey.store import read_json, write_json, write_text
from odyssey.store import sha256 as file_sha256

Kind = Literal["model", "dataset"]

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is wanted of a model's repository, which may also hold pickles, ONNX, Flax weights, ..."""

# Loading these runs code that is in them.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_COMMIT = re.compile("[0-9a-f]{40}")
_SHORT_COMMIT = re.compile("[0-9a-f]{7,39}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, as the hub lists it."""

    path: str
    size: int
    sha256: str | None
    """Of an LFS file (all large ones are); None for others."""


def resolve(repo: str, revision: str, kind: Kind) -> str:
    """The commit (40 hexadecimal digits) that a branch, tag or short commit stands for.

    Of a full commit nothing is asked. A short one is asked for once; where a branch or tag points
    to is asked each time, and read from the cache if the hub cannot be reached.

    Raises OdysseyError naming repository, revision and remedy.
    """
    with explained(Asked(repo, revision, kind)):
        return _resolve(repo, revision, kind)


def list_files(repo: str, revision: str, kind: Kind) -> list[HubFile]:
    """All files of a repository, in the order of their paths; a commit's list is asked for once.

    Raises OdysseyError naming repository, revision and remedy.
    """
    with explained(Asked(repo, revision, kind)):
        return _list_files(repo, _resolve(repo, revision, kind), kind)


def fetch(repo: str, path: str, revision: str, kind: Kind) -> Path:
    """A file of the hub in the local cache, downloaded if it is not there yet.

    A download goes on where an earlier one broke off, and is checked by size and hash. What is in
    the cache is used as it is, without asking the hub if `revision` is a commit.

    Raises OdysseyError naming repository, file, revision and remedy.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    asked = Asked(repo, revision, kind, path)
    with explained(asked):
        commit = _resolve(repo, revision, kind)
        cached = try_to_load_from_cache(repo, path, revision=commit, repo_type=kind)
        if isinstance(cached, str):
            return Path(cached)
        try:
            _download_blob(asked, commit)
            # Nothing is left to download: this enters the file into the cache, under its name.
            return Path(hf_hub_download(repo, path, revision=commit, repo_type=kind))
        except RemoteEntryNotFoundError as error:
            raise OdysseyError(f"{asked}: no such file{_nearest(asked)}") from error


def fetch_all(repo: str, patterns: Sequence[str], revision: str, kind: Kind) -> Path:
    """The folder with the files of a repository that match a pattern (`MODEL_FILES` for a model).

    `*` also stands for `/`. Weights in pickled form are left out whatever the patterns say.

    Raises OdysseyError naming repository, file, revision and remedy, also if nothing matches.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    asked = Asked(repo, revision, kind)
    with explained(asked):
        commit = _resolve(repo, revision, kind)
        try:
            files = _list_files(repo, commit, kind)
        except OfflineModeIsEnabled:
            return _cached_snapshot(repo, patterns, commit, kind)
    wanted = [file.path for file in files if _is_wanted(file.path, patterns)]
    if not wanted:
        raise OdysseyError(f"{asked}: holds no file like {', '.join(patterns)}; see {asked.files_page}")
    for path in wanted:
        fetched = fetch(repo, path, commit, kind)
    return fetched.parents[path.count("/")]


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
        commit = str(_ask(repo, revision, kind).sha)
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


def _ask(repo: str, revision: str, kind: Kind, files: bool = False) -> Any:
    """What the hub tells of a repository at a revision, if wanted with its files' sizes and hashes."""
    from huggingface_hub import HfApi, constants

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    return patiently(
        lambda: HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=timeout, files_metadata=files)
    )


def _is_out_of_reach(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled) or may_pass(error)


def _expand(repo: str, revision: str, kind: Kind) -> str | None:
    """The one commit of the main branch that starts like this: the hub need not know short ones."""
    from huggingface_hub import HfApi

    if not _SHORT_COMMIT.fullmatch(revision):
        return None
    commits = [commit.commit_id for commit in HfApi().list_repo_commits(repo, repo_type=kind)]
    found = [commit for commit in commits if commit.startswith(revision)]
    return found[0] if len(found) == 1 else None


def _list_files(repo: str, commit: str, kind: Kind) -> list[HubFile]:
    from huggingface_hub import cached_assets_path

    # A commit's files never change, so the list is kept: with it, a later run needs no network.
    kept = cached_assets_path("odyssey", f"{kind}s--{repo}", "files") / f"{commit}.json"
    if kept.is_file():
        return [HubFile(**entry) for entry in read_json(kept)]
    listed = _ask(repo, commit, kind, files=True).siblings or ()
    found = (HubFile(one.rfilename, one.size or 0, one.lfs and one.lfs.sha256) for one in listed)
    files = sorted(found, key=lambda file: file.path)
    with suppress(OSError):
        write_json(kept, [asdict(file) for file in files])
    return files


def _cached_snapshot(repo: str, patterns: Sequence[str], commit: str, kind: Kind) -> Path:
    """What another library left of a commit in the cache.

    Raises LocalEntryNotFoundError if there is nothing, or if it is known to lack files.
    """
    from huggingface_hub import snapshot_download

    allowed = list(patterns)
    return Path(snapshot_download(repo, revision=commit, repo_type=kind, allow_patterns=allowed, local_files_only=True))


def _nearest(asked: Asked) -> str:
    try:
        names = [file.path for file in list_files(asked.repo, asked.revision, asked.kind)]
    except OdysseyError:
        names = []
    close = get_close_matches(str(asked.path), names, n=3, cutoff=0.5)
    return f"; near it are {', '.join(close)}" if close else f"; see {asked.files_page}"


def _is_wanted(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns) and not path.endswith(_PICKLES)


def _storage(repo: str, kind: Kind) -> Path:
    """The repository's folder in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)


def _download_blob(asked: Asked, commit: str) -> None:
    """Bring a file's content into the cache, as the blob that its hash names."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(asked.repo, str(asked.path), revision=commit, repo_type=asked.kind)
    found = patiently(lambda: get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT))
    etag, size = found.etag, found.size
    if not etag or size is None or found.commit_hash is None:
        raise OdysseyError(f"{asked}: {no_hub()}")
    storage = _storage(asked.repo, asked.kind)
    blob = storage / "blobs" / etag
    part = blob.with_name(f"{etag}.incomplete")
    with locked(storage.parent / ".locks" / storage.name / f"{etag}.lock"):
        blob.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            if blob.exists():
                return
            if not part.is_file() or part.stat().st_size < size:
                receive(url, part, build_hf_headers())
            fault = _find_fault(part, size, etag)
            if fault is None:
                part.replace(blob)
                return
            part.unlink()
            if last:
                raise OdysseyError(f"{asked}: damaged on its way, twice: {fault}; run again, or ask at {asked.page}")


def _find_fault(file: Path, size: int, etag: str) -> str | None:
    """How a file differs from what the hub has: its etag is the sha256 of an LFS file, else git's sha1."""
    if file.stat().st_size != size:
        return f"it has {file.stat().st_size:,} bytes instead of {size:,}"
    if len(etag) == 64:
        found = file_sha256(file)
    elif len(etag) == 40:
        found = hashlib.sha1(b"blob %d\0" % size + file.read_bytes()).hexdigest()
    else:
        return None
    return None if found == etag else f"its hash is {found} instead of {etag}"
