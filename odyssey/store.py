"""Folders that are whole or absent, and know what they were made from.

A stage's unit of work is a folder with a `manifest.json`: the inputs' hashes, the
settings, the code and versions that made it, and the sha256 of each file in it and of itself. It is
written under a temporary name and renamed, so a killed process leaves nothing that
looks finished; it is kept for as long as its manifest holds.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from odyssey import processes
from odyssey.errors import OdysseyError
from odyssey.progress import bar

MANIFEST = "manifest.json"
_OWN = "sha256"
"""In a manifest, the digest of all else in it."""

Cell = tuple[str, Path, dict[str, Any]]
"""(name, folder, made_from)"""


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hexadecimal sha256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table, for use inside `new_folder`; floats keep every digit."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_json(path: Path) -> Any:
    """Read a JSON file; raises OdysseyError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file") from None
    except OSError as error:
        raise OdysseyError(f"{path}: cannot be read ({error.strerror}); mend that, or run its stage again") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of thousands of digits, too deep
        raise OdysseyError(f"{path}: not readable as JSON ({error}); delete it and run its stage again") from None


@contextmanager
def new_folder(
    folder: Path, made_from: dict[str, Any], how: dict[str, Any] | None = None, *, by_all: bool = False
) -> Iterator[Path]:
    """Yield a temporary folder; on success give it a manifest and move it to `folder`.

    `how` is recorded beside `made_from`: what it was made with that makes no difference but in
    rounding, such as batch sizes, and so is no reason to make it again. Of several processes the first
    one's counts, and what others write is thrown away, unless it is written `by_all`: then each has its
    own files in it.
    """
    if by_all or processes.is_first():
        with _written(folder, made_from, how, by_all) as temporary:
            yield temporary
    else:
        with tempfile.TemporaryDirectory() as thrown_away:
            yield Path(thrown_away)
    processes.meet()


@contextmanager
def _written(folder: Path, made_from: dict[str, Any], how: dict[str, Any] | None, by_all: bool) -> Iterator[Path]:
    process = processes.agreed(os.getpid) if by_all else os.getpid()
    temporary = folder.with_name(f".{folder.name}.{process}.tmp")
    if processes.is_first():
        folder.parent.mkdir(parents=True, exist_ok=True)
        own = re.compile(re.escape(f".{folder.name}.") + r"\d+\.tmp")
        for left in list(folder.parent.iterdir()):  # of a process that was killed while it wrote
            if own.fullmatch(left.name) and not _is_being_written(left):
                shutil.rmtree(left)
        temporary.mkdir()
    if by_all:
        processes.meet()
    try:
        yield temporary
        if by_all:
            processes.meet()
        if not processes.is_first():
            return
        manifest = {"made_from": made_from, "how": how or {}, "files": _hashes(temporary)}
        write_json(temporary / MANIFEST, {**manifest, _OWN: digest(manifest)})
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        if processes.is_first():
            shutil.rmtree(temporary, ignore_errors=True)


def is_current(folder: Path, made_from: dict[str, Any]) -> bool:
    """Whether `folder` is whole and was made from exactly this."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        manifest = read_manifest(folder)
    except OdysseyError:
        return False
    # Through JSON, as the stored one went: tuples and lists are then the same.
    wanted = json.loads(json.dumps(made_from))
    return bool(manifest["made_from"] == wanted and manifest["files"] == _hashes(folder))


def read_manifest(folder: Path) -> dict[str, Any]:
    """A folder's manifest: `made_from`, `how` and `files`; raises OdysseyError if it is missing or damaged."""
    path = folder / MANIFEST
    manifest = read_json(path)
    own = manifest.pop(_OWN, None) if isinstance(manifest, dict) else None
    if own is None or own != digest(manifest) or not {"made_from", "files"} <= manifest.keys():
        raise OdysseyError(f"{path}: damaged; delete {folder} and run its stage again")
    return dict(manifest)


def unfinished(
    names: Sequence[str],
    place: Callable[[str], Path],
    made_from: Callable[[str], dict[str, Any]],
    label: str,
    unit: str = "domains",
) -> list[Cell]:
    """The cells that are not there or no longer hold; says how many are kept."""

    def look() -> list[tuple[str, dict[str, Any]]]:
        origins = ((name, made_from(name)) for name in bar(names, f"{label}, what is there", unit=unit, brief=True))
        return [(name, origin) for name, origin in origins if not is_current(place(name), origin)]

    waiting = processes.agreed(look)  # large checkpoints are hashed
    print(f"{label}: {len(waiting)} of {len(names)} {unit} to do, {len(names) - len(waiting)} kept")
    return [(name, place(name), origin) for name, origin in waiting]


def missing(
    names: Sequence[str],
    place: Callable[[str], Path],
    made_from: Callable[[str], dict[str, Any]],
    label: str,
    unit: str = "domains",
) -> Iterator[Cell]:
    """Yield the unfinished cells one by one, with a bar over them."""
    waiting = unfinished(names, place, made_from, label, unit)
    yield from bar(waiting, label, unit=unit) if len(waiting) > 1 else waiting


def check_folder(folder: Path, stage: str, only: Collection[str] | None = None) -> str:
    """Return the digest of a folder's content after checking every file against its manifest, or `only` those named.

    It depends on the files' bytes and not on how they came to be: what is made from them need
    not be made again when they were and are the same.

    Raises OdysseyError naming `stage`, the one to run, if the folder is absent, and the
    file at fault if one is missing or its bytes have changed.
    """
    content = content_digest(folder)
    if content is None:
        raise OdysseyError(f"{folder}: not there yet; run `dvc repro {stage}` first")
    for name, expected in read_manifest(folder)["files"].items():
        if only is not None and name not in only:
            continue
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            state = "damaged (its sha256 differs from the manifest's)" if path.is_file() else "missing"
            raise OdysseyError(f"{path}: {state}; delete {folder} and run `dvc repro {stage}`")
    return content


def content_digest(folder: Path) -> str | None:
    """What `check_folder` returns, from the manifest alone; None for a folder that is absent or has none."""
    return digest(read_manifest(folder)["files"]) if (folder / MANIFEST).is_file() else None


def check_file(path: Path, stage: str) -> str:
    """Return the sha256 of one file of a folder after comparing it with the manifest beside it.

    Raises OdysseyError as `check_folder` does.
    """
    check_folder(path.parent, stage, only=[path.name])
    return str(read_manifest(path.parent)["files"][path.name])


def prune(parent: Path, keep: Collection[str]) -> None:
    """Delete the folders of `parent` that are not in `keep`, left-overs of killed runs included, and say which.

    What a process that still runs on this machine is writing is left alone.
    """
    if not processes.is_first():
        return
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.is_dir() and folder.name not in keep and not _is_being_written(folder):
            print(f"deleted {folder}: not of this study, or left by a run that was killed")
            shutil.rmtree(folder)


def _is_being_written(folder: Path) -> bool:
    process = re.fullmatch(r"\..+\.(\d+)\.tmp", folder.name)
    if process is None:
        return False
    try:
        os.kill(int(process[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, so it runs
        return True
    return int(process[1]) != os.getpid()


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
