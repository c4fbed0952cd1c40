"""Rows of a user's own text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from odyssey.errors import OdysseyError


def read_rows(path: Path) -> list[str]:
    """All rows of a UTF-8 text file; see `iter_rows`."""
    return list(iter_rows(path))


def iter_rows(path: Path) -> Iterator[str]:
    r"""Rows of a UTF-8 text file, one a line, as they stand in it. Memory: one row.

    A line ends at \n or \r\n and nowhere else: a lone \r, U+2028, form feeds and the like are
    characters of a row. A byte order mark at the start and lines of nothing but white space are
    dropped; a row's own white space is kept.

    Raises OdysseyError naming the file, and the line and byte at fault, if it is missing,
    not a file, not UTF-8, or without a row.
    """
    offset, empty = 0, True
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                own = line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")
                row = _decode(path, number, offset, own)
                offset += len(line)
                if row.strip():
                    empty = False
                    yield row
    except (FileNotFoundError, ValueError):  # no file's name has a NUL in it
        raise OdysseyError(f"{path}: no such file; give a UTF-8 text file with one row per line") from None
    except IsADirectoryError:
        raise OdysseyError(f"{path}: a folder; give a UTF-8 text file with one row per line") from None
    except OSError as error:
        raise OdysseyError(f"{path}: cannot be read ({error.strerror}); give a readable UTF-8 text file") from None
    if empty:
        raise OdysseyError(f"{path}: no rows: it is empty or all blank lines; give text with one row per line")


def _decode(path: Path, number: int, offset: int, line: bytes) -> str:
    try:
        row = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OdysseyError(
            f"{path}: not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}, line {number}; "
            "save it as UTF-8, for example with `iconv -f <its encoding> -t UTF-8`"
        ) from None
    return row.removeprefix("\ufeff") if number == 1 else row
