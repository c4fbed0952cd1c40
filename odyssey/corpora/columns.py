"""Texts of a column: which one is meant, and those of a Parquet file, none of which takes all memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from odyssey.corpora import lines
from odyssey.errors import OdysseyError

_BATCH_ROWS = 128
_FEW_ROWS = 16
"""Rows of Parquet that are read at a time; with fewer than the latter it takes longer."""


def text_batches(path: Path, text: str | None) -> Iterator[Any]:
    """The text column of a Parquet file as Arrow arrays of large_string; memory: a batch and compressed pages.

    Raises OdysseyError as `read_documents` does, but for what is not UTF-8.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    # Without pre_buffer=False, the whole file's column would be read ahead and kept.
    opened = partial(ParquetFile, path, buffer_size=lines.BUFFER, pre_buffer=False)
    with lines.readable(path), opened() as file:
        schema = file.schema_arrow
        name = named(str(path), text, schema.names)
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
                    if array.nbytes > lines.RECORD:
                        _check_lengths(path, array, start)
                    start += len(array)
                    yield array


def raw_texts(array: Any) -> list[bytes | None]:
    """The values of an array of `text_batches` as bytes: Arrow does not check that its strings are UTF-8."""
    import pyarrow

    values: list[bytes | None] = array.cast(pyarrow.large_binary()).to_pylist()
    return values


def named(where: str, name: str | None, there: list[str]) -> str:
    """`name`, if it is among the keys or columns that are there exactly once."""
    listed = ", ".join(f"'{one}'" for one in there) or "none"
    place = "`text` of this corpus in the study"
    if name is None:
        raise OdysseyError(f"{where}: which column or key has the text? There are {listed}; name one as {place}")
    if there.count(name) != 1:
        state = "no" if name not in there else "more than one"
        raise OdysseyError(f"{where}: {state} '{name}'; there are {listed}; correct {place}")
    return name


def _rows_at_a_time(dictionaries: Any, group: int, name: str) -> int:
    """How many rows of a group can be read at once: the same long text may be that of each, and is stored once.

    `dictionaries` is the file read so that such texts are not repeated.
    """
    # Of the group as a whole: asked for what it says of a column, Arrow ends the process where that is damaged.
    about = dictionaries.metadata.row_group(group)
    size = about.total_byte_size
    if size * _FEW_ROWS <= lines.RECORD:  # no text is longer than all that is stored
        return _within(size)
    return min(_within(size // max(about.num_rows, 1)), _within(_longest(dictionaries, group, name, size)))


def _within(size: int) -> int:
    """How many texts of that size are together no longer than a record may be; one at least, a batch at most."""
    return max(1, min(_BATCH_ROWS, lines.RECORD // max(size, 1)))


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
        if (length or 0) > lines.RECORD:
            raise lines.too_long(f"{path}, row {number}", "cut it into several rows")


def _text_types() -> list[Any]:
    from pyarrow import types

    return [types.is_string, types.is_large_string, types.is_string_view]
