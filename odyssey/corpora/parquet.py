"""Rows on disk: Parquet files of (id, document, text), by `datasets`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

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


def read_texts(path: Path, stage: str = "sample") -> list[str]:
    """The text column, in order; raises OdysseyError naming the stage to run, or the damaged file."""
    if not path.is_file():
        raise OdysseyError(f"{path}: not there yet; run `dvc repro {stage}` first")
    import pyarrow.lib
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        # Streamed: nothing is copied into a cache of the user's home first.
        rows = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        return [text for batch in rows.iter(batch_size=READ_ROWS) for text in batch["text"]]
    except (pyarrow.lib.ArrowException, DatasetGenerationError, OSError, KeyError) as error:
        message = str(error).splitlines()[0]
        raise OdysseyError(f"{path}: not a readable Parquet file ({message}); run `dvc repro -f {stage}`") from None
