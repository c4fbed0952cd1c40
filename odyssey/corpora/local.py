"""A user's own texts: a file, or a folder of files, of plain text, JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count, groupby, islice
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import orjson

from odyssey.complaints import printable
from odyssey.corpora.docstrings import Document
from odyssey.errors import OdysseyError

Kind = Literal["txt", "jsonl", "csv", "parquet"]

KNOWN = ".txt, .jsonl, .csv (also with .gz or .zst), .json.gz, .json.zst or .parquet"

_RECORD = 256 << 20
"""Bytes that a line or a document may have: a longer one is none, and a small file may unfold to it."""
_BUFFER = 1 << 20
_AHEAD = 8 << 20
"""Bytes that are decompressed at a time, ahead of the reader: many, as each block waits for Python's lock once."""
_BATCH_ROWS = 128
_FEW_ROWS = 16
"""Rows of Parquet that are read at a time; with fewer than the latter it takes longer."""
_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_LINE_END = re.compile(b"\n")
_UTF8 = "save it as UTF-8, for example with `iconv -f <its encoding> -t UTF-8`"


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
    compressed = path.suffix.lower() in _COMPRESSION
    suffix = Path(name.rpartition(".")[0] if compressed else name).suffix
    if suffix == ".json":
        return "jsonl" if compressed else None
    if suffix == ".parquet":
        return None if compressed else "parquet"
    kinds: dict[str, Kind] = {".txt": "txt", ".jsonl": "jsonl", ".csv": "csv"}
    return kinds.get(suffix)


def iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Number (from 1) and bytes, end included, of the lines of a file that may be compressed (.gz, .zst).

    A line ends at \n. Several compressed streams one after the other are read as one.
    Raises OdysseyError naming the file if it cannot be read or is damaged or cut off, or has a
    line that is longer than a record may be.
    """
    numbers = count(1)
    with _open(path) as file:
        try:
            yield from zip(numbers, file, strict=False)
        except _LongLineError:  # the last number went to that line
            where = f"{path}, line {next(numbers) - 1}"
            raise _too_long(where, "write each document on a line of its own") from None


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
    value = record[_named(where, key, list(record))]
    if value is not None and not isinstance(value, str):
        raise OdysseyError(f"{where}: '{key}' is {_json_type(value)}, not text; name a key that has text")
    return None if _blank(value) else value


def text_batches(path: Path, text: str | None) -> Iterator[Any]:
    """The text column of a Parquet file as Arrow arrays of large_string; memory: a batch and compressed pages.

    Raises OdysseyError as `read_documents` does, but for what is not UTF-8.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    # Without pre_buffer=False, the whole file's column would be read ahead and kept.
    opened = partial(ParquetFile, path, buffer_size=_BUFFER, pre_buffer=False)
    with _readable(path), opened() as file:
        schema = file.schema_arrow
        name = _named(str(path), text, schema.names)
        kind = schema.field(name).type
        if pyarrow.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_text(kind) for is_text in _text_types()):
            raise OdysseyError(f"{path}: column '{name}' is {kind}, not text; name a column that has text")
        start = 0
        with opened(metadata=file.metadata, read_dictionary=[name]) as dictionaries:
            for group in range(file.num_row_groups):
                rows = _rows_at_a_time(dictionaries, group, name)
                for batch in file.iter_batches(rows, row_groups=[group], columns=[name], use_threads=False):
                    # By name: beside a column `a.b`, one `a` of parts `b` comes, too.
                    # Of one type: not all can be filtered.
                    array = batch.column(name).cast(pyarrow.large_string())
                    if array.nbytes > _RECORD:
                        _check_lengths(path, array, start)
                    start += len(array)
                    yield array


