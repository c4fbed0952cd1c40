"""Stage `evaluate`: zero-shot and adapted perplexity on each domain's test split (paper, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from odyssey import models, scoring, tokenization
from odyssey.corpora.parquet import read_texts
from odyssey.layout import Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.perplexity import Score
from odyssey.settings import Settings
from odyssey.stages.cells import chosen_models, missing_cells, split_digests
from odyssey.stages.units import unit, units
from odyssey.store import check_folder, new_folder, write_json


def run(settings: Settings, layout: Layout, *, model: str | None = None, domain: str | None = None) -> None:
    """Score each domain's test split before and after adaptation, with one model or all; finished cells are kept."""
    for name in chosen_models(settings, model, layout.data / "evaluate"):
        _run_model(settings, layout, name, domain)


def origins(settings: Settings, layout: Layout, model: str) -> Callable[[str], dict[str, Any]]:
    """What a model's cells are made from, by domain. Raises OdysseyError if it is not there or damaged."""
    chosen, rules = settings.model(model), settings.evaluate
    base = check_folder(layout.pretrained(model), "pretrain")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), "adapt"),
            "test": split_digests(layout, name)["test"],
            "settings": {**rules.model_dump(exclude={"batch_tokens"}), "context": chosen.context},
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers"),
        }

    return made_from


def _run_model(settings: Settings, layout: Layout, model: str, domain: str | None) -> None:
    """Store sums, counts and, for each token scored, its NLL of the base and the adapted `model`, id and document."""
    rules, made_from = settings.evaluate, origins(settings, layout, model)
    original = None
    for name, folder, origin in missing_cells(settings, model, domain, layout.evaluated, made_from, "evaluate"):
        original = original or models.load(layout.pretrained(model), rules.precision, on_gpu=False)
        with new_folder(folder, origin, {"batch_tokens": rules.batch_tokens}) as temporary:
            _evaluate(settings, layout, model, name, original, temporary)
        models.free_memory()


def _evaluate(
    settings: Settings, layout: Layout, model: str, domain: str, original: models.Loaded, folder: Path
) -> None:
    rules, context, test = settings.evaluate, settings.model(model).context, layout.split(domain, "test")
    network, tokenizer = original
    ids, n_bytes, row_of = tokenization.encode_by_row(tokenizer, read_texts(test), rules.separator)
    adapted, _ = models.load(layout.adapted(model, domain), rules.precision, on_gpu=False)
    scores: dict[str, Any] = {"context": context, "separator": rules.separator}
    scores["parameters"] = models.parameters(network)
    for label, scorer in (("zero_shot", network), ("adapted", adapted)):
        told = f"{model} on {domain}, {label.replace('_', '-')}"
        with models.at_work(scorer) as working:
            nll = scoring.token_nll(working, ids, context, rules.batch_tokens, label=told)
        np.save(folder / f"{label}.npy", nll)
        scores[label] = Score.of(nll, n_bytes).as_dict()
    np.save(folder / "token_ids.npy", ids[1:])
    scores["unit"] = unit(settings, domain)
    np.save(folder / "units.npy", units(settings, layout, model, domain, row_of)[1])
    write_json(folder / "scores.json", scores)
