"""Lines of a file that may be compressed, decoded or not: none is without end, however small the file is."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from odyssey.errors import OdysseyError

RECORD = 256 << 20
"""Bytes that a line or a document may have: a longer one is none, and a small file may unfold to it."""
BUFFER = 1 << 20
COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_AHEAD = 8 << 20
"""Bytes that are decompressed at a time, ahead of the reader: many, as each block waits for Python's lock once."""
_LINE_END = re.compile(b"\n")
_UTF8 = "save it as UTF-8, for example with `iconv -f <its encoding> -t UTF-8`"


def iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Number (from 1) and bytes, end included, of the lines of a file that may be compressed (.gz, .zst).

    A line ends at \n. Several compressed streams one after the other are read as one.
    Raises OdysseyError naming the file if it cannot be read or is damaged or cut off, or has a
    line that is longer than a record may be.
    """
    numbers = count(1)
    with _opened(path) as file:
        try:
            yield from zip(numbers, file, strict=False)
        except _LongLineError:  # the last number went to that line
            where = f"{path}, line {next(numbers) - 1}"
            raise too_long(where, "write each document on a line of its own") from None


def decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, ends included, of a UTF-8 file without its byte order mark."""
    offset = 0
    for number, line in iter_lines(path):
        yield number, decoded(path, number, offset, line)
        offset += len(line)


def decoded(path: Path, number: int, offset: int, line: bytes) -> str:
    """Text of a line that begins at `offset` of its file; raises OdysseyError naming the byte that is not UTF-8."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OdysseyError(
            f"{path}: not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}, "
            f"line {number}; {_UTF8}"
        ) from None
    return text.removeprefix("\ufeff") if number == 1 else text


def too_long(where: str, remedy: str) -> OdysseyError:
    """What to raise of a record that is longer than one may be."""
    return OdysseyError(f"{where}: a document of more than {RECORD >> 20} MiB; {remedy}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Around reading a file: raises OdysseyError naming it if it cannot be read or is damaged."""
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
def _opened(path: Path) -> Iterator[IO[bytes]]:
    import pyarrow

    compression = COMPRESSION.get(path.suffix.lower())
    with readable(path):
        if path.is_dir():
            raise IsADirectoryError
        if compression is None:
            with path.open("rb", buffering=0) as raw, io.BufferedReader(_Bounded(raw), BUFFER) as file:
                yield file
            return
        with (
            pyarrow.input_stream(str(path), compression, BUFFER) as compressed,
            ThreadPoolExecutor(1) as other,
            io.BufferedReader(_Bounded(_Ahead(compressed, other)), BUFFER) as file,
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
        if self._held > RECORD:
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
