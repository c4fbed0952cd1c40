"""The model card of a study's model, as Markdown: what it is, what it was made from, and what was measured."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from odyssey.claims import WORSE
from odyssey.layout import SOURCE
from odyssey.model_terms import corpora, kind, repository, terms
from odyssey.record import Data
from odyssey.reporting.words import code, plain
from odyssey.science.perplexity import Score
from odyssey.sections import PublishedModel, Recipe
from odyssey.settings import Settings

CARD = "README.md"
"""Where the hub and its tools look for a model's card."""


@dataclass(frozen=True)
class Facts:
    """What a card tells of one model, beside the settings."""

    settings: Settings
    model: str
    domain: str | None
    """What it was adapted to; None for the base model."""
    name: str
    """In the registry."""
    scores: Mapping[str, Mapping[str, Any]]
    """scores.json of `evaluate` by domain: its own, or for a base model those of all domains."""
    similarity: Mapping[str, str]
    """The domain's row of similarity.csv; empty for a base model."""
    evidence: Mapping[str, str]
    """The cell's row of evidence.csv: interval and outcome; empty for a base model."""
    data: Sequence[Data]
    sha256: Mapping[str, str]
    """Of each file of `data`, by its name."""
    weights: Mapping[str, str]
    """sha256 of each file of weights."""
    commit: str | None
    """Of a published base model."""
    packages: Mapping[str, str]
    """Versions that it was trained with."""
    run_id: str
    code: str
    """Commit of the run, and whether files differed from it."""


def markdown(facts: Facts, load: str, store: str) -> str:
    """The whole card, with the metadata that the hub reads on top; `load` is the model's address in the `store`."""
    metadata = yaml.safe_dump(_metadata(facts), sort_keys=False)
    return "\n".join([f"---\n{metadata}---\n\n# {plain(facts.name)}\n", *_parts(facts, load, store)])


def description(facts: Facts, load: str, store: str, most: int) -> str:
    """The card without title and metadata, in at most `most` characters: sections too long for that are left out.

    Its first line is plain text, as it stands in lists of models.
    """
    parts = [*_parts(facts, load, store)]
    if len(whole := "\n".join(parts)) <= most:
        return whole
    rest = f"The whole card is the artifact `model/{CARD}`.\n"
    kept: list[str] = []
    for part in parts:
        if len("\n".join([*kept, part, rest])) <= most:
            kept.append(part)
    return "\n".join([*kept, rest])


def _parts(facts: Facts, load: str, store: str) -> Iterator[str]:
    """The card's sections; what one asks first before what one looks up."""
    measured = _measured(facts) if facts.domain else _measured_base(facts)
    limits = [_limits(facts), "", *terms(facts.settings, facts.model, facts.domain)]
    yield "\n".join([*_opening(facts), ""])
    for title, lines in (
        ("Measured", measured),
        ("Use", _use(facts, load, store)),
        ("Limits and licence", limits),
        ("Made from", _made_from(facts)),
    ):
        yield "\n".join([f"## {title}", "", *lines, ""])


def _metadata(facts: Facts) -> dict[str, Any]:
    chosen, used = facts.settings.model(facts.model), corpora(facts.settings, facts.model, facts.domain)
    about: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "license": "other"}
    if isinstance(chosen, PublishedModel) and chosen.revision is not None:
        about["base_model"] = chosen.checkpoint
    if datasets := [repo for corpus in used.values() if (repo := repository(corpus)) is not None]:
        about["datasets"] = datasets
    return about


