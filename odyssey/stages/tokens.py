"""Stage `tokens`: which tokens get better and worse, on seeded chunks of train and test (paper, section 3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odyssey import models, tokenization
from odyssey.corpora.parquet import read_texts
from odyssey.layout import SUMMARY, Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.science.tokens import token_table
from odyssey.science.windows import chunk_starts
from odyssey.settings import Settings
from odyssey.stages.cells import chosen_models, missing_cells, split_digests
from odyssey.store import check_folder, new_folder, write_csv, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COLUMNS = ("token_id", "token", "count", "nll_before", "nll_after", "change", "contribution")


def run(settings: Settings, layout: Layout, *, model: str | None = None, domain: str | None = None) -> None:
    """Write train.csv, test.csv and summary.json for each model and domain, or for those given."""
    for name in chosen_models(settings, model, layout.data / "tokens"):
        _run_model(settings, layout, name, domain)


def _run_model(settings: Settings, layout: Layout, model: str, domain: str | None) -> None:
    base, precision = check_folder(layout.pretrained(model), "pretrain"), settings.evaluate.precision

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), "adapt"),
            "domain": split_digests(layout, name),
            "settings": {
                **settings.model_dump(include={"seed", "tokens"}),
                **settings.evaluate.model_dump(exclude={"batch_tokens"}),
                "context": settings.model(model).context,
            },
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers"),
        }

    original = None
    for name, folder, origin in missing_cells(settings, model, domain, layout.tokens, made_from, "tokens"):
        original = original or models.load(layout.pretrained(model), precision)
        with new_folder(folder, origin, {"batch_tokens": settings.evaluate.batch_tokens}) as temporary:
            _compare(settings, layout, model, name, original, temporary)
        models.free_memory()


def _compare(
    settings: Settings, layout: Layout, model: str, domain: str, original: models.Loaded, folder: Path
) -> None:
    network, tokenizer = original
    adapted, _ = models.load(layout.adapted(model, domain), settings.evaluate.precision)
    analyse = partial(_analyse, settings, layout, model, domain, tokenizer)
    summary = {split: analyse(split, (network, adapted), folder) for split in ("train", "test")}
    write_json(folder / SUMMARY, {**summary, "newline_ids": tokenization.newline_ids(tokenizer)})


def _analyse(
    settings: Settings,
    layout: Layout,
    model: str,
    domain: str,
    tokenizer: PreTrainedTokenizerBase,
    split: str,
    networks: tuple[PreTrainedModel, PreTrainedModel],
    folder: Path,
) -> dict[str, Any]:
    """Write one split's table; return what it was computed from."""
    rules = settings.tokens
    ids, _ = tokenization.encode(tokenizer, read_texts(layout.split(domain, split)), settings.evaluate.separator)
    rng = generator(settings.seed, "tokens", domain, split)
    starts = chunk_starts(len(ids), rules.chunk_tokens, rules.chunks, rng)
    chunks = [ids[start : start + rules.chunk_tokens] for start in starts]
    # A chunk is a text of its own: its first token is not predicted.
    predicted = np.concatenate([chunk[1:] for chunk in chunks])
    context = settings.model(model).context
    before, after = (
        np.concatenate([models.token_nll(n, chunk, context, settings.evaluate.batch_tokens) for chunk in chunks])
        for n in networks
    )
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
