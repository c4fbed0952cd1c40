"""Drawing 5 % of a 2 GB corpus, as .jsonl.gz and as Parquet files, against `datasets`: streamed, and whole and uniform.

    python benchmarks/sampling.py [--mb 2000]

The peer that is usual, `load_dataset(..., streaming=True).shuffle(seed, buffer_size=10_000).take(n)`, reads only the
first n + 10,000 documents, and no document behind them can be drawn: it is shown what that costs in uniformity. The
peer that is uniform as ours is loads the whole corpus, shuffles and selects. Each way is a process of its own that
ends with the drawn texts in a Parquet file. Megabytes are of uncompressed JSON lines. At full size some 12 minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import harness
import numpy as np

SHARE = 20
"""One document of so many is drawn."""
BUFFER = 10_000
PART_MB = 200
STRETCHES = 100
SEED = 0
STREAMED = "datasets streamed, not uniform"
WHOLE = "datasets whole"
WORKERS = 2


def main() -> None:
    """Measure both forms of the corpus, or, with --way, be one of the ways."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--mb", type=int, default=2000)
    command.add_argument("--way", nargs=5, metavar=("NAME", "INPUT", "OUT", "ROWS", "POPULATION"), help="of a process")
    asked = command.parse_args()
    if asked.way:
        name, source, out, rows, population = asked.way
        WAYS[name](Path(source), Path(out), int(rows), int(population))
        return
    with tempfile.TemporaryDirectory() as folder:
        checksums = write_corpus(Path(folder), asked.mb)
        results = [_measure(Path(folder), kind, checksums, asked.mb) for kind in ("corpus.jsonl.gz", "parquet")]
    harness.record("sampling", results)


def _measure(folder: Path, kind: str, checksums: np.ndarray, mb: int) -> harness.Result:
    rows, population = len(checksums) // SHARE, len(checksums)
    spread: dict[str, str] = {}

    def run(name: str) -> harness.Run:
        out = folder / "drawn" / "sample.parquet"
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        done = harness.process(
            [sys.executable, __file__, "--way", name, folder / kind, out, str(rows), str(population)],
            OMP_NUM_THREADS="1",
            HF_HOME=str(folder / "home"),
            HF_HUB_OFFLINE="1",
        )
        drawn = _drawn(out, checksums)
        assert len(drawn) == len(set(drawn)) == rows, f"{name}: {len(drawn)} documents instead of {rows}"
        spread[name] = _uniformity(drawn, population)
        return harness.Run(done.seconds, done.peak_mb, rows)

    def same(values: Mapping[str, Any]) -> str:
        return f"each draws {rows:,} different documents, text for text those of the corpus"

    what = "a .jsonl.gz" if kind.endswith("gz") else "Parquet files"
    result = harness.alternate(
        f"Draw {rows:,} of {population:,} documents from {what}, {mb:,} MB of JSON lines",
        "faster, exactly uniform, at most 500 MB",
        {name: lambda name=name: run(name) for name in WAYS},  # type: ignore[misc]
        same,
    )
    told = [f"{name}: {text}" for name, text in spread.items()]
    peak = max(result.peak_mb[harness.OURS])
    result.note = f"{'; '.join(told)}. Ours takes {peak:.0f} MB at most; {_unlike(rows, population)}"
    print(result.note)
    return result


def _unlike(rows: int, population: int) -> str:
    """What is not like for like."""
    read = min(1.0, (rows + BUFFER) / population)
    return (
        f"the streamed peer reads {read:.0%} of the documents and stops; `datasets` whole writes an "
        "uncompressed copy of the corpus into a cache first, made anew each time"
    )


def _drawn(out: Path, checksums: np.ndarray) -> list[int]:
    """The places in the corpus of the texts of a sample, each checked against the corpus."""
    import pyarrow.parquet

    places = []
    for batch in pyarrow.parquet.ParquetFile(out).iter_batches(columns=["text"]):
        for text in batch.column(0).to_pylist():
            places.append(int(text.partition(":")[0]))
            assert zlib.crc32(text.encode()) == checksums[places[-1]], f"document {places[-1]} is not as it was"
    return places


