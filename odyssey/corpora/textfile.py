"""Rows of a user's own text file."""

from __future__ import annotations

import re
from pathlib import Path

from odyssey.errors import OdysseyError

# Only these end a line. `str.splitlines` also cuts at a lone \r, U+2028, form feeds and the
# like, which are characters of a row.
_LINE_END = re.compile(r"\r?\n")


def read_rows(path: Path) -> list[str]:
    r"""Rows of a UTF-8 text file, one a line, as they stand in it.

    A line ends at \n or \r\n and nowhere else. A byte order mark at the start and lines
    of nothing but white space are dropped; a row's own white space is kept.

    Raises OdysseyError naming the file, and the line and byte at fault, if it is missing,
    not a file, not UTF-8, or without a row.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file; give a UTF-8 text file with one row per line") from None
    except IsADirectoryError:
        raise OdysseyError(f"{path}: a folder; give a UTF-8 text file with one row per line") from None
    except OSError as error:
        raise OdysseyError(f"{path}: cannot be read ({error.strerror}); give a readable UTF-8 text file") from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(raw[: error.start].decode("utf-8"))) + 1
        raise OdysseyError(
            f"{path}: not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}, line {line}; "
            "save it as UTF-8, for example with `iconv -f <its encoding> -t UTF-8`"
        ) from None
    rows = [row for row in _LINE_END.split(text.removeprefix("\ufeff")) if row.strip()]
    if not rows:
        raise OdysseyError(f"{path}: no rows: it is empty or all blank lines; give text with one row per line")
    return rows
