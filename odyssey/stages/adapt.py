"""Stage `adapt`: additional pretraining on each domain, and what happens as it goes on (paper, sections 2.1 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from odyssey import models, scoring, tokenization
from odyssey.corpora.parquet import read_texts
from odyssey.errors import OdysseyError
from odyssey.layout import CURVES, Layout
from odyssey.processes import count
from odyssey.provenance import code_digest, versions
from odyssey.science.windows import blocks
from odyssey.settings import Settings
from odyssey.stages.cells import chosen_models, missing_cells, split_digests
from odyssey.store import check_folder, new_folder, write_csv
from odyssey.unfinished import Unfinished, discard, resumable
from odyssey.watching import Curves, Watch, nobody

if TYPE_CHECKING:
    from odyssey.training import Trained


def run(
    settings: Settings,
    layout: Layout,
    *,
    model: str | None = None,
    domain: str | None = None,
    watch: Watch = nobody,
) -> None:
    """Adapt each model to each domain, or those given; finished cells are left alone.

    `watch` is told of the curves as they grow.
    """
    for name in chosen_models(settings, model, layout.data / "adapt"):
        _run_model(settings, layout, name, domain, watch)
        discard(layout, "adapt", name, *([domain] if domain is not None else []))


def origins(settings: Settings, layout: Layout, model: str) -> Callable[[str], dict[str, Any]]:
    """What a model's cells are made from, by domain. Raises OdysseyError if it is not there or damaged."""
    chosen = settings.model(model)
    base = check_folder(layout.pretrained(model), "pretrain")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "domain": split_digests(layout, name),
            "settings": {
                "seed": settings.seed,
                "adapt": settings.adapt.model_dump(exclude={"engine"}),
                "separator": settings.evaluate.separator,
                "learning_rate": chosen.adapt_learning_rate,
                "context": chosen.context,
            },
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers", "deepspeed"),
        }

    return made_from


def _run_model(settings: Settings, layout: Layout, model: str, domain: str | None, watch: Watch) -> None:
    recipe, made_from = settings.adapt, origins(settings, layout, model)
    for name, folder, origin in missing_cells(settings, model, domain, layout.adapted, made_from, "adapt"):
        with (
            watch(model, name, origin) as watched_by,
            resumable(layout, recipe, origin, "adapt", model, name) as kept,
        ):
            adapted, curves, trained = _adapt(settings, layout, model, name, watched_by, kept)
            engine = {**recipe.engine.model_dump(), "micro_batch_size": trained.micro_batch_size}
            how = {"engine": engine, "processes": count(), "batch_tokens": settings.evaluate.batch_tokens}
            with new_folder(folder, origin, how) as temporary:
                models.save(*adapted, temporary)
                write_csv(temporary / "curves.csv", ("step", "tokens", "fraction", *CURVES), curves)
                write_csv(temporary / "loss.csv", trained.steps[0]._fields, trained.steps)
            del adapted
        models.free_memory()


def _adapt(
    settings: Settings, layout: Layout, model: str, domain: str, watched_by: Curves, kept: Unfinished
) -> tuple[models.Loaded, list[tuple[float, ...]], Trained]:
    """A cell's model, the rows of its curves, and how it was trained."""
    from odyssey.training import n_steps, train

    recipe, rules, chosen = settings.adapt, settings.evaluate, settings.model(model)
    context = chosen.context
    network, tokenizer = models.load(layout.pretrained(model), recipe.precision)
    texts = {split: read_texts(layout.split(domain, split)) for split in ("train", "valid", "test")}
    start = texts["train"][: math.ceil(recipe.train_start * len(texts["train"]))]
    watched = {"train_start": start, "valid": texts["valid"], "test": texts["test"]}
    ids = {name: tokenization.encode(tokenizer, rows, rules.separator)[0] for name, rows in watched.items()}
    data = blocks(tokenization.encode(tokenizer, texts["train"], rules.separator)[0], context)
    del texts, start, watched  # large domains have gigabytes of text
    if not len(data):
        raise OdysseyError(f"domain '{domain}': its train split is shorter than one context of {context} tokens")
    for name, own in ids.items():
        if len(own) < 2:
            raise OdysseyError(f"domain '{domain}': too few tokens to score in {name} ({len(own)}); give it more texts")
    steps = n_steps(len(data), recipe)
    points = np.linspace(0, steps, recipe.curve_points).round().astype(int).tolist()

    def probe(step: int) -> list[float]:
        return [
            float(
                scoring.token_nll(
                    network, ids[name], context, rules.batch_tokens, label=f"{model} on {domain}, {name}"
                ).mean(dtype=float)
            )
            for name in CURVES
        ]

    trained = train(
        network,
        data,
        recipe,
        chosen.adapt_learning_rate,
        settings.seed,
        label=f"{model} on {domain}",
        probe=probe,
        probe_steps=points,
        watched_by=watched_by,
        kept=kept,
    )
    if trained.points[0].values == trained.points[-1].values:
        raise OdysseyError(f"{model} on {domain}: training changed nothing; is the learning rate 0?")
    curves = [
        (step, min(step * recipe.batch_size * context, data.size), step / steps, *nll) for step, nll in trained.points
    ]
    return (network, tokenizer), curves, trained
