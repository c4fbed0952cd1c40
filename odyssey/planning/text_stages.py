"""What the stages before any language model take: texts, vectors, distances."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from odyssey.corpora import m2d2
from odyssey.planning.amounts import gb, sci
from odyssey.planning.parts import Download, Origin, Stage
from odyssey.planning.recorded import CORPUS_SIZES
from odyssey.planning.shapes import MINILM
from odyssey.planning.sizes import ARCHIVE_RATIO, BYTES_PER_TOKEN, Sizes
from odyssey.planning.work import Work
from odyssey.published import CORPORA, M2D2
from odyssey.science import cost
from odyssey.sections import SPLITS, HubSource
from odyssey.stages.embed import sample_size

# Estimates of ours.
STORED_TEXT = 0.6
"""Bytes of a Parquet file of rows for a byte of text."""
DOWNLOAD_RATE = 50e6
"""Bytes a second."""
SHARD_MEMORY = 60_000_000
"""Bytes that a worker holds of a shard (see `corpora.shards`)."""
TEXT_RATE = 30e6
"""Bytes of text a second that a core unpacks, cuts into rows and writes."""
ENCODER_SLOWER: Mapping[str, float] = MappingProxyType({"mpnet": 5.0})
"""Cost of other encoders against MiniLM's, by a part of the name."""


def sample(work: Work) -> Stage:
    """Download and text."""
    settings, sizes = work.settings, work.sizes
    downloads, how = [], []
    source = sizes.source()
    read = 0
    if isinstance(settings.source, HubSource):
        about, size = CORPORA[settings.source.corpus], CORPUS_SIZES[settings.source.corpus]
        terms = about.license
        downloads.append(
            Download(about.repo, *sizes.corpus(settings.source), terms.name, terms.non_commercial, about.gated)
        )
        how.append(f"source: all files, to draw {source.rows:,} of {about.rows:,} texts uniformly ({size.origin})")
        # All of a corpus is read, also where few of its rows are kept.
        read = (about.rows or 0) * size.row_bytes - source.bytes
    if sizes.archives:
        downloads.append(_archives(sizes))
        how.append(
            f"archives: tokens x {BYTES_PER_TOKEN} bytes / {ARCHIVE_RATIO} where the hub does not say (estimate)"
        )
    texts = [source, *(sizes.split(name, split) for name in settings.domains for split in SPLITS)]
    text = sum(one.bytes for one in texts)
    read += text
    fetched = sum(download.bytes for download in downloads)
    workers = settings.sample.workers
    how.append(
        f"text: {gb(text)} in {sum(one.rows for one in texts):,} rows; stored at {STORED_TEXT} of that (estimate)"
    )
    if fetched:
        how.append(f"time: {gb(fetched)} at 50 MB/s, {gb(read)} of text at 30 MB/s by {workers} workers (estimate)")
    return Stage(
        "sample",
        tuple(downloads),
        disk=round(text * STORED_TEXT),
        host_memory=SHARD_MEMORY * workers + 1_000_000_000,
        hours=(fetched / DOWNLOAD_RATE + read / TEXT_RATE / workers) / 3600,
        how=tuple(how),
    )


def _archives(sizes: Sizes) -> Download:
    """M2D2's, all of them; as sure as the least sure of their sizes."""
    terms = CORPORA[M2D2].license
    total = sum(size for size, _ in sizes.archives.values())
    origins = {origin for _, origin in sizes.archives.values()}
    worst: Origin = "estimate" if "estimate" in origins else origins.pop()
    return Download(m2d2.REPO, len(sizes.archives), total, worst, terms.name, terms.non_commercial, False)


def embed(work: Work) -> Stage:
    """Rows through the sentence encoder."""
    rule, sizes = work.settings.embed, work.sizes
    source = sizes.source()
    populations = [(source, rule.source_fraction)]
    populations += [(sizes.split(name, "train"), rule.fraction) for name in work.settings.domains]
    rows = tokens = 0
    for text, fraction in populations:
        there, per_row = text.rows, text.words * 1.4 / text.rows if text.words else text.tokens / text.rows
        if rule.group_words and text is not source:
            there = max(1, round(text.rows * per_row / 1.4 / rule.group_words))
            per_row = rule.group_words * 1.4
        n = sample_size(there, fraction, rule.max_texts)
        rows, tokens = rows + n, tokens + round(n * min(per_row, MINILM.context))
    slower = next((factor for part, factor in ENCODER_SLOWER.items() if part in rule.encoder), 1.0)
    # The encoder has no output layer.
    each = cost.forward_flops(MINILM, MINILM.context) - 2 * MINILM.vocabulary * MINILM.width
    flops = each * tokens * slower
    d = MINILM.width if slower == 1 else 2 * MINILM.width
    how = (
        f"{rows:,} rows of {len(populations)} corpora (the larger of {rule.fraction:g} of a domain and "
        f"{rule.max_texts:,} rows), at most {MINILM.context} tokens a row: {tokens:,} tokens",
        f"{sci(tokens)} tokens x {sci(each * slower)} (MiniLM: 2 x 1.06e7 parameters, and attention) = "
        f"{sci(flops)} FLOPs",
        f"vectors: {rows:,} x {d} x 4 bytes = {gb(rows * d * 4)}",
    )
    download: tuple[Download, ...] = ()
    if not (rule.encoder.startswith("package:") or Path(rule.encoder).exists()):
        download = (Download(rule.encoder, 8, 90_000_000, "estimate", "unknown, see its page", None, None),)
    batch = rule.batch_size * MINILM.context
    return Stage(
        "embed",
        download,
        disk=rows * d * 4,
        tokens=tokens,
        flops=flops,
        device_memory=22_700_000 * 4 * round(slower) + batch * (4 * MINILM.width + MINILM.ffn) * 4,
        host_memory=2 * max(source.bytes, 1),
        hours=work.hours(flops, rule.precision, "encoding"),
        how=how,
    )


def similarity(work: Work, vectors: int) -> Stage:
    """Moments and Frechet distances, on the processor, of so many bytes of vectors."""
    d, n = MINILM.width, len(work.settings.domains)
    rows = vectors // (4 * d)
    flops = 2.0 * rows * d * d + n * 30.0 * d**3
    how = (
        f"covariances: {rows:,} rows x 2 x {d}^2; {n} distances x 30 x {d}^3: {sci(flops)} FLOPs in float64, "
        "at 2e10 a second on the processor (estimate)",
    )
    return Stage("similarity", disk=n * 100, host_memory=500_000_000, flops=flops, hours=flops / 2e10 / 3600, how=how)
