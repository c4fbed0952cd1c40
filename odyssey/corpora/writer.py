"""Parquet written batch by batch, for more rows than fit in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from odyssey.corpora.parquet import Row

BATCH_ROWS = 16384
BATCH_CHARACTERS = 2_000_000
"""A row group is written once it has that many rows or characters of text."""


class ParquetStream:
    """A Parquet file of the given schema whose last column is text, whole or not at all.

    Rows are buffered up to a row group. The file has its name only once the `with` block
    has ended without an exception. `metadata` may be filled until then.
    """

    def __init__(self, path: Path, schema: Any, **options: Any) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}
        self._schema = schema
        self._options = options
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._rows: list[Sequence[Any]] = []
        self._characters = 0

    def __enter__(self) -> Self:
        from pyarrow.parquet import ParquetWriter

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = ParquetWriter(self._temporary, self._schema, **self._options)
        return self

    def add(self, row: Sequence[Any]) -> None:
        """Append a row, in the schema's order."""
        self._rows.append(row)
        self._characters += len(row[-1])
        if len(self._rows) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
                if self.metadata:
                    self._writer.add_key_value_metadata({k: json.dumps(v) for k, v in self.metadata.items()})
            self._writer.close()
            if error is None:
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            columns = [
                pyarrow.array(column, field.type)
                for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=self._schema))
        self._rows, self._characters = [], 0


class RowWriter(ParquetStream):
    """What `write_rows` writes, row by row: the same columns, read by `read_texts`.

    with RowWriter(path) as writer:
        writer.write(rows)
    """

    def __init__(self, path: Path) -> None:
        from datasets import Features, Value

        schema = Features({field: Value("string") for field in Row._fields}).arrow_schema
        # As `datasets` writes its own: unchanged stretches of text stay unchanged stretches of bytes.
        super().__init__(path, schema, use_content_defined_chunking=True, write_page_index=True)

    def write(self, rows: Iterable[Row]) -> int:
        """Append rows; returns how many these were."""
        count = 0
        for row in rows:
            self.add(row)
            count += 1
        return count
