"""A user's own texts: a file, or a folder of files, of plain text, JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal, NoReturn

import orjson

from odyssey.complaints import printable
from odyssey.corpora import columns, lines
from odyssey.corpora.docstrings import Document
from odyssey.corpora.lines import decoded, decoded_lines, iter_lines, too_long
from odyssey.errors import OdysseyError

Kind = Literal["txt", "jsonl", "csv", "parquet"]

KNOWN = ".txt, .jsonl, .csv (also with .gz or .zst), .json.gz, .json.zst or .parquet"


def read_documents(path: Path, text: str | None = None) -> Iterator[Document]:
    r"""The documents of a file, or of all files below a folder, sorted by name.

    - A record of JSON lines, CSV or Parquet is a document; `text` names its key or column.
    - A .txt file is a document. Where it is all there is, its blocks between blank lines are
      the documents, or its lines if it is one block.

    Ids are `<path below the folder>:<number from 1>`; the number is the record's (Parquet,
    CSV without its header), the block's, or the line's. Documents without text are left
    out; their numbers are not given to others. Text is as it stands in the file, except
    that \r\n is \n in .txt files. Hidden files are skipped; files of other kinds, and linked
    folders, are named on standard error. Memory: a record (a whole file, for .txt) or a batch.

    Raises OdysseyError naming the file, and the line or record at fault: not there, damaged,
    a link out of the folder, not UTF-8, not JSON, longer than a record may be, no such key or
    column, no text in all of it.
    """
    if other := _entries(path)[1]:
        print(f"{path}: left out, because not {KNOWN}: {_some(other)}", file=sys.stderr)
    known = files(path)
    single = len(known) == 1 and file_kind(known[0]) == "txt"
    empty = True
    for file in known:
        name = _name(file, path)
        for number, value in _blocks(file) if single else iter_records(file, text):
            empty = False
            yield Document(f"{name}:{number}", value)
    if empty:
        raise OdysseyError(f"{path}: no text in it; give files with text")


def iter_records(path: Path, text: str | None) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of the records of one file; see `read_documents`, a .txt file being one record."""
    kind = file_kind(path)
    if kind is None:
        raise OdysseyError(f"{path}: not a kind of file that is read; give {KNOWN}")
    readers = {"jsonl": _json_records, "csv": _csv_records, "parquet": _parquet_records}
    records = _whole(path) if kind == "txt" else readers[kind](path, text)
    return ((number, value) for number, value in records if value and not _blank(value))


def files(path: Path) -> list[Path]:
    """The files that `read_documents` reads, sorted; raises OdysseyError if there is none."""
    known, other = _entries(path)
    if not known:
        instead = f", only {_some(other)}" if other else ""
        raise OdysseyError(f"{path}: no {KNOWN} file in it{instead}; give files of text")
    return known


def file_kind(path: Path) -> Kind | None:
    """How a file is read, by its name; JSON lines may also be called .json where they are compressed."""
    name = path.name.lower()
    compressed = path.suffix.lower() in lines.COMPRESSION
    suffix = Path(name.rpartition(".")[0] if compressed else name).suffix
    if suffix == ".json":
        return "jsonl" if compressed else None
    if suffix == ".parquet":
        return None if compressed else "parquet"
    kinds: dict[str, Kind] = {".txt": "txt", ".jsonl": "jsonl", ".csv": "csv"}
    return kinds.get(suffix)


def json_text(where: str, line: str, key: str | None) -> str | None:
    """The text of a JSON line; None for a blank line, a null or a blank text.

    Raises OdysseyError that begins with `where` if the line is not a JSON object, or has no
    such key, or something else than text there.
    """
    if _blank(line):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OdysseyError(
            f"{where}: not JSON ({error}); each line has to be a JSON object, as `jq -c .` writes them"
        ) from None
    if not isinstance(record, dict):
        raise OdysseyError(f"{where}: {_json_type(record)} instead of a JSON object; write each record as one")
    value = record[columns.named(where, key, list(record))]
    if value is not None and not isinstance(value, str):
        raise OdysseyError(f"{where}: '{key}' is {_json_type(value)}, not text; name a key that has text")
    return None if _blank(value) else value


def _entries(path: Path) -> tuple[list[Path], list[str]]:
    """Files to read, and names of what is left out; raises OdysseyError for a link to a file outside of the folder."""
    mode = _mode(path)
    if stat.S_ISREG(mode):
        if file_kind(path) is None:
            raise OdysseyError(f"{path}: not a kind of file that is read; give {KNOWN}")
        return [path], []
    if not stat.S_ISDIR(mode):
        state = "neither a file nor a folder" if mode else "no such file or folder"
        raise OdysseyError(f"{path}: {state}; give a file or a folder of {KNOWN} files")
    entries = set(_below(path))
    # A pipe would be waited for without end. A link to what is not there is a file that cannot be read.
    known = {entry for entry in entries if file_kind(entry) and (stat.S_ISREG(mode := _mode(entry)) or not mode)}
    root = os.path.realpath(path)
    for entry in sorted(known):
        # Not left out, as linked folders are: DVC may have put the link there, and part of the texts would be missing.
        if entry.is_symlink() and _mode(entry) and not Path(os.path.realpath(entry)).is_relative_to(root):
            raise OdysseyError(f"{entry}: a link to a file outside of {path}; copy the file there, or give its path")
    return sorted(known), [entry.relative_to(path).as_posix() for entry in sorted(entries - known)]


