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
from odyssey.stages.cells import chosen_models, missing_cells, split_digests
from odyssey.store import check_folder, new_folder, write_json


def run(settings: Settings, layout: Layout, *, model: str | None = None, domain: str | None = None) -> None:
    """Score each domain's test split before and after adaptation, with one model or all; finished cells are kept."""
    for name in chosen_models(settings, model, layout.data / "evaluate"):
        _run_model(settings, layout, name, domain)


def _run_model(settings: Settings, layout: Layout, model: str, domain: str | None) -> None:
    """Store sums, counts and per-token NLL of the base and the adapted `model`."""
    chosen, rules = settings.model(model), settings.evaluate
    base = check_folder(layout.pretrained(model), "pretrain")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), "adapt"),
            "test": split_digests(layout, name)["test"],
            "settings": {**rules.model_dump(), "context": chosen.context},
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers"),
        }

    original = None
    for name, folder, origin in missing_cells(settings, model, domain, layout.evaluated, made_from, "evaluate"):
        original = original or models.load(layout.pretrained(model), rules.precision)
        network, tokenizer = original
        ids, n_bytes = models.encode(tokenizer, read_texts(layout.split(name, "test")), rules.separator)
        with new_folder(folder, origin) as temporary:
            adapted, _ = models.load(layout.adapted(model, name), rules.precision)
            scores: dict[str, Any] = {"context": chosen.context, "separator": rules.separator}
            for label, scorer in (("zero_shot", network), ("adapted", adapted)):
                nll = models.token_nll(scorer, ids, chosen.context, rules.batch_tokens)
                np.save(temporary / f"{label}.npy", nll)
                scores[label] = Score.of(nll, n_bytes).as_dict()
            np.save(temporary / "token_ids.npy", ids[1:].astype(np.int32))
            write_json(temporary / "scores.json", scores)
