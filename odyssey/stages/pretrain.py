"""Stage `pretrain`: base models, published or from scratch on the source corpus (paper, section 2.1)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey import models, tokenization
from odyssey.corpora import hub
from odyssey.corpora.parquet import read_texts
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.processes import count
from odyssey.provenance import code_digest, versions
from odyssey.published import check_checkpoint_license
from odyssey.science.splits import generator
from odyssey.science.windows import blocks
from odyssey.sections import PublishedModel, Recipe, TrainedModel
from odyssey.settings import Settings
from odyssey.store import check_file, missing, new_folder, prune, write_csv
from odyssey.unfinished import Unfinished, discard, resumable

if TYPE_CHECKING:
    from odyssey.training import Trained


def run(settings: Settings, layout: Layout, *, model: str | None = None) -> None:
    """Make one base model, or all: a trained one's checkpoint and loss.csv, or a published one's published.json."""
    if model is None:
        prune(layout.data / "pretrain", keep=set(settings.models))
    names = list(settings.models) if model is None else [model]
    made_from = partial(_made_from, settings, layout)
    for name, folder, origin in missing(names, layout.pretrained, made_from, "pretrain", unit="models"):
        chosen = settings.model(name)
        if isinstance(chosen, PublishedModel):
            with new_folder(folder, origin) as temporary:
                _look_at(name, chosen, settings, temporary)
            continue
        recipe = settings.pretrain
        assert recipe is not None  # Settings sees to it
        with resumable(layout, recipe, origin, "pretrain", name) as kept:
            made, trained = _train(name, chosen, recipe, settings, layout, kept)
            engine = {**recipe.engine.model_dump(), "micro_batch_size": trained.micro_batch_size}
            how = {"engine": engine, "processes": count()}
            with new_folder(folder, origin, how) as temporary:
                models.save(*made, temporary)
                write_csv(temporary / "loss.csv", trained.steps[0]._fields, trained.steps)
    discard(layout, "pretrain", *([model] if model is not None else []))


def _made_from(settings: Settings, layout: Layout, model: str) -> dict[str, Any]:
    chosen = settings.model(model)
    if isinstance(chosen, PublishedModel):
        check_checkpoint_license(chosen.checkpoint, settings.accept_licenses)
    packages = versions("torch", "transformers", "tokenizers", "deepspeed")
    origin = {"code": code_digest(__name__), "packages": packages}
    if isinstance(chosen, PublishedModel):
        settings_used = chosen.model_dump(exclude={"adapt_learning_rate", "revision"})
        if chosen.revision is None:
            return {**origin, "settings": settings_used, "files": models.checkpoint_files(chosen.checkpoint)}
        commit = hub.resolve(chosen.checkpoint, chosen.revision, "model")
        return {**origin, "settings": settings_used, "commit": commit}
    return {
        **origin,
        "source": check_file(layout.source, "sample"),
        "settings": {
            "seed": settings.seed,
            "pretrain": settings.pretrain and settings.pretrain.model_dump(exclude={"engine"}),
            "model": chosen.model_dump(exclude={"adapt_learning_rate"}),
            "separator": settings.evaluate.separator,
        },
    }


def _look_at(name: str, chosen: PublishedModel, settings: Settings, folder: Path) -> None:
    """Fetch a published model and load it once, so that what is wrong with it shows before anything is trained."""
    about = models.pin(chosen.checkpoint, chosen.revision, folder)
    network, _ = models.load(folder, settings.evaluate.precision)
    limit = models.context_of(network)
    if chosen.context > limit:
        raise OdysseyError(
            f"model '{name}': 'context' is {chosen.context} in the study, longer than the {limit} tokens that "
            f"{chosen.checkpoint} reads; lower it"
        )
    commit = f" at commit {about['commit'][:12]}" if about["commit"] else ""
    print(f"pretrain {name}: {models.parameters(network):,} parameters of {chosen.checkpoint}{commit}")


def _train(
    name: str,
    chosen: TrainedModel,
    recipe: Recipe,
    settings: Settings,
    layout: Layout,
    kept: Unfinished,
) -> tuple[models.Loaded, Trained]:
    models.quieten()
    from odyssey.training import train

    rows, shape = read_texts(layout.source), chosen.architecture
    tokenizer = tokenization.train_tokenizer(rows, shape.vocabulary, shape.context)
    ids, _ = tokenization.encode(tokenizer, rows, settings.evaluate.separator)
    data = blocks(ids, shape.context)
    if not len(data):
        raise OdysseyError(f"model '{name}': the source corpus has {len(ids)} tokens, fewer than one context")
    network = models.new_model(shape, tokenizer, settings.seed)
    print(f"pretrain {name}: {models.parameters(network):,} parameters, {data.size * recipe.epochs:,} tokens")
    trained = train(
        network,
        data,
        recipe,
        chosen.pretrain_learning_rate,
        settings.seed,
        label=f"pretrain {name}",
        shuffle=generator(settings.seed, "pretrain", name),
        kept=kept,
    )
    return (network, tokenizer), trained
