"""Where each result of a study lies under data/<study>/. The one place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SOURCE = "source"
"""Name of the source corpus where domains are listed beside it; no domain can have it."""
SUMMARY = "summary.json"
"""Beside a result, the counts and facts that later stages read."""
PUBLISHED = "published.json"
"""In the place of a checkpoint, which published one it is."""
CURVES = ("train_start", "valid", "test")
"""Columns of a cell's curves.csv: texts that are scored as adaptation goes on."""


@dataclass(frozen=True)
class Layout:
    """Paths of every stage's results below one study's folder."""

    data: Path

    @property
    def sample(self) -> Path:
        """Stage folder: source/ and domains/, a cell each."""
        return self.data / "sample"

    def corpus(self, name: str) -> Path:
        """Cell of the source corpus (rows.parquet) or of a domain (a file a split), with summary.json."""
        return self.sample / SOURCE if name == SOURCE else self.sample / "domains" / name

    @property
    def source(self) -> Path:
        """Rows of the source corpus."""
        return self.corpus(SOURCE) / "rows.parquet"

    def split(self, domain: str, split: str) -> Path:
        """Rows of one split of a domain."""
        return self.corpus(domain) / f"{split}.parquet"

    def pretrained(self, model: str) -> Path:
        """Checkpoint and tokenizer of a base model as transformers saves them, or published.json."""
        return self.data / "pretrain" / model

    @property
    def embed(self) -> Path:
        """Stage folder: a cell for the source corpus and for each domain."""
        return self.data / "embed"

    def embedded(self, corpus: str) -> Path:
        """Cell of the source corpus or of a domain: vectors.npy, float32 (n, d), and summary.json."""
        return self.embed / corpus

    def embedding(self, corpus: str) -> Path:
        """Embedded rows of the source corpus or of a domain."""
        return self.embedded(corpus) / "vectors.npy"

    @property
    def similarity(self) -> Path:
        """Stage folder: similarity.csv."""
        return self.data / "similarity"

    def adapted(self, model: str, domain: str) -> Path:
        """Adapted checkpoint, curves.csv and loss.csv of one cell."""
        return self.data / "adapt" / model / domain

    def evaluated(self, model: str, domain: str) -> Path:
        """scores.json and, for each token scored, arrays of NLL, ids and units of one cell."""
        return self.data / "evaluate" / model / domain

    def tokens(self, model: str, domain: str) -> Path:
        """train.csv, test.csv, vocabulary.csv and summary.json of one cell's token-level analysis."""
        return self.data / "tokens" / model / domain

    @property
    def joins(self) -> Path:
        """Stage folder: summary.json, which ways of joining rows are asked for, and a folder a model."""
        return self.data / "joins"

    def joined(self, model: str, domain: str) -> Path:
        """joins.csv and documents.csv of one cell: rows joined in several ways, in training and in evaluation."""
        return self.joins / model / domain

    def unfinished(self, *run: str) -> Path:
        """Checkpoints of training that goes on: of stage and model, and of what else tells runs apart."""
        return self.data / "unfinished" / "@".join(run)  # no name has an @

    @property
    def claims(self) -> Path:
        """Stage folder: claims.csv, evidence.csv and the tables beside them."""
        return self.data / "claims"

    @property
    def report(self) -> Path:
        """Stage folder: report.html, tables/, figures/, metrics.json."""
        return self.data / "report"

    @property
    def track(self) -> Path:
        """Stage folder: published.json, the receipt of what MLflow was given."""
        return self.data / "track"
