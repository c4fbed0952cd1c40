"""Where each result lies under data/. The one place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SOURCE = "source"
"""Name of the source corpus where domains are listed beside it."""


@dataclass(frozen=True)
class Layout:
    """Paths of every stage's results below one data folder."""

    data: Path = Path("data")

    @property
    def sample(self) -> Path:
        """Stage folder: source.parquet, domains/<domain>/<split>.parquet, summary.json."""
        return self.data / "sample"

    @property
    def source(self) -> Path:
        """Rows of the source corpus."""
        return self.sample / "source.parquet"

    def split(self, domain: str, split: str) -> Path:
        """Rows of one split of a domain."""
        return self.sample / "domains" / domain / f"{split}.parquet"

    def pretrained(self, model: str) -> Path:
        """Checkpoint and tokenizer of a base model, as transformers saves them."""
        return self.data / "pretrain" / model

    @property
    def embed(self) -> Path:
        """Stage folder: <corpus>.npy, float32 (n, d), and summary.json."""
        return self.data / "embed"

    def embedding(self, corpus: str) -> Path:
        """Embedded rows of the source corpus or of a domain."""
        return self.embed / f"{corpus}.npy"

    @property
    def similarity(self) -> Path:
        """Stage folder: similarity.csv."""
        return self.data / "similarity"

    def adapted(self, model: str, domain: str) -> Path:
        """Adapted checkpoint, curves.csv and loss.csv of one cell."""
        return self.data / "adapt" / model / domain

    def evaluated(self, model: str, domain: str) -> Path:
        """scores.json and per-token arrays of one cell."""
        return self.data / "evaluate" / model / domain

    def tokens(self, model: str, domain: str) -> Path:
        """train.csv, test.csv and summary.json of one cell's token-level analysis."""
        return self.data / "tokens" / model / domain

    @property
    def report(self) -> Path:
        """Stage folder: report.html, tables/, figures/, metrics.json."""
        return self.data / "report"

    @property
    def track(self) -> Path:
        """Stage folder: published.json, the receipt of what MLflow was given."""
        return self.data / "track"