def _below(path: Path) -> Iterator[Path]:
    """What is below a folder, linked folders but no others included, without what is hidden."""
    for folder, folders, others in os.walk(path, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found = [Path(folder, name) for name in (*folders, *others) if not name.startswith(".")]
        yield from found[len(folders) :]
        yield from (entry for entry in found[: len(folders)] if entry.is_symlink())


def _refuse(error: OSError) -> NoReturn:
    raise OdysseyError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions")


def _mode(path: Path) -> int:
    """What `stat` says a path is; 0 if nothing is there, nor can be: the name may be too long."""
    try:
        return path.stat().st_mode
    except PermissionError as error:
        _refuse(error)
    except (OSError, ValueError):
        pass
    return 0


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(printable, names[:limit])) + more


def _name(file: Path, root: Path) -> str:
    name = file.name if file == root else file.relative_to(root).as_posix()
    if _has_lone_surrogate(name):  # how Python shows bytes of a name that are not UTF-8
        raise OdysseyError(f"{root!a}: the file name {name!a} is not UTF-8; rename the file")
    return name


def _unix_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in decoded_lines(path):
        yield number, line[:-2] + "\n" if line.endswith("\r\n") else line


def _whole(path: Path) -> Iterator[tuple[int, str]]:
    yield 1, _joined(path, _unix_lines(path), "cut it into several files")


def _joined(path: Path, numbered: Iterable[tuple[int, str]], remedy: str) -> str:
    """Numbered lines as one text."""
    # Not by a list of them: where they are short, it would take many times the memory.
    text, length = io.StringIO(), 0
    for number, line in numbered:
        length += text.write(line)
        if length > lines.RECORD:
            raise too_long(f"{path}, line {number}", remedy)
    return text.getvalue()


def _blocks(path: Path) -> Iterator[tuple[int, str]]:
    """Blocks of lines between blank ones, numbered from 1; the lines that are not blank, if there is one block."""
    if _has_blocks(path):
        remedy = "put blank lines between the documents"
        blocks = (_joined(path, run, remedy).removesuffix("\n") for blank, run in _runs(path) if not blank)
        return enumerate(blocks, 1)
    return ((number, line.removesuffix("\n")) for number, line in _unix_lines(path) if not _blank(line))


def _has_blocks(path: Path) -> bool:
    """Whether a blank line stands between two others; read only until one is found."""
    return len(list(islice((blank for blank, _ in _runs(path) if not blank), 2))) == 2


def _runs(path: Path) -> Iterator[tuple[bool, Iterator[tuple[int, str]]]]:
    """Numbered lines by whether they are blank."""
    return groupby(_unix_lines(path), key=lambda numbered: _blank(numbered[1]))


def _blank(text: str | None) -> bool:
    return not text or text.isspace()


def _json_records(path: Path, text: str | None) -> Iterator[tuple[int, str | None]]:
    offset = 0
    for number, line in iter_lines(path):
        value = _fast_json_text(line, text)
        if value is None:
            where = f"{path}, line {number}"
            value = json_text(where, decoded(path, number, offset, line), text)
            if value and _has_lone_surrogate(value):
                raise OdysseyError(
                    f"{where}: '{text}' has half of a surrogate pair, which is no character; take it out"
                )
        offset += len(line)
        yield number, value


def _fast_json_text(line: bytes, key: str | None) -> str | None:
    """The text of a JSON line without anything odd; None where `json_text` has to look, which says what is wrong."""
    try:
        value = orjson.loads(line)[key]
    except (ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, str) else None


def _csv_records(path: Path, text: str | None) -> Iterator[tuple[int, str | None]]:
    csv.field_size_limit(sys.maxsize)
    held = 0  # characters of the lines of one record

    def counted() -> Iterator[str]:
        nonlocal held
        for at, line in decoded_lines(path):
            held += len(line)
            if held > lines.RECORD:
                raise too_long(f"{path}, line {at}", "close its quotes, or cut it into several records")
            yield line

    # Strict: else a quote that is never closed makes one field of the file's rest.
    reader = csv.reader(counted(), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise OdysseyError(f"{path}: empty; its first line has to name the columns")
        column = header.index(columns.named(str(path), text, header))
        number = 0
        held = 0
        for record in reader:
            held = 0
            if not record:  # a blank line
                continue
            if len(record) != len(header):
                raise OdysseyError(
                    f"{path}, line {reader.line_num}: {len(record)} fields, but {len(header)} columns in the first "
                    "line; put quotes around fields with commas, quotes or line ends"
                )
            number += 1
            yield number, record[column]
    except csv.Error as error:
        raise OdysseyError(
            f"{path}, line {reader.line_num}: not CSV ({error}); correct its quotes or its line ends"
        ) from None


def _parquet_records(path: Path, text: str | None) -> Iterator[tuple[int, str | None]]:
    number = 0
    for batch in columns.text_batches(path, text):
        for value in columns.raw_texts(batch):
            number += 1
            try:
                decoded = None if value is None else value.decode("utf-8")
            except UnicodeDecodeError:
                raise OdysseyError(f"{path}, row {number}: '{text}' is not UTF-8; write the column as UTF-8") from None
            yield number, decoded


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
