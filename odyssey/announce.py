"""The first line of each command: what it will do, and how much of it there is.

Made from settings and files' sizes alone, so that it is there at once. What of it is done already
the stages say themselves, as they find it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from odyssey.sections import PublishedModel
from odyssey.settings import Settings


def sample(settings: Settings) -> str:
    """What is drawn of the source corpus and of the domains."""
    rows = settings.source.rows
    source = f"{'all' if rows is None else f'{rows:,}'} {'texts' if rows is None else _word(rows, 'row')}"
    return f"{source} of the source corpus and the splits of {_domains(settings)}, seed {settings.seed}"


def pretrain(settings: Settings, model: str | None) -> str:
    """Which models are fetched and which are trained."""
    chosen = settings.models if model is None else {model: settings.model(model)}
    fetched = [name for name, about in chosen.items() if isinstance(about, PublishedModel)]
    trained = [name for name in chosen if name not in fetched]
    epochs = settings.pretrain.epochs if settings.pretrain else 0
    parts = [f"fetch {_names(fetched, 'model')}"] if fetched else []
    parts += [f"train {_names(trained, 'model')} from scratch, {_count(epochs, 'epoch')}"] if trained else []
    return f"{'; '.join(parts)}, {_study(settings)}"


def embed(settings: Settings) -> str:
    """What is embedded, with what."""
    return f"rows of the source corpus and of {_domains(settings)}, with {settings.embed.encoder}"


def similarity(settings: Settings) -> str:
    """What is compared."""
    return f"MMD and FD of {_domains(settings)} to the source corpus"


def adapt(settings: Settings, model: str | None, domain: str | None) -> str:
    """Which cells are trained, and how long."""
    return f"{_cells(settings, model, domain)}, {_count(settings.adapt.epochs, 'epoch')} each"


def evaluate(settings: Settings, model: str | None, domain: str | None) -> str:
    """Which cells are scored."""
    return f"{_cells(settings, model, domain)}, the test split before and after adaptation"


def tokens(settings: Settings, model: str | None, domain: str | None) -> str:
    """Which cells are looked into, and how much of them."""
    rules = settings.tokens
    return (
        f"{_cells(settings, model, domain)}, up to {rules.chunks} chunks of {rules.chunk_tokens:,} tokens "
        "of train and of test each"
    )


def joins(settings: Settings, model: str | None, domain: str | None) -> str:
    """Which cells are trained and scored with which ways of joining rows; empty where the study asks for none."""
    if settings.joins is None:
        return ""
    return f"{_cells(settings, model, domain)}, rows joined by {', '.join(settings.joins)} on either side"


def cells(settings: Settings, model: str, chosen: Sequence[str]) -> str:
    """Which cells are done, from adaptation to what is found out of it."""
    if len(chosen) == 1:
        return f"{_cells(settings, model, chosen[0])}, every stage"
    settings.model(model)
    return f"{model} x {_count(len(chosen), 'domain')} of {_study(settings)}, every stage"


def sweep(settings: Settings, where: str) -> str:
    """What is swept, and where."""
    return f"what is missing of {_cells(settings)}, {where}"


def claims(settings: Settings, all_seeds: bool) -> str:
    """What claims are judged by."""
    by = "every seed that MLflow has" if all_seeds else f"{_cells(settings)}, seed {settings.seed}"
    return f"the paper's claims by {by}{f' of {_study(settings)}' if all_seeds else ''}"


def report(settings: Settings) -> str:
    """What is drawn and written."""
    return f"figures, tables and a page of {_cells(settings)}"


def headline(settings: Settings) -> str:
    """What is shown."""
    return f"perplexities and verdicts of {_cells(settings)}"


def track(settings: Settings, store: str) -> str:
    """What is published, and where."""
    return f"{_cells(settings)}, and a summary, to {store}"


def register(settings: Settings, model: str, domain: str | None, store: str) -> str:
    """What is entered where."""
    settings.model(model)
    what = f"{model} as it was pretrained" if domain is None else f"{model} adapted to {domain}"
    return f"{what}, {_study(settings)}, in the model registry of {store}"


def plan(studies: Sequence[Settings], gpu: str | None) -> str:
    """What is planned for what."""
    where = gpu or "this machine"
    if len(studies) == 1:
        return f"what {_cells(studies[0])} takes on {where}"
    cells = sum(len(settings.models) * len(settings.adapt_to) for settings in studies)
    return f"what {len(studies)} studies take on {where}, {_count(cells, 'cell')}"


def perplexity(model: str, text: Path) -> str:
    """What is scored by what."""
    return f"{_file(text)} by {model}"


def distance(source: Path, target: Path) -> str:
    """What is compared with what."""
    return f"MMD and FD between {_file(source)} and {_file(target)}"


def advise(model: str, domain: Path, probe: bool) -> str:
    """What is asked and by what it is answered."""
    how = "similarity, zero-shot perplexity and a probe" if probe else "similarity and zero-shot perplexity"
    return f"is {_end(model)} to be adapted to {_end(domain)}? {how}"


def _cells(settings: Settings, model: str | None = None, domain: str | None = None) -> str:
    """The chosen cells; raises OdysseyError for a model or a domain that the study does not have."""
    if model is not None:
        settings.model(model)
    if domain is not None:
        settings.domain(domain)
    models = list(settings.models) if model is None else [model]
    adapted = list(settings.adapted) if domain is None else [domain]
    if model is not None and domain is not None:
        return f"{model} on {domain} of {_study(settings)}"
    counted = _count(len(models) * len(adapted), "cell")
    return f"{_names(models, 'model')} x {_names(adapted, 'domain')} of {_study(settings)}, {counted}"


def _domains(settings: Settings) -> str:
    return f"{_count(len(settings.domains), 'domain')} of {_study(settings)}"


def _study(settings: Settings) -> str:
    return f"study '{settings.study}'"


def _names(names: list[str], kind: str) -> str:
    """One name as it is, of several the number."""
    return names[0] if len(names) == 1 else _count(len(names), kind)


def _count(number: int, kind: str) -> str:
    return f"{number:,} {_word(number, kind)}"


def _word(number: int, kind: str) -> str:
    return kind if number == 1 else f"{kind}s"


def _file(path: Path) -> str:
    """A file and its size, if it is there; what is wrong with it is told by who reads it."""
    with suppress(OSError, ValueError):  # a name too long, or with a NUL in it
        if path.is_file():
            return f"{path} ({path.stat().st_size:,} bytes)"
    return str(path)


def _end(path: str | Path) -> str:
    """The last two parts of a path or hub id, as a name."""
    return "/".join(Path(path).parts[-2:])
