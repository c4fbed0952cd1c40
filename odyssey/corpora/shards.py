"""A uniform sample of a corpus that comes in large files (shards): JSON lines or Parquet.

Each shard is read once, alone, and leaves a small file of candidates: the rows whose priority
(`odyssey.science.sampling`) is under a threshold. The sample is then the candidates with the
smallest priorities. So the result is the same whatever the number of workers, and a killed
run starts again at the first shard without candidates.

A row is a physical record: a line of JSON lines, a row of Parquet, counted from 0. Rows whose
text is null or blank are counted but never sampled. A text is kept as it is, line ends
included, but for white space at its two ends and for what is not UTF-8, which becomes U+FFFD.
Of JSON lines only candidates are parsed, so a bad line is noticed only if it is drawn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from odyssey.corpora.columns import raw_texts, text_batches
from odyssey.corpora.lines import iter_lines
from odyssey.corpora.local import file_kind, json_text
from odyssey.corpora.parquet import Row
from odyssey.corpora.writer import ParquetStream, RowWriter
from odyssey.errors import OdysseyError
from odyssey.progress import bar
from odyssey.science.sampling import priorities, smallest, threshold, widened
from odyssey.store import sha256, write_text

_KEYS = _MADE_FROM, _ROWS_SEEN = "made_from", "rows_seen"

# JSON escapes can stand for half of a pair, which is no character and in no table.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Shard:
    """A file of a corpus.

    `name` stands in the ids and decides the priorities. `origin` says which file it is, for
    example repository and revision; candidates of another origin are not used again.
    `fetch` returns the file, by a download if need be.
    """

    name: str
    fetch: Callable[[], Path]
    origin: str = ""


@dataclass(frozen=True)
class Sample:
    """What was drawn: rows in the sample, and rows in the corpus, blank ones included."""

    rows: int
    population: int


def sample_shards(
    shards: Sequence[Shard],
    work: Path,
    out: Path,
    *,
    rows: int | None,
    population: int | None,
    text: str,
    seed: int,
    purpose: tuple[str, ...],
    workers: int = 1,
) -> Sample:
    """Write a uniform sample of `rows` texts without replacement (None: all) to `out`, in the corpus' order.

    `population` is about the number of rows in all shards. It only bounds what is kept on
    the way: without it, that is the text of the whole corpus, compressed. Where it turns out
    too high for `rows` texts to be under the threshold, the shards are read again with a
    higher one. A corpus with fewer texts is taken whole: compare the returned numbers.

    Shards are fetched one by one, in order, and read by `workers` threads (decompression
    lets other threads run). Candidates are left in `work`: with them, the same call only
    merges. Memory: for each worker a batch (2 million characters or one
    row, and what is decompressed ahead; with Arrow and its buffers some 80 MB), and 24 bytes a candidate.

    Raises OdysseyError naming the shard (and line) that cannot be read, or for no text at all.
    """
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):
        raise OdysseyError(f"shard '{next(n for n in names if names.count(n) > 1)}' is listed twice; list it once")
    paths = [work / f"{quote(name, safe='')}.parquet" for name in names]
    bound = threshold(rows, population)
    while True:
        _draw_all(shards, paths, _Draw(text, seed, purpose, bound), workers)
        found = sum(_footer(path).num_rows for path in paths)
        if rows is None or found >= rows or bound >= 1:
            break
        seen = sum(_metadata(path)[_ROWS_SEEN] for path in paths)
        print(f"{found:,} of {rows:,} texts drawn: the corpus has {seen:,}, not about {population:,}; reading it again")
        bound = max(threshold(rows, seen), widened(bound, rows, found))
    if not found:
        raise OdysseyError(f"{out}: no text in '{text}' of any of the {len(shards)} shards; name another column")
    return merge(paths, rows, out)


def draw_candidates(
    shard: Path,
    out: Path,
    *,
    name: str,
    text: str,
    seed: int,
    purpose: tuple[str, ...],
    threshold: float,
    origin: str = "",
) -> int:
    """Write the rows of a shard whose priority is below `threshold`; returns the number of rows in the shard.

    `out` has the columns row (from 0), priority and text, and its metadata say what it was
    made from. It is written whole or not at all, and then its sha256 beside it.

    Raises OdysseyError naming the shard (and line): not JSON lines or Parquet, damaged, no
    such key or column, no row.
    """
    from pyarrow import field, float64, int64, schema, string

    readers = {"jsonl": _draw_lines, "parquet": _draw_parquet}
    read = readers.get(file_kind(shard) or "")
    if read is None:
        raise OdysseyError(f"{shard}: neither JSON lines nor Parquet; give .jsonl, .json.gz, .json.zst or .parquet")
    columns = schema([field("row", int64()), field("priority", float64()), field("text", string())])
    with ParquetStream(out, columns, compression="zstd", write_page_checksum=True) as writer:
        seen = read(shard, text, priorities(seed, purpose, name), threshold, writer)
        if not seen:
            raise OdysseyError(f"{shard}: no row in it; delete it and fetch it again")
        writer.metadata = {
            _MADE_FROM: _Draw(text, seed, purpose, threshold).of(name, origin),
            _ROWS_SEEN: seen,
        }
    write_text(_digest_of(out), sha256(out))
    return seen


def merge(candidates: Sequence[Path], rows: int | None, out: Path) -> Sample:
    """Write the `rows` candidates with the smallest priorities, in the order of the files and of their rows.

    Ids and documents are `<shard's name>#<row>`. Memory: 24 bytes a candidate, and a batch.
    Raises OdysseyError naming a file of candidates that is damaged.
    """
    values = np.concatenate([np.empty(0), *(_priorities(path) for path in candidates)])
    chosen = smallest(values, rows)
    del values
    start = population = 0
    with RowWriter(out) as writer:
        for path in candidates:
            metadata = _metadata(path)
            writer.write(_chosen_rows(path, metadata[_MADE_FROM]["name"], chosen[start:]))
            start += _footer(path).num_rows
            population += metadata[_ROWS_SEEN]
    return Sample(int(np.count_nonzero(chosen)), population)


@dataclass(frozen=True)
class _Draw:
    """The settings of a draw."""

    text: str
    seed: int
    purpose: tuple[str, ...]
    threshold: float

    def of(self, name: str, origin: str) -> dict[str, Any]:
        """What the candidates of a shard are made from, as JSON gives it back."""
        return {**vars(self), "purpose": list(self.purpose), "name": name, "origin": origin}


def _draw_all(
    shards: Sequence[Shard],
    paths: Sequence[Path],
    draw: _Draw,
    workers: int,
) -> None:
    def read(shard: Shard, file: Path, out: Path) -> None:
        draw_candidates(file, out, name=shard.name, origin=shard.origin, **vars(draw))

    running: set[Future[None]] = set()
    with ThreadPoolExecutor(workers) as pool, bar(label="read shards", total=len(shards), unit="shards") as progress:
        for shard, out in zip(shards, paths, strict=True):
            if _is_current(out, draw.of(shard.name, shard.origin)):
                progress.update()
                continue
            file = shard.fetch()
            if len(running) == workers:
                running = _wait(running, progress)
            running.add(pool.submit(read, shard, file, out))
        while running:
            running = _wait(running, progress)


def _wait(running: set[Future[None]], progress: Any) -> set[Future[None]]:
    """Wait for one to end; raise what it raised, or return the others."""
    done, running = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
        progress.update()
    return running


def _draw_lines(path: Path, text: str, draws: Iterator[float], threshold: float, writer: ParquetStream) -> int:
    seen = 0
    for (number, line), priority in zip(iter_lines(path), draws, strict=False):
        seen = number
        if priority < threshold:
            decoded = line.decode("utf-8", errors="replace").removeprefix("\ufeff")
            value = json_text(f"{path}, line {number}", decoded, text)
            _add(writer, number - 1, priority, value)
    return seen


def _draw_parquet(path: Path, text: str, draws: Iterator[float], threshold: float, writer: ParquetStream) -> int:
    from pyarrow import array

    seen = 0
    for batch in text_batches(path, text):
        values = np.fromiter(islice(draws, len(batch)), dtype=float, count=len(batch))
        taken = np.flatnonzero(values < threshold)
        for index, value in zip(taken.tolist(), raw_texts(batch.take(array(taken))), strict=True):
            decoded = None if value is None else value.decode("utf-8", errors="replace")
            _add(writer, seen + index, float(values[index]), decoded)
        seen += len(batch)
    return seen


def _add(writer: ParquetStream, row: int, priority: float, text: str | None) -> None:
    stripped = (text or "").strip()
    if stripped:
        writer.add((row, priority, _LONE_SURROGATE.sub("\ufffd", stripped)))


def _chosen_rows(path: Path, name: str, chosen: np.ndarray) -> Iterator[Row]:
    from pyarrow import array

    start = 0
    with _candidates(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["row", "text"])
            taken = table.filter(array(chosen[start : start + len(table)]))
            start += len(table)
            for row, text in zip(*taken.to_pydict().values(), strict=True):
                yield Row(f"{name}#{row}", f"{name}#{row}", text)


def _is_current(path: Path, made_from: dict[str, Any]) -> bool:
    """Whether candidates are whole, to the bit, and of this draw; else they are written again."""
    # Parquet has checksums of pages only: another bit in its metadata can be another number of rows.
    try:
        return _digest_of(path).read_bytes() == sha256(path).encode() and _metadata(path)[_MADE_FROM] == made_from
    except (OSError, OdysseyError):
        return False


def _digest_of(path: Path) -> Path:
    """Where the sha256 of a file of candidates is."""
    return path.with_name(f"{path.name}.sha256")


def _priorities(path: Path) -> np.ndarray:
    with _candidates(path) as file:
        values: np.ndarray = file.read(columns=["priority"]).column(0).to_numpy()
    return values


def _metadata(path: Path) -> dict[str, Any]:
    with _candidates(path) as file:
        stored = file.metadata.metadata
        return {key: json.loads(stored[key.encode()]) for key in _KEYS}


def _footer(path: Path) -> Any:
    with _candidates(path) as file:
        return file.metadata


@contextmanager
def _candidates(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pyarrow.ArrowException, OSError, LookupError, TypeError, ValueError) as error:  # the last three: metadata
        reason = str(error).partition("\n")[0]
        raise OdysseyError(f"{path}: damaged ({reason}); delete it and run the same command again") from None
