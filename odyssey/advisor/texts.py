"""The texts that advice is asked about, and the source corpus: documents cut into rows, a bounded sample of them."""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Literal, cast

from odyssey import yaml_files
from odyssey.corpora import columns, hub, local, sources
from odyssey.errors import OdysseyError
from odyssey.published import CORPORA, M2D2
from odyssey.science.rows import pack, paragraphs
from odyssey.science.sampling import priorities
from odyssey.sections import HubSource
from odyssey.settings import STUDIES

ROW_WORDS = 50
"""Words of a row at most, as in the mini-study: distances between texts of unlike length measure the length."""
KEPT_WORDS = 1_000_000
"""Words that are kept of either side, a uniform sample of its documents if there are more. Ours."""
HUB_TEXTS = 2000
"""Texts that are drawn of a source corpus of the hub. Ours."""
HUB_CORPORA = tuple(name for name in CORPORA if name != M2D2)
"""What can stand in the place of a file of the source corpus."""
DEFAULT_COLUMN = "text"
DOCUMENT_COLUMN = "document"
"""In a Parquet file, what says which rows are of one document, as in the files that `odyssey sample` writes."""


@dataclass(frozen=True)
class Texts:
    """One side's texts, or a uniform sample of its documents."""

    name: str
    """As it was asked for."""
    documents: list[list[str]]
    """The rows of each document that is kept, in the order of the file; none is empty."""
    found: int
    """Documents there are, those without a word not counted."""
    words: int
    """Words in all of them."""
    commit: str | None = None
    """Of a corpus of the hub."""
    population: int | None = None
    """Texts in a corpus of the hub, of which `found` were drawn."""

    @property
    def complete(self) -> bool:
        """Whether every document is kept: what is not found in a sample may still be in the corpus."""
        return self.population is None and self.found == len(self.documents)

    @property
    def rows(self) -> list[str]:
        """All rows that are kept."""
        return [row for document in self.documents for row in document]

    @property
    def kept_words(self) -> int:
        """Words in the documents that are kept."""
        return sum(len(row.split()) for row in self.rows)

    def text(self) -> list[str]:
        """Each document that is kept as one line."""
        return [" ".join(document) for document in self.documents]


def read(path: Path, column: str | None, seed: int, name: str) -> Texts:
    """Read a file or a folder of files (see `corpora.local`); memory: a batch, and the texts that are kept.

    `column` names the column or key that holds the text, not for .txt; without, it is "text".
    Rows of a Parquet file with a column "document" are put together by it, unless it says the
    same of all of them. Raises OdysseyError as `corpora.local` does.
    """
    try:
        documents, found, words = _keep(_documents(path, column or DEFAULT_COLUMN), seed, name)
    except OdysseyError as error:
        # The reader's remedy is the place of a column's name in a study.
        raise OdysseyError(str(error).replace("`text` of this corpus in the study", "it with --text")) from None
    if not documents:
        raise OdysseyError(f"{path}: no word in it; give files with text")
    return Texts(str(path), documents, found, words)


def read_source(source: str, column: str | None, seed: int, root: Path) -> Texts:
    """Read the source corpus: a file or folder, or a sample of one of the hub's corpora.

    A file is read by `column` where it has one of that name, else by "text": what the user names is
    the domain's. Of a corpus of the hub, texts are drawn as the studies draw them, uniformly from all its
    files, at the revision that a study in `root` pins; what was drawn is kept in the hub's cache.
    Raises OdysseyError if it is neither, or as the readers do.
    """
    if source in HUB_CORPORA:
        return _read_hub(source, seed, root)
    path = Path(source)
    if not os.path.exists(source):  # noqa: PTH110 - Path's fails for a name too long
        raise OdysseyError(f"--source {source}: no such file or folder, nor one of {', '.join(HUB_CORPORA)}")
    if column in (None, DEFAULT_COLUMN):
        return read(path, column, seed, "source")
    try:
        return read(path, column, seed, "source")
    except OdysseyError as error:
        if f"no '{column}'" not in str(error):
            raise
        return read(path, None, seed, "source")


def _read_hub(corpus: str, seed: int, root: Path) -> Texts:
    from huggingface_hub import cached_assets_path

    commit = hub.resolve(CORPORA[corpus].repo, _revision(corpus, root), "dataset")
    drawn = cached_assets_path("odyssey", "advise", f"{corpus}-{commit}-{seed}-{HUB_TEXTS}")
    if not (file := drawn / "rows.parquet").is_file():
        kind = cast(Literal["openwebtext", "dolma", "redpajama"], corpus)
        about = HubSource(corpus=kind, revision=commit, rows=HUB_TEXTS)
        with redirect_stdout(sys.stderr):  # standard output is for the advice
            print(f"drawing {HUB_TEXTS:,} texts of {corpus}: all its files are fetched and read, once")
            sources.sample(about, commit, file, drawn / "work", seed, workers=1)
    texts = read(file, None, seed, "source")
    return Texts(corpus, texts.documents, texts.found, texts.words, commit, CORPORA[corpus].rows)


def _revision(corpus: str, root: Path) -> str:
    """What a study pins of a corpus; its main branch, where there is no such study."""
    for file in sorted((root / STUDIES).glob("*.yaml")):
        try:
            study = yaml_files.read(file)
        except OdysseyError:
            continue  # whoever uses that study is told
        source = study.get("source") if isinstance(study, dict) else None
        if isinstance(source, dict) and source.get("corpus") == corpus and source.get("revision"):
            return str(source["revision"])
    return "main"


def _documents(path: Path, column: str) -> Iterator[str]:
    if path.is_file() and local.file_kind(path) == "parquet":
        names = _document_names(path)
        if names is not None:
            records = local.iter_records(path, column)
            for _, group in groupby(records, key=lambda record: names[record[0] - 1]):
                yield "\n\n".join(text for _, text in group)
            return
    yield from (document.text for document in local.read_documents(path, column))


def _document_names(path: Path) -> list[bytes | None] | None:
    """The document of each row of a Parquet file; None if it does not tell documents apart."""
    try:
        names = [name for batch in columns.text_batches(path, DOCUMENT_COLUMN) for name in columns.raw_texts(batch)]
    except OdysseyError:
        return None
    return names if len(set(names)) > 1 else None


def _keep(documents: Iterable[str], seed: int, name: str) -> tuple[list[list[str]], int, int]:
    """Documents as rows, and how many documents and words there are.

    Kept are those with the smallest priorities, until they have `KEPT_WORDS` words or there are no
    more: a uniform sample, the same whatever the order in memory (see `science.sampling`).
    """
    heap: list[tuple[float, int, list[str], int]] = []
    kept = found = words = 0
    for priority, number, text in zip(priorities(seed, ("advise",), name), count(), documents, strict=False):
        rows = pack(paragraphs(text), ROW_WORDS)
        if not rows:
            continue
        size = sum(len(row.split()) for row in rows)
        found, words, kept = found + 1, words + size, kept + size
        heapq.heappush(heap, (-priority, number, rows, size))
        while kept - heap[0][3] >= KEPT_WORDS:
            kept -= heapq.heappop(heap)[3]
    return [rows for _, _, rows, _ in sorted(heap, key=lambda one: one[1])], found, words
