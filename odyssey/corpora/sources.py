"""Source corpora that are drawn text by text: those of the hub that published models have read, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from odyssey.corpora import download, hub, local
from odyssey.corpora.parquet import Row
from odyssey.corpora.shards import Shard, sample_shards
from odyssey.corpora.writer import RowWriter
from odyssey.errors import OdysseyError
from odyssey.published import CORPORA
from odyssey.science.sampling import lowest, priorities
from odyssey.sections import HubSource, LocalSource

FILES = {"openwebtext": "plain_text/train-*.parquet", "redpajama": "*_sample.jsonl"}
"""Which files of a corpus's repository hold its texts."""
DOLMA_URLS = "urls/v1_6-sample.txt"
"""Dolma's repository lists where its files are, on another host."""


def sample(source: HubSource, commit: str, out: Path, work: Path, seed: int, workers: int) -> dict[str, int]:
    """Write a uniform sample of a hub corpus at a commit to `out`; rows written, and rows there are.

    What has been drawn of each file is kept in `work`, for the caller to delete, so that a killed
    run goes on; the files stay in the hub's cache. See `sample_shards` for the bound on memory and `hub`
    for what is raised.
    """
    about = CORPORA[source.corpus]
    drawn = sample_shards(
        shards(source, commit),
        work,
        out,
        rows=source.rows,
        population=about.rows,
        text="text",
        seed=seed,
        purpose=("sample", "source"),
        workers=workers,
    )
    return {"rows": drawn.rows, "documents": drawn.rows, "population_rows": drawn.population}


def shards(source: HubSource, commit: str) -> list[Shard]:
    """The files of a corpus, sorted by name; raises OdysseyError if its repository has none."""
    from huggingface_hub import cached_assets_path

    repo = CORPORA[source.corpus].repo
    if source.corpus == "dolma":
        listed = hub.fetch(repo, DOLMA_URLS, commit, "dataset").read_text(encoding="utf-8").split()
        # A folder for each commit: another one may mean other files of the same names.
        folder = cached_assets_path("odyssey", "dolma", commit)
        fetches: list[tuple[str, Callable[[], Path]]] = [
            (url.rpartition("/")[2], partial(download.fetch_url, url, folder)) for url in listed
        ]
    else:
        names = (file.path for file in hub.list_files(repo, commit, "dataset"))
        wanted = [name for name in names if fnmatchcase(name, FILES[source.corpus])]
        fetches = [(name, partial(hub.fetch, repo, name, commit, "dataset")) for name in wanted]
    if not fetches:
        looked_for = DOLMA_URLS if source.corpus == "dolma" else FILES[source.corpus]
        raise OdysseyError(f"dataset '{repo}' at {commit}: nothing in or called {looked_for}; choose another revision")
    in_order = sorted(fetches, key=lambda one: one[0])
    return [Shard(name, fetch, origin=f"{repo}@{commit}") for name, fetch in in_order]


def sample_local(source: LocalSource, root: Path, out: Path, seed: int) -> dict[str, Any]:
    """Write a uniform sample of a user's own documents to `out`; memory: the drawn texts.

    By the rule of `sample_shards`: the documents with the smallest priorities, in their order.
    """
    documents = local.read_documents(root / source.path, source.text)
    number = count()
    numbered = zip(priorities(seed, ("sample",), "source"), zip(number, documents, strict=False), strict=False)
    drawn = [document for _, document in sorted(row for _, row in lowest(numbered, source.rows))]
    with RowWriter(out) as writer:
        rows = writer.write(Row(document.id, document.id, document.text.strip()) for document in drawn)
    words = sum(len(document.text.split()) for document in drawn)
    # The last number went to a document that was not there.
    return {"rows": rows, "documents": rows, "words": words, "population_rows": next(number) - 1}
