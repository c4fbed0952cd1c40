"""Stage `tokens`: which tokens get better and worse, on seeded chunks of train and test (paper, section 3).

And which tokens are a domain's own, for what the paper leaves to future work (section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from odyssey import models, scoring, tokenization
from odyssey.corpora.parquet import read_texts
from odyssey.layout import SUMMARY, Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.science.token_classes import classify, keyness, specific
from odyssey.science.tokens import token_table
from odyssey.science.windows import chunk_starts
from odyssey.settings import Settings
from odyssey.stages.cells import chosen_models, missing_cells, split_digests
from odyssey.store import check_file, check_folder, new_folder, write_csv, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COLUMNS = ("token_id", "token", "count", "nll_before", "nll_after", "change", "contribution")
VOCABULARY = ("token_id", "token", "class", "train_count", "source_count", "log_odds", "z")
BATCH = 4096
"""Texts whose tokens are counted at a time."""


class _Base(NamedTuple):
    """What all of a model's cells are compared with."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source_counts: np.ndarray
    """(V,) of each token id in the source corpus."""


def run(settings: Settings, layout: Layout, *, model: str | None = None, domain: str | None = None) -> None:
    """Write train.csv, test.csv, vocabulary.csv and summary.json for each model and domain, or for those given."""
    for name in chosen_models(settings, model, layout.data / "tokens"):
        _run_model(settings, layout, name, domain)


def origins(settings: Settings, layout: Layout, model: str) -> Callable[[str], dict[str, Any]]:
    """What a model's cells are made from, by domain. Raises OdysseyError if it is not there or damaged."""
    base, source = check_folder(layout.pretrained(model), "pretrain"), check_file(layout.source, "sample")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), "adapt"),
            "source": source,
            "domain": split_digests(layout, name),
            "settings": {
                **settings.model_dump(include={"seed", "tokens"}),
                **settings.evaluate.model_dump(exclude={"batch_tokens"}),
                "context": settings.model(model).context,
            },
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers"),
        }

    return made_from


def _run_model(settings: Settings, layout: Layout, model: str, domain: str | None) -> None:
    original, made_from = None, origins(settings, layout, model)
    for name, folder, origin in missing_cells(settings, model, domain, layout.tokens, made_from, "tokens"):
        original = original or _load(settings, layout, model)
        with new_folder(folder, origin, {"batch_tokens": settings.evaluate.batch_tokens}) as temporary:
            _compare(settings, layout, model, name, original, temporary)
        models.free_memory()


def _load(settings: Settings, layout: Layout, model: str) -> _Base:
    network, tokenizer = models.load(layout.pretrained(model), settings.evaluate.precision, on_gpu=False)
    rng = generator(settings.seed, "tokens", "source")
    texts = draw_texts(layout.source, settings.tokens.source_texts, rng)
    return _Base(network, tokenizer, count_tokens(tokenizer, texts, settings.evaluate.separator))


def draw_texts(path: Path, most: int, rng: np.random.Generator) -> list[str]:
    """Texts of a file of rows, in its order: all of them, or `most` drawn uniformly without replacement."""
    import pyarrow.parquet

    population = pyarrow.parquet.read_metadata(path).num_rows
    if population <= most:
        return read_texts(path)
    return read_texts(path, np.sort(rng.choice(population, size=most, replace=False)))


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], separator: str) -> np.ndarray:
    """How often each token id (V,) occurs in the joined texts; ids are held of a batch of texts only."""
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        # An empty text before it stands for the last batch: the separator between the two counts.
        ids, _ = tokenization.encode(tokenizer, ["", *batch] if start else batch, separator)
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def _compare(settings: Settings, layout: Layout, model: str, domain: str, original: _Base, folder: Path) -> None:
    network, tokenizer, source_counts = original
    adapted, _ = models.load(layout.adapted(model, domain), settings.evaluate.precision, on_gpu=False)
    encode = partial(tokenization.encode, tokenizer, separator=settings.evaluate.separator)
    train, test = (encode(read_texts(layout.split(domain, split)))[0] for split in ("train", "test"))
    _write_vocabulary(folder / "vocabulary.csv", tokenizer, train, test, source_counts)
    analyse = partial(_analyse, settings, model, domain, tokenizer, (network, adapted), folder)
    about = {
        "train": analyse("train", train),
        "test": analyse("test", test),
        "train_tokens": len(train),
        "source_tokens": int(source_counts.sum()),
        "newline_ids": tokenization.newline_ids(tokenizer),
    }
    write_json(folder / SUMMARY, about)


def _write_vocabulary(
    path: Path, tokenizer: PreTrainedTokenizerBase, train: np.ndarray, test: np.ndarray, source_counts: np.ndarray
) -> None:
    """A line for each token id of train and test, whole: what kind of token it is, and whether it is the domain's."""
    train_counts, test_counts = (np.bincount(ids, minlength=len(source_counts)) for ids in (train, test))
    seen = np.flatnonzero(train_counts + test_counts)
    texts = tokenization.token_texts(tokenizer, seen.tolist())
    classes = classify(texts, specific(train_counts, source_counts)[seen])
    numbers = (column[seen].tolist() for column in (train_counts, source_counts, *keyness(train_counts, source_counts)))
    write_csv(path, VOCABULARY, zip(seen.tolist(), map(display, texts), classes.tolist(), *numbers, strict=True))


def _analyse(
    settings: Settings,
    model: str,
    domain: str,
    tokenizer: PreTrainedTokenizerBase,
    networks: tuple[PreTrainedModel, PreTrainedModel],
    folder: Path,
    split: str,
    ids: np.ndarray,
) -> dict[str, Any]:
    """Write the table of chunks of one split (n,); return what it was computed from."""
    rules = settings.tokens
    rng = generator(settings.seed, "tokens", domain, split)
    starts = chunk_starts(len(ids), rules.chunk_tokens, rules.chunks, rng)
    chunks = [ids[start : start + rules.chunk_tokens] for start in starts]
    # A chunk is a text of its own: its first token is not predicted.
    predicted = np.concatenate([chunk[1:] for chunk in chunks])
    context = settings.model(model).context
    batch_tokens = settings.evaluate.batch_tokens

    def score(side: str, network: PreTrainedModel) -> np.ndarray:
        label = f"{model} on {domain}, {split}, {side}"
        with models.at_work(network) as working:
            return scoring.texts_nll(working, chunks, context, batch_tokens, label=label)

    before, after = map(score, ("zero-shot", "adapted"), networks)
    table = token_table(predicted, before, after)
    names = map(display, tokenization.token_texts(tokenizer, table.token_id.tolist()))
    write_csv(
        folder / f"{split}.csv",
        COLUMNS,
        zip(table.token_id.tolist(), names, *(column.tolist() for column in table[1:]), strict=True),
    )
    return {
        "chunks": len(chunks),
        "chunks_wanted": rules.chunks,
        "tokens": len(predicted),
        "nll_before": float(before.mean(dtype=np.float64)),
        "nll_after": float(after.mean(dtype=np.float64)),
    }


def display(token: str) -> str:
    """A token's text as one visible line: control and white-space characters as escapes, spaces kept."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in token)
