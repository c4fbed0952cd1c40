"""Sizes of corpora, archives and checkpoints: the hub's where it can be reached, else recorded ones, else estimates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from odyssey.corpora import hub, local, m2d2
from odyssey.errors import OdysseyError
from odyssey.planning.parts import Origin
from odyssey.planning.recorded import CHECKPOINT_SIZES, CORPUS_SIZES
from odyssey.planning.shapes import Planned
from odyssey.published import CORPORA, find_checkpoint
from odyssey.sections import (
    DocstringsDomain,
    DocstringsSource,
    HubSource,
    LocalDomain,
    LocalSource,
    M2D2Domain,
    PublishedModel,
    SplitName,
)
from odyssey.settings import Settings

# Estimates, ours unless said otherwise.
BYTES_PER_TOKEN = 4.2
"""UTF-8 bytes of a GPT-2 token in the domains' text: English prose has 4.3 to 4.6, formulas fewer."""
ARCHIVE_RATIO = 3.2
"""Bytes of text in a byte of an M2D2 archive, as seen in several."""
TOKENS_PER_ROW = 75
"""Of M2D2, whose rows are paragraphs of about 50 to 100 tokens."""
HELD_OUT_BYTES = 5_000_000
"""Of M2D2's validation and test splits: exactly that in cs.CL; others are known from 0.7 to 12 million tokens."""
RECORDED_ARCHIVES: Mapping[str, int] = MappingProxyType(
    {
        "Culture_and_the_arts": 753_000_000,
        "Culture_and_the_arts__The_arts_and_Entertainment": 1_700_000,
        "Culture_and_the_arts__Games_and_Toys": 8_800_000,
    }
)
"""Bytes of M2D2 archives that are known without asking the hub."""
BYTES_PER_WORD = 6
"""The space included."""
MODULE_ROWS = 5000
"""Rows of a package's documentation, where the study sets no limit."""
SHARES: Mapping[SplitName, float] = MappingProxyType({"train": 0.8, "valid": 0.1, "test": 0.1})
"""Of a domain's documents, by split."""
CORPUS_FILES: Mapping[str, str] = MappingProxyType({"openwebtext": "*.parquet", "redpajama": "*.jsonl"})
"""What is fetched of a source corpus; Dolma's files are on another host, and the hub is not asked for them."""

Documents = DocstringsSource | DocstringsDomain | LocalSource | LocalDomain


@dataclass(frozen=True)
class Text:
    """Size of a corpus or split: tokens are GPT-2's, or words where it comes from documents."""

    rows: int
    bytes: int
    tokens: int
    words: int
    """Limit on its words, for texts that are cut into rows here; else 0."""
    origin: Origin

    def counted(self, model: Planned) -> int:
        """Tokens in this model's vocabulary."""
        if self.words:
            return round(self.words * model.tokens_per_word)
        return round(self.tokens * model.factor)