def _opening(facts: Facts) -> Iterator[str]:
    settings, chosen = facts.settings, facts.settings.model(facts.model)
    yield f"{_headline(facts)}."
    yield ""
    size = f"{next(iter(facts.scores.values()))['parameters']:,} parameters, context of {chosen.context} tokens"
    if isinstance(chosen, PublishedModel):
        what = code(chosen.checkpoint) + (f" at commit `{facts.commit}`" if facts.commit else "")
    else:
        what = f"`{facts.model}`, a GPT-2 trained from scratch on the study's source corpus"
    what += f" ({size})"
    if facts.domain:
        domain = settings.domain(facts.domain)
        what += f", trained further on the domain `{facts.domain}` ({domain.portion}: {kind(domain)})"
    yield f"{what}. Study `{settings.study}`, seed {settings.seed}; MLflow run `{facts.run_id}`, code {facts.code}."
    if facts.evidence.get("outcome") == WORSE:
        yield ""
        yield (
            f"> **It got worse** at texts of `{facts.domain}`, beyond noise, by being trained on such texts. "
            "For these use the base model."
        )


def _headline(facts: Facts) -> str:
    """The numbers in one line of plain text; lists of models show some 25 characters of it."""
    if facts.domain:
        before, after = (Score(**facts.scores[facts.domain][key]).perplexity for key in ("zero_shot", "adapted"))
        came = f"{before:,.2f} to {after:,.2f}, {facts.evidence['outcome']}"
        return f"{came}: test perplexity on {facts.domain} before and after adaptation"
    found = [Score(**scores["zero_shot"]).perplexity for scores in facts.scores.values()]
    return f"{min(found):,.2f} to {max(found):,.2f}: test perplexity on {len(found)} domains, before adaptation"


def _measured(facts: Facts) -> Iterator[str]:
    assert facts.domain is not None
    scores, settings, far = facts.scores[facts.domain], facts.settings, facts.similarity
    before, after = (Score(**scores[key]) for key in ("zero_shot", "adapted"))
    interval = "no interval, as the test split is of one document"
    if facts.evidence["change_low"]:
        low, high = (float(facts.evidence[f"change_{end}"]) for end in ("low", "high"))
        share = f"{settings.claims.confidence:.0%}"
        interval = f"{share} interval {low:+,.2f} to {high:+,.2f}: {facts.evidence['outcome']}"
    old, new = before.perplexity, after.perplexity
    yield f"- Perplexity: **{new:,.2f}**, base model {old:,.2f}: {new - old:+,.2f}, x{new / old:.3f} ({interval})"
    old, new = before.bits_per_byte, after.bits_per_byte
    yield f"- Bits per byte: **{new:.4f}**, base model {old:.4f}: {new - old:+.4f}"
    yield f"- On: the test split of `{facts.domain}`, {after.tokens:,} tokens scored, {after.bytes:,} bytes"
    yield (
        f"- Distance of its train split to the source corpus: MMD {float(far['mmd']):.4f}, FD {float(far['fd']):.4f} "
        f"({int(far['n_target']):,} and {int(far['n_source']):,} texts, embedded by {code(settings.embed.encoder)})"
    )
    yield ""
    yield _method(facts, scores)


def _measured_base(facts: Facts) -> Iterator[str]:
    for domain, scores in facts.scores.items():
        score = Score(**scores["zero_shot"])
        numbers = f"perplexity {score.perplexity:,.2f}, {score.bits_per_byte:.4f} bits per byte"
        yield f"- Test split of `{domain}`: {numbers} ({score.tokens:,} tokens)"
    yield ""
    yield _method(facts, next(iter(facts.scores.values())))


def _method(facts: Facts, scores: Mapping[str, Any]) -> str:
    """How the numbers came about."""
    separator = code(repr(scores["separator"]))
    return (
        f"Perplexity is exp(sum of NLL / tokens), natural logarithm: rows joined with {separator}, "
        f"tokenised once without special tokens, scored in consecutive windows of {scores['context']} tokens that "
        f"overlap by one (each token but the first is scored once), in {facts.settings.evaluate.precision}. It is per "
        "token, so comparable between models with this tokenizer only; bits per byte is between all."
    )