def _uniformity(drawn: Sequence[int], population: int) -> str:
    """How evenly the sample lies over equal stretches of the corpus; chi-square is 1 a degree for a uniform one.

    Slightly less, because documents are drawn without replacement: (1 - share).
    """
    counts = np.bincount(np.array(drawn) * STRETCHES // population, minlength=STRETCHES)
    expected = len(drawn) / STRETCHES
    statistic = float(((counts - expected) ** 2 / expected).sum() / (STRETCHES - 1))
    return (
        f"nothing from {int((counts == 0).sum())} of {STRETCHES} equal stretches, chi-square a degree {statistic:.2f}"
    )


# --- the corpus


def write_corpus(folder: Path, mb: int) -> np.ndarray:
    """Write corpus.jsonl.gz and parquet/ with the same documents; returns the crc32 of each text (n,).

    Documents are pieces of installed packages' sources, of log-normal length, 4.5 kB in the mean.
    """
    (folder / "parquet").mkdir()
    parts = [min(PART_MB, mb - start) for start in range(0, mb, PART_MB)]
    with ProcessPoolExecutor(WORKERS) as pool:
        sizes = list(pool.map(_lengths, range(len(parts)), parts))
        starts = [0, *np.cumsum([len(size) for size in sizes]).tolist()]
        found = list(pool.map(_write_part, [folder] * len(parts), range(len(parts)), starts[:-1], sizes))
    with (folder / "corpus.jsonl.gz").open("wb") as whole:
        for number in range(len(parts)):
            part = folder / f"{number}.gz"
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
            part.unlink()
    return np.concatenate(found)


def _lengths(number: int, mb: int) -> np.ndarray:
    rng = np.random.default_rng([SEED, number])
    lengths = (rng.lognormal(8, 0.9, size=mb * 400) + 50).astype(int)
    return lengths[: int(np.searchsorted(np.cumsum(lengths + 30), mb * 1e6)) + 1]


def _write_part(folder: Path, number: int, start: int, lengths: np.ndarray) -> np.ndarray:
    import pyarrow
    import pyarrow.parquet

    rng = np.random.default_rng([SEED, number, 1])
    pool = _text(rng)
    places = rng.integers(0, len(pool) - int(lengths.max()), size=len(lengths)).tolist()
    texts = [
        f"{start + k}: {pool[place : place + length]}".strip()
        for k, (place, length) in enumerate(zip(places, lengths.tolist(), strict=True))
    ]
    ids = list(range(start, start + len(texts)))
    packed = zlib.compressobj(1, wbits=31)
    with (folder / f"{number}.gz").open("wb") as file:
        for name, text in zip(ids, texts, strict=True):
            file.write(packed.compress(json.dumps({"id": name, "text": text}, ensure_ascii=False).encode() + b"\n"))
        file.write(packed.flush())
    table = pyarrow.table({"id": ids, "text": texts})
    pyarrow.parquet.write_table(table, folder / "parquet" / f"{number:05d}.parquet", row_group_size=1000)
    return np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.uint32)


def _text(rng: np.random.Generator, characters: int = 30_000_000) -> str:
    """Sources of the installed packages, one after the other in random order, up to so many characters."""
    files = sorted(Path(np.__file__).parents[1].rglob("*.py"))
    read: list[str] = []
    total = 0
    for index in rng.permutation(len(files)).tolist():
        if total > characters:
            break
        read.append(files[index].read_text(encoding="utf-8", errors="ignore").replace("\r\n", "\n"))
        total += len(read[-1])
    return "".join(read)


# --- the ways


def _ours(source: Path, out: Path, rows: int, population: int) -> None:
    """As the stage `sample` draws from a user's file, and from the files of a corpus of the hub."""
    if source.is_file():
        from odyssey.corpora.sources import sample_local
        from odyssey.sections import LocalSource

        sample_local(LocalSource(corpus="local", path=str(source), text="text", rows=rows), Path(), out, SEED)
        return
    from odyssey.corpora.shards import Shard, sample_shards

    sample_shards(
        [Shard(path.name, lambda path=path: path) for path in sorted(source.iterdir())],  # type: ignore[misc]
        out.parent / "work",
        out,
        rows=rows,
        population=population,
        text="text",
        seed=SEED,
        purpose=("sample", "source"),
        workers=WORKERS,
    )


def _files(source: Path) -> tuple[str, list[str]]:
    """The name of the reader of `datasets`, and what it reads."""
    if source.is_file():
        return "json", [str(source)]
    return "parquet", [str(path) for path in sorted(source.iterdir())]


def _streamed(source: Path, out: Path, rows: int, population: int) -> None:
    from datasets import load_dataset

    reader, files = _files(source)
    stream = load_dataset(reader, data_files=files, split="train", streaming=True)
    stream.shuffle(seed=SEED, buffer_size=BUFFER).take(rows).to_parquet(str(out))


def _whole(source: Path, out: Path, rows: int, population: int) -> None:
    from datasets import load_dataset

    reader, files = _files(source)
    corpus = load_dataset(reader, data_files=files, split="train", cache_dir=str(out.parent / "cache"))
    corpus.shuffle(seed=SEED).select(range(rows)).to_parquet(str(out))


WAYS = {harness.OURS: _ours, STREAMED: _streamed, WHOLE: _whole}

if __name__ == "__main__":
    main()