def _rows_at_a_time(dictionaries: Any, group: int, name: str) -> int:
    """How many rows of a group can be read at once: the same long text may be that of each, and is stored once.

    `dictionaries` is the file read so that such texts are not repeated.
    """
    # Of the group as a whole: asked for what it says of a column, Arrow ends the process where that is damaged.
    about = dictionaries.metadata.row_group(group)
    size = about.total_byte_size
    if size * _FEW_ROWS <= _RECORD:  # no text is longer than all that is stored
        return _within(size)
    return min(_within(size // max(about.num_rows, 1)), _within(_longest(dictionaries, group, name, size)))


def _within(size: int) -> int:
    """How many texts of that size are together no longer than a record may be; one at least, a batch at most."""
    return max(1, min(_BATCH_ROWS, _RECORD // max(size, 1)))


def _longest(dictionaries: Any, group: int, name: str, most: int) -> int:
    """Bytes of the longest text in a group's dictionary; `most` if the column cannot be read as one."""
    import pyarrow
    from pyarrow import compute

    try:
        first = next(dictionaries.iter_batches(1, row_groups=[group], columns=[name], use_threads=False), None)
    except (pyarrow.ArrowException, OSError):  # stored by what texts begin with; or damaged, which its reader says
        return most
    column = first and first.column(name)
    if not column or not pyarrow.types.is_dictionary(column.type):
        return most
    return compute.max(compute.binary_length(column.dictionary)).as_py() or 0


def _check_lengths(path: Path, array: Any, start: int) -> None:
    """Raise OdysseyError naming the row, counted from `start`, of a text that is longer than a record may be."""
    from pyarrow import compute

    for number, length in enumerate(compute.binary_length(array).to_pylist(), start + 1):
        if (length or 0) > _RECORD:
            raise _too_long(f"{path}, row {number}", "cut it into several rows")


def raw_texts(array: Any) -> list[bytes | None]:
    """The values of an array of `text_batches` as bytes: Arrow does not check that its strings are UTF-8."""
    import pyarrow

    values: list[bytes | None] = array.cast(pyarrow.large_binary()).to_pylist()
    return values


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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file; correct the path") from None
    except IsADirectoryError:
        raise OdysseyError(f"{path}: a folder; give a file") from None
    except PermissionError:
        raise OdysseyError(f"{path}: may not be read; change its permissions") from None
    except (ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise OdysseyError(f"{path}: damaged or cut off ({reason}); delete it and copy or fetch it again") from None


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    import pyarrow

    compression = _COMPRESSION.get(path.suffix.lower())
    with _readable(path):
        if path.is_dir():
            raise IsADirectoryError
        if compression is None:
            with path.open("rb", buffering=0) as raw, io.BufferedReader(_Bounded(raw), _BUFFER) as file:
                yield file
            return
        with (
            pyarrow.input_stream(str(path), compression, _BUFFER) as compressed,
            ThreadPoolExecutor(1) as other,
            io.BufferedReader(_Bounded(_Ahead(compressed, other)), _BUFFER) as file,
        ):
            yield file


class _LongLineError(Exception):
    """A line is longer than a record may be."""


class _Bounded(io.RawIOBase):
    """A stream whose lines end: a block is looked at as a whole, as its lines may be many."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._held = 0  # bytes of blocks without an end of a line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size: int = self._file.readinto(buffer)
        self._held = 0 if _LINE_END.search(buffer, 0, size) else self._held + size
        if self._held > _RECORD:
            raise _LongLineError
        return size


class _Ahead(io.RawIOBase):
    """A stream whose next two blocks are read by another thread in the meantime."""

    def __init__(self, file: Any, other: ThreadPoolExecutor) -> None:
        self._file, self._other = file, other
        self._blocks = deque([self._submit(), self._submit()])
        self._block = memoryview(b"")

    def _submit(self) -> Future[bytes]:
        return self._other.submit(self._file.read, _AHEAD)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._block:
            self._block = memoryview(self._blocks.popleft().result())
            self._blocks.append(self._submit())
        part = self._block[: len(buffer)]
        buffer[: len(part)] = part
        self._block = self._block[len(part) :]
        return len(part)


def _decoded(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, ends included, of a UTF-8 file without its byte order mark."""
    offset = 0
    for number, line in iter_lines(path):
        yield number, _decode(path, number, offset, line)
        offset += len(line)


def _decode(path: Path, number: int, offset: int, line: bytes) -> str:
    try:
        decoded = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OdysseyError(
            f"{path}: not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}, "
            f"line {number}; {_UTF8}"
        ) from None
    return decoded.removeprefix("\ufeff") if number == 1 else decoded


def _too_long(where: str, remedy: str) -> OdysseyError:
    return OdysseyError(f"{where}: a document of more than {_RECORD >> 20} MiB; {remedy}")


def _unix_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in _decoded(path):
        yield number, line[:-2] + "\n" if line.endswith("\r\n") else line


def _whole(path: Path) -> Iterator[tuple[int, str]]:
    yield 1, _joined(path, _unix_lines(path), "cut it into several files")


def _joined(path: Path, lines: Iterable[tuple[int, str]], remedy: str) -> str:
    """Numbered lines as one text."""
    # Not by a list of them: where they are short, it would take many times the memory.
    text, length = io.StringIO(), 0
    for number, line in lines:
        length += text.write(line)
        if length > _RECORD:
            raise _too_long(f"{path}, line {number}", remedy)
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
            value = json_text(where, _decode(path, number, offset, line), text)
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

    def lines() -> Iterator[str]:
        nonlocal held
        for at, line in _decoded(path):
            held += len(line)
            if held > _RECORD:
                raise _too_long(f"{path}, line {at}", "close its quotes, or cut it into several records")
            yield line

    # Strict: else a quote that is never closed makes one field of the file's rest.
    reader = csv.reader(lines(), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise OdysseyError(f"{path}: empty; its first line has to name the columns")
        column = header.index(_named(str(path), text, header))
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
    for batch in text_batches(path, text):
        for value in raw_texts(batch):
            number += 1
            try:
                decoded = None if value is None else value.decode("utf-8")
            except UnicodeDecodeError:
                raise OdysseyError(f"{path}, row {number}: '{text}' is not UTF-8; write the column as UTF-8") from None
            yield number, decoded


def _named(where: str, name: str | None, there: list[str]) -> str:
    """`name`, if it is among the keys or columns that are there exactly once."""
    listed = ", ".join(f"'{one}'" for one in there) or "none"
    place = "`text` of this corpus in the study"
    if name is None:
        raise OdysseyError(f"{where}: which column or key has the text? There are {listed}; name one as {place}")
    if there.count(name) != 1:
        state = "no" if name not in there else "more than one"
        raise OdysseyError(f"{where}: {state} '{name}'; there are {listed}; correct {place}")
    return name


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _text_types() -> list[Any]:
    from pyarrow import types

    return [types.is_string, types.is_large_string, types.is_string_view]