def _use(facts: Facts, load: str, store: str) -> Iterator[str]:
    """Code that does what it says: a test runs it."""
    folder, separator = shlex.quote(facts.name), facts.settings.evaluate.separator
    options = f" --context {facts.settings.model(facts.model).context}"
    options += "" if separator == "\n" else f" --separator {shlex.quote(repr(separator)[1:-1])}"
    address, where = json.dumps(load), "  # in the project's folder" if re.match("sqlite:///[^/]", store) else ""
    yield "```python"
    yield "import mlflow"
    yield ""
    yield f"mlflow.set_tracking_uri({json.dumps(store)}){where}"
    yield f'parts = mlflow.transformers.load_model({address}, return_type="components")'
    yield 'model, tokenizer = parts["model"], parts["tokenizer"]'
    yield ""
    yield f"generator = mlflow.pyfunc.load_model({address})"
    yield 'text = generator.predict("The first", params={"max_new_tokens": 10})'
    yield "```"
    yield ""
    yield "The files are a plain checkpoint, too. This scores a UTF-8 file, one row a line, as above:"
    yield ""
    yield "```sh"
    yield f"export MLFLOW_TRACKING_URI={shlex.quote(store)}{where}"
    yield f"mlflow artifacts download --artifact-uri {shlex.quote(load)} --dst-path {folder}"
    yield f"odyssey perplexity --model {folder}/model --text rows.txt{options}"
    yield "```"


def _limits(facts: Facts) -> str:
    return (
        f"Made to measure what further training does, from one seed. Only perplexity was measured, on "
        f"texts of {'this domain' if facts.domain else 'these domains'}; nobody has looked at what it writes."
    )


def _made_from(facts: Facts) -> Iterator[str]:
    settings, chosen = facts.settings, facts.settings.model(facts.model)
    if isinstance(chosen, PublishedModel):
        where = code(chosen.checkpoint) + (f", revision `{chosen.revision}`" if chosen.revision else "")
        yield f"- Base model: {where}" + (f", commit `{facts.commit}`" if facts.commit else "")
    else:
        assert settings.pretrain is not None  # Settings sees to it
        shape = ", ".join(f"{key} {value}" for key, value in chosen.architecture.model_dump().items())
        yield f"- Architecture: GPT-2, {shape}"
        yield f"- Pretraining: {_recipe(settings.pretrain, chosen.pretrain_learning_rate)}"
    if facts.domain:
        yield f"- Adaptation: {_recipe(settings.adapt, chosen.adapt_learning_rate)}"
    if corpora(settings, facts.model, facts.domain):
        joined = f"rows joined with {code(repr(settings.evaluate.separator))}"
        yield f"- Sequences of {chosen.context} tokens, {joined}, seed {settings.seed}"
        yield f"- With {', '.join(f'{name} {version}' for name, version in facts.packages.items())}"
    for data in facts.data:
        counts = ", ".join(f"{count:,} {what}" for what, count in data.counts.items())
        hashes = f"md5 (DVC's) `{data.md5}`, sha256 `{facts.sha256[data.name]}`"
        if purpose := _purpose(facts, data):
            yield f"- `{data.name}` for {purpose}: {counts}; {hashes}"
    for name, sha256 in facts.weights.items():
        yield f"- `model/{name}`: sha256 `{sha256}`"


def _recipe(recipe: Recipe, rate: float) -> str:
    epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
    return (
        f"{epochs}, AdamW, learning rate {rate:g} ({recipe.schedule}, warm-up {recipe.warmup:g}), batches of "
        f"{recipe.batch_size} sequences, weight decay {recipe.weight_decay:g}, gradient clipping "
        f"{recipe.gradient_clipping:g}, {recipe.precision}"
    )


def _purpose(facts: Facts, data: Data) -> str:
    """What the data were used for with this model; empty if for nothing."""
    if data.name != SOURCE:
        return {"train": "adaptation", "valid": "the loss on the way", "test": "perplexity"}[data.context]
    published = isinstance(facts.settings.model(facts.model), PublishedModel)
    uses = ([] if published else ["pretraining"]) + (["similarity"] if facts.domain else [])
    return " and ".join(uses)
