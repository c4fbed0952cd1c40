"""What one MLflow run holds, and what makes it the same run; MLflow itself is not needed here."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey.errors import OdysseyError
from odyssey.store import digest, sha256

if TYPE_CHECKING:
    import pandas as pd

NAME_LENGTH = 25
"""Characters of a run's name that the UI shows."""


@dataclass(frozen=True)
class Metric:
    """One value of one metric, at an optimiser step (0 for what has no steps)."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Data:
    """A data file that went into a run."""

    name: str
    path: Path
    md5: str
    """DVC's hash of the file."""
    context: str
    """What it was used for: pretrain, train, valid or test."""
    counts: dict[str, int]
    """Rows and words in it, and documents where they are known."""


@dataclass
class Record:
    """One MLflow run. Its identity is all but the tags and what is enclosed."""

    name: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Table by the name of the JSON artifact that it becomes."""
    files: dict[str, Path] = field(default_factory=dict)
    """Local file by artifact path."""
    texts: dict[str, str] = field(default_factory=dict)
    """Text by artifact path."""
    enclosed: dict[str, Path] = field(default_factory=dict)
    """More files by artifact path, of which the identity does not depend."""

    def digest(self) -> str:
        """sha256 of the content: parameters, numbers, and the bytes of all files."""
        hashes = {name: sha256(path) for name, path in self.files.items()}
        tables = {name: table.to_csv(index=False) for name, table in self.tables.items()}
        numbers = [[m.key, repr(m.value), m.step] for m in self.metrics]
        data = [[d.name, d.md5, d.context] for d in self.data]
        return digest([self.name, self.params, numbers, data, hashes, tables, self.texts])


def fit(name: str) -> str:
    """A name of at most NAME_LENGTH characters, both ends kept."""
    if len(name) <= NAME_LENGTH:
        return name
    tail = (NAME_LENGTH - 2) // 2
    return f"{name[: NAME_LENGTH - 2 - tail]}..{name[-tail:]}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text; raises OdysseyError if it is missing, damaged or not UTF-8."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file; run `dvc repro report` first") from None
    except UnicodeDecodeError:
        raise OdysseyError(f"{path}: not UTF-8; delete it and run its stage again") from None
    except (OSError, csv.Error) as error:
        raise OdysseyError(f"{path}: cannot be read ({error}); delete it and run its stage again") from None
    # Where a row is longer than the header or shorter: no key, or no value.
    if any(None in row or None in row.values() for row in rows):
        raise OdysseyError(f"{path}: rows and header differ in length; delete it and run its stage again")
    return rows


def flatten(tree: Mapping[str, Any], joint: str, above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by their keys joined."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, joint, f"{above}{key}{joint}")
        else:
            yield f"{above}{key}", value


def as_text(value: Any) -> str:
    """Strings as they are, unless they would not show (a newline, nothing); all else as JSON."""
    return value if isinstance(value, str) and value and value.isprintable() else json.dumps(value)
