"""Stage `evaluate`: zero-shot and adapted perplexity on each domain's test split (paper, section 2.3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from odyssey import models
from odyssey.corpora.parquet import read_texts
from odyssey.layout import Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.perplexity import Score
from odyssey.settings import Settings
from odyssey.stages.cells import missing_cells
from odyssey.store import check_folder, new_folder, sha256, write_json


def run(settings: Settings, layout: Layout, *, model: str, domain: str | None = None) -> None:
    """Score each domain's test split with the base and the adapted `model`; store sums, counts and per-token NLL."""
    base = check_folder(layout.pretrained(model), f"pretrain@{model}")
    check_folder(layout.sample, "sample")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), f"adapt@{model}"),
            "test": sha256(layout.split(name, "test")),
            "settings": settings.evaluate.model_dump(),
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers"),
        }

    original = None
    for name, folder, origin in missing_cells(settings, model, domain, layout.evaluated, made_from, "evaluate"):
        original = original or models.load(layout.pretrained(model))
        network, tokenizer = original
        context = models.context_of(network)
        ids, n_bytes = models.encode(tokenizer, read_texts(layout.split(name, "test")), settings.evaluate.separator)
        with new_folder(folder, origin) as temporary:
            adapted, _ = models.load(layout.adapted(model, name))
            scores: dict[str, Any] = {"context": context, "separator": settings.evaluate.separator}
            for label, scorer in (("zero_shot", network), ("adapted", adapted)):
                nll = models.token_nll(scorer, ids, context, settings.evaluate.batch_tokens)
                np.save(temporary / f"{label}.npy", nll)
                scores[label] = Score.of(nll, n_bytes).as_dict()
            np.save(temporary / "token_ids.npy", ids[1:].astype(np.int32))
            write_json(temporary / "scores.json", scores)
