"""Folders that are whole or absent, and know what they were made from.

A stage's unit of work is a folder with a `manifest.json`: the inputs' hashes, the
settings, the code and versions that made it, and the sha256 of each file in it. It is
written under a temporary name and renamed, so a killed process leaves nothing that
looks finished; it is kept for as long as its manifest holds.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from odyssey.errors import OdysseyError
from odyssey.progress import bar

MANIFEST = "manifest.json"

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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OdysseyError(f"{path}: not readable as JSON ({error}); delete it and run its stage again") from None


@contextmanager
def new_folder(folder: Path, made_from: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder; on success give it a manifest and move it to `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        write_json(temporary / MANIFEST, {"made_from": made_from, "files": _hashes(temporary)})
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_current(folder: Path, made_from: dict[str, Any]) -> bool:
    """Whether `folder` is whole and was made from exactly this."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        manifest = read_json(folder / MANIFEST)
    except OdysseyError:
        return False
    # Through JSON, as the stored one went: tuples and lists are then the same.
    wanted = json.loads(json.dumps(made_from))
    return bool(manifest.get("made_from") == wanted and manifest.get("files") == _hashes(folder))


def unfinished(
    names: Sequence[str],
    place: Callable[[str], Path],
    made_from: Callable[[str], dict[str, Any]],
    label: str,
    unit: str = "domains",
) -> list[Cell]:
    """The cells that are not there or no longer hold; says how many are kept."""
    cells = [(name, place(name), made_from(name)) for name in names]
    waiting = [cell for cell in cells if not is_current(*cell[1:])]
    print(f"{label}: {len(waiting)} of {len(names)} {unit} to do, {len(names) - len(waiting)} kept")
    return waiting


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


def check_folder(folder: Path, stage: str) -> str:
    """Return the manifest's digest after checking every file against it.

    Raises OdysseyError naming `stage`, the one to run, if the folder is absent, and the
    file at fault if one is missing or its bytes have changed.
    """
    if not (folder / MANIFEST).is_file():
        raise OdysseyError(f"{folder}: not there yet; run `dvc repro {stage}` first")
    manifest = read_json(folder / MANIFEST)
    found = _hashes(folder)
    for name, expected in manifest["files"].items():
        if found.get(name) != expected:
            state = "missing" if name not in found else "damaged (its sha256 differs from the manifest's)"
            raise OdysseyError(f"{folder / name}: {state}; delete {folder} and run `dvc repro {stage}`")
    return sha256(folder / MANIFEST)


def check_file(path: Path, stage: str) -> str:
    """Return the sha256 of one file of a cell after comparing it with the manifest beside it.

    What is made from a file's bytes need not be made again when the cell was made again and
    they are the same. Raises OdysseyError as `check_folder` does.
    """
    if not (path.parent / MANIFEST).is_file() or not path.is_file():
        raise OdysseyError(f"{path}: not there yet; run `dvc repro {stage}` first")
    found = sha256(path)
    if read_json(path.parent / MANIFEST)["files"].get(path.name) != found:
        raise OdysseyError(
            f"{path}: damaged (its sha256 differs from the manifest's); "
            f"delete {path.parent} and run `dvc repro {stage}`"
        )
    return found


def prune(parent: Path, keep: set[str]) -> None:
    """Delete the folders of `parent` that are not in `keep`, left-overs of killed runs included."""
    for folder in parent.iterdir() if parent.is_dir() else ():
        if folder.is_dir() and folder.name not in keep:
            shutil.rmtree(folder)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