class Sizes:
    """What is known of the sizes of a study's texts and checkpoints."""

    def __init__(self, settings: Settings, online: bool) -> None:
        self.online = online
        self._settings = settings
        self._listed: dict[tuple[str, str], list[hub.HubFile]] = {}
        known = [about.tokens for about in m2d2.domains().values() if about.tokens]
        recorded = [_tokens_in(size) for size in RECORDED_ARCHIVES.values()]
        self.median = round(statistics.median([*known, *recorded]))
        self.archives = {
            name: self._archive(name, about)
            for name, about in settings.domains.items()
            if isinstance(about, M2D2Domain)
        }

    def _files(self, repo: str, revision: str, kind: hub.Kind) -> list[hub.HubFile]:
        """Files of a repository, or nothing where the hub does not tell."""
        if self.online and (repo, revision) not in self._listed:
            try:
                self._listed[repo, revision] = hub.list_files(repo, revision, kind)
            except OdysseyError:
                self._listed[repo, revision] = []
        return self._listed.get((repo, revision), [])

    def _archive(self, name: str, about: M2D2Domain) -> tuple[int, Origin]:
        """Bytes of a domain's archive."""
        path = m2d2.archive(name)
        for file in self._files(m2d2.REPO, about.revision, "dataset"):
            if file.path == path:
                return file.size, "hub"
        if name in RECORDED_ARCHIVES:
            return RECORDED_ARCHIVES[name], "recorded"
        tokens = m2d2.domains()[name].tokens
        return round((tokens or self.median) * BYTES_PER_TOKEN / ARCHIVE_RATIO), "recorded" if tokens else "estimate"

    def corpus(self, source: HubSource) -> tuple[int, int, Origin]:
        """Files and bytes of a source corpus."""
        about, pattern = CORPORA[source.corpus], CORPUS_FILES.get(source.corpus)
        if pattern is not None:
            found = self._matching(about.repo, source.revision, "dataset", (pattern,))
            if found is not None:
                return *found, "hub"
        size = CORPUS_SIZES[source.corpus]
        return size.files, size.bytes, "recorded"

    def checkpoint(self, one: Planned, model: PublishedModel) -> tuple[int, int, Origin]:
        """Files and bytes of a checkpoint: its weights, as far as is known, and small files."""
        found = self._matching(model.checkpoint, model.revision or "main", "model", hub.MODEL_FILES)
        if found is not None:
            return *found, "hub"
        known = find_checkpoint(model.checkpoint)
        if known is not None:
            size = CHECKPOINT_SIZES[known.repo]
            return 5, size.bytes, "estimate" if size.inferred else "recorded"
        return 5, one.size("float32"), "estimate"

    def _matching(self, repo: str, revision: str, kind: hub.Kind, patterns: tuple[str, ...]) -> tuple[int, int] | None:
        """Number and bytes of the files that fit a pattern; None where the hub tells of none."""
        files = [f for f in self._files(repo, revision, kind) if any(fnmatchcase(f.path, p) for p in patterns)]
        return (len(files), sum(file.size for file in files)) if files else None

    def split(self, name: str, split: SplitName) -> Text:
        """Size of one split of a domain, as `sample` would write it."""
        limit = getattr(self._settings.sample.rows, split)
        domain = self._settings.domains[name]
        if not isinstance(domain, M2D2Domain):
            return self._documents(domain, limit, SHARES[split])
        tokens, origin = self._m2d2_tokens(name)
        if split != "train":
            tokens, origin = round(min(HELD_OUT_BYTES / BYTES_PER_TOKEN, tokens)), "estimate"
        rows = math.ceil(tokens / TOKENS_PER_ROW)
        if limit is not None and limit < rows:
            tokens, rows = limit * TOKENS_PER_ROW, limit
        return Text(rows, round(tokens * BYTES_PER_TOKEN), tokens, 0, origin)

    def splits(self, name: str) -> tuple[Text, Text, Text]:
        """Sizes of a domain's train, valid and test."""
        return self.split(name, "train"), self.split(name, "valid"), self.split(name, "test")

    def _m2d2_tokens(self, name: str) -> tuple[int, Origin]:
        """GPT-2 tokens of a domain: as published, else from its archive's size."""
        known = m2d2.domains()[name].tokens
        if known:
            return known, "recorded"
        archive, origin = self.archives[name]
        return _tokens_in(archive), "hub" if origin == "hub" else "estimate"

    def source(self) -> Text:
        """Size of the source corpus's sample."""
        source = self._settings.source
        if not isinstance(source, HubSource):
            return self._documents(source, source.rows, 1.0)
        about = CORPORA[source.corpus]
        rows = min(source.rows or 10**12, about.rows or 10**12)
        size = rows * CORPUS_SIZES[source.corpus].row_bytes
        return Text(rows, size, round(size / BYTES_PER_TOKEN), 0, "estimate")

    def _documents(self, corpus: Documents, limit: int | None, share: float) -> Text:
        """Rows cut from documents: at most `limit` rows of `row_words` words, and no more than there is."""
        words = self._settings.sample.row_words
        if isinstance(corpus, LocalSource | LocalDomain):
            there = math.ceil(_text_bytes(Path(corpus.path)) * share / BYTES_PER_WORD / words)
        else:
            there = math.ceil(MODULE_ROWS * len(corpus.modules) * share)
        # How much text a package's documentation is, is not known without reading it.
        guessed = limit is None or (isinstance(corpus, LocalSource | LocalDomain) and there < limit)
        rows = max(there, 1) if limit is None or guessed else limit
        return Text(rows, rows * words * BYTES_PER_WORD, 0, rows * words, "estimate" if guessed else "bound")

    def explain(self) -> str:
        """Where sizes come from, in a sentence."""
        start = "asked of the hub" if self.online else "offline: sizes from recorded facts"
        if not self.archives:
            return f"{start}; rows x words of the study are upper bounds"
        guessed = sum(origin == "estimate" for _, origin in self.archives.values())
        if not guessed:
            return start
        return (
            f"{start}; {guessed} of {len(self.archives)} M2D2 archives are taken to be the median of the known ones, "
            f"{self.median:,} tokens"
        )


def _tokens_in(archive: int) -> int:
    """GPT-2 tokens of an M2D2 archive of so many bytes."""
    return round(archive * ARCHIVE_RATIO / BYTES_PER_TOKEN)


def _text_bytes(path: Path) -> int:
    """Bytes of a user's texts; compressed ones are taken to be `ARCHIVE_RATIO` times as long."""
    packed = (".gz", ".zst", ".parquet")
    sizes = (file.stat().st_size * (ARCHIVE_RATIO if file.suffix in packed else 1) for file in local.files(path))
    return round(sum(sizes))


def hub_answers(timeout: float = 3.0) -> bool:
    """Whether the hub can be reached, within some seconds and without trying again."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception:  # whatever keeps it from answering
        return False
    return True
