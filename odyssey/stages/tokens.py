"""Stage `tokens`: which tokens get better and worse, on seeded chunks of train and test (paper, section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odyssey import models
from odyssey.corpora.parquet import read_texts
from odyssey.layout import Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.science.tokens import token_table
from odyssey.science.windows import chunk_starts
from odyssey.settings import Settings
from odyssey.stages.cells import missing_cells, split_digests
from odyssey.store import check_folder, new_folder, write_csv, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COLUMNS = ("token_id", "token", "count", "nll_before", "nll_after", "change", "contribution")


def run(settings: Settings, layout: Layout, *, model: str, domain: str | None = None) -> None:
    """Write train.csv, test.csv and summary.json for each domain, or for the one given."""
    base = check_folder(layout.pretrained(model), f"pretrain@{model}")
    check_folder(layout.sample, "sample")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), f"adapt@{model}"),
            "domain": split_digests(layout, name),
            "settings": settings.model_dump(include={"seed", "tokens", "evaluate"}),
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers"),
        }

    original = None
    for name, folder, origin in missing_cells(settings, model, domain, layout.tokens, made_from, "tokens"):
        original = original or models.load(layout.pretrained(model))
        network, tokenizer = original
        with new_folder(folder, origin) as temporary:
            adapted, _ = models.load(layout.adapted(model, name))
            summary = {
                split: _analyse(settings, layout, name, split, tokenizer, (network, adapted), temporary)
                for split in ("train", "test")
            }
            write_json(temporary / "summary.json", summary)


def _analyse(
    settings: Settings,
    layout: Layout,
    domain: str,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    networks: tuple[PreTrainedModel, PreTrainedModel],
    folder: Path,
) -> dict[str, Any]:
    """Write one split's table; return what it was computed from."""
    rules = settings.tokens
    ids, _ = models.encode(tokenizer, read_texts(layout.split(domain, split)), settings.evaluate.separator)
    rng = generator(settings.seed, "tokens", domain, split)
    starts = chunk_starts(len(ids), rules.chunk_tokens, rules.chunks, rng)
    chunks = [ids[start : start + rules.chunk_tokens] for start in starts]
    # A chunk is a text of its own: its first token is not predicted.
    predicted = np.concatenate([chunk[1:] for chunk in chunks])
    context = models.context_of(networks[0])
    before, after = (
        np.concatenate([models.token_nll(n, chunk, context, settings.evaluate.batch_tokens) for chunk in chunks])
        for n in networks
    )
    table = token_table(predicted, before, after)
    names = (display(str(tokenizer.decode([int(token)]))) for token in table.token_id)
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
