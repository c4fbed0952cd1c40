"""Rows on disk: Parquet files of (id, document, text), by `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from odyssey.errors import OdysseyError

READ_ROWS = 4096
"""Rows that are read at a time."""


class Row(NamedTuple):
    """A row of text (one line), the document it is of, and an id of its own."""

    id: str
    document: str
    text: str


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows, in order, as a Parquet file."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    Dataset.from_dict(dict(zip(Row._fields, map(list, columns), strict=True))).to_parquet(str(path))


def read_texts(path: Path, chosen: NDArray[np.int64] | None = None) -> list[str]:
    """The text column, in order, or the rows at the places `chosen` (ascending) only.

    Raises OdysseyError naming the stage to run, or the damaged file.
    """
    return _read(path, "text", chosen)


def read_documents(path: Path) -> list[str]:
    """The document of each row, in order; raises OdysseyError as `read_texts` does."""
    return _read(path, "document")


def _read(path: Path, column: str, chosen: NDArray[np.int64] | None = None) -> list[str]:
    if not path.is_file():
        raise OdysseyError(f"{path}: not there yet; run `dvc repro sample` first")
    import pyarrow.lib
    from datasets import config, load_dataset
    from datasets.exceptions import DatasetGenerationError

    # Else the hub is told of each file that is read here: seconds, where it cannot be reached.
    config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        # Streamed: nothing is copied into a cache of the user's home first.
        rows = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        batches = (batch[column] for batch in rows.iter(batch_size=READ_ROWS))
        texts = list(chain.from_iterable(batches)) if chosen is None else list(_at(batches, chosen))
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"'{column}' is not text in every row")
    except (pyarrow.lib.ArrowException, DatasetGenerationError, OSError, KeyError, ValueError) as error:
        message = str(error).partition("\n")[0]
        raise OdysseyError(f"{path}: not a readable Parquet file ({message}); run `dvc repro -f sample`") from None
    return texts


def _at(batches: Iterable[list[str]], chosen: NDArray[np.int64]) -> Iterator[str]:
    start = 0
    for batch in batches:
        first, last = np.searchsorted(chosen, [start, start + len(batch)])
        yield from (batch[place - start] for place in chosen[first:last].tolist())
        start += len(batch)
