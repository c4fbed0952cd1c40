"""What a study did, stage by stage, in words.

Every sentence is made from the settings and from the stages' counts, so that it is true of any study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from odyssey.corpora import m2d2
from odyssey.layout import SOURCE
from odyssey.published import CORPORA
from odyssey.reporting import method_claims
from odyssey.reporting.parameters import OWN, m2d2_by_revision, plain
from odyssey.reporting.words import listed, percent, span
from odyssey.sections import SPLITS, HubSource, LocalSource, PublishedModel, Recipe, TrainedModel
from odyssey.settings import Settings

NAMES = {"openwebtext": "OpenWebText", "dolma": "Dolma", "redpajama": "RedPajama"}
"""The hub's source corpora as the paper calls them."""

Facts = Mapping[str, Mapping[str, Any]]
"""What a stage counted, by corpus: its summary.json of `source` and of every domain."""


def source_name(settings: Settings) -> str:
    """What figures call the source corpus."""
    source = settings.source
    return NAMES[source.corpus] if isinstance(source, HubSource) else f"the source corpus of “{settings.study}”"


def id_names(settings: Settings) -> tuple[str, str]:
    """What the ids of the distance figure are: on its axis, and below it."""
    count = sum(map(len, m2d2_by_revision(settings).values()))
    if not count:
        return "id of the domain", "their places in the study, portion by portion"
    rest = f"; from {len(m2d2.domains()) + 1} on, the domains that are not of M2D2" * (count < len(settings.domains))
    return "id of the domain in the paper's appendix A.2", f"those of the paper's appendix A.2{rest}"


def method(
    settings: Settings, sampled: Facts, embedded: Facts, scores: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The study's stages as (name, what it did), with the numbers of this run."""
    trained = {name: model for name, model in settings.models.items() if isinstance(model, TrainedModel)}
    published = {name: model for name, model in settings.models.items() if isinstance(model, PublishedModel)}
    units = dict.fromkeys(score["unit"] for score in scores)
    texts = {
        "sample": _sample(settings, sampled),
        "pretrain": _pretrain(settings.pretrain, trained) if settings.pretrain and trained else "",
        "models": _published(published) if published else "",
        "embed": _embed(settings, embedded),
        "similarity": (
            "MMD (linear kernel) = |m − m′|² and FD = |m − m′|² + tr(C + C′ − 2 (C C′)^½), with the means m and the "
            "covariances C of the two samples: squared distances between unit vectors."
        ),
        "adapt": _adapt(settings),
        "evaluate": _evaluate(settings, scores),
        "tokens": method_claims.tokens(settings),
        "joins": method_claims.joins(settings.joins) if settings.joins else "",
        "claims": method_claims.claims(settings, listed((f"test {unit}s" for unit in units), " or ")),
    }
    return [(stage, text) for stage, text in texts.items() if text]


def _sample(settings: Settings, sampled: Facts) -> str:
    domains = [sampled[name] for name in settings.domains]
    counts = listed(f"{span([about[split]['rows'] for about in domains])} ({split})" for split in SPLITS)
    m2d2s, limited = m2d2_by_revision(settings), set(settings.sample.rows.model_dump().values()) != {None}
    sentences = [
        f"Source corpus: {_source(settings, sampled[SOURCE])}.",
        f"Domains: {listed(_domains(settings), '; ')}. Rows of each: {counts}.",
        "Of M2D2's these are the first ones of a split that is limited." if m2d2s and limited else "",
        _words(sampled[SOURCE], [about["train"] for about in domains]),
        _apart(settings),
    ]
    if len(settings.adapted) < len(settings.domains):
        sentences.append(
            f"Distances are measured for all {len(settings.domains)} domains, and models adapted to "
            f"{len(settings.adapted)} of them."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def _source(settings: Settings, about: Mapping[str, Any]) -> str:
    source, n, population = settings.source, about["rows"], about["population_rows"]
    drawn, chance = (f"all {n:,}", "") if n == population else (f"{n:,} of {population:,}", ", at random")
    if isinstance(source, HubSource):
        where = f"{NAMES[source.corpus]} ({CORPORA[source.corpus].repo}, revision {_short(source.revision)})"
        return f"{where}, {drawn} texts{chance}"
    where = source.path if isinstance(source, LocalSource) else f"documentation strings of {listed(source.modules)}"
    if not _in_documents(settings):
        return f"the texts of {where}, {drawn}{chance}"
    return f"{where}, {drawn} rows of up to {settings.sample.row_words} words, from documents that no domain uses"


def _in_documents(settings: Settings) -> bool:
    """Whether the source corpus is drawn document by document from what no domain uses; else text by text."""
    trained = any(isinstance(model, TrainedModel) for model in settings.models.values())
    return settings.source.corpus == "docstrings" or (isinstance(settings.source, LocalSource) and trained)


def _domains(settings: Settings) -> Iterable[str]:
    """How many domains are of each kind, and where they come from."""
    for revision, names in m2d2_by_revision(settings).items():
        yield f"{len(names)} of M2D2 ({m2d2.REPO}, revision {_short(revision)}), in its own rows and splits"
    for kind, name in OWN.items():
        if count := sum(domain.corpus == kind for domain in settings.domains.values()):
            yield f"{count} of {name}, split by document, in rows of up to {settings.sample.row_words} words"


def _words(source: Mapping[str, Any], domains: Sequence[Mapping[str, Any]]) -> str:
    """How long rows are: an embedding is of a row, so distances compare like with like only if they are alike."""
    mean = sum(about["words"] for about in domains) / sum(about["rows"] for about in domains)
    of_source = f", one of the source corpus {source['words'] / source['rows']:.0f}" if "words" in source else ""
    return f"A row of the domains' train splits has {mean:.0f} words on average{of_source}."


def _apart(settings: Settings) -> str:
    """Which texts are known not to be in two places."""
    own = {domain.corpus for domain in settings.domains.values()} & set(OWN)
    source = {settings.source.corpus} if _in_documents(settings) else set()
    if not own | source:
        return "Texts are taken as they are: whether one is in two corpora was not looked at."
    rule = settings.sample
    sentences = [
        f"Of {listed(OWN[kind] for kind in OWN if kind in own | source)}, documents of fewer than "
        f"{rule.min_document_words} words are left out, and near-copies: at least {rule.near_copy:.0%} of their "
        f"shingles of {rule.shingle_words} words are in another one.",
        "None of these documents is in two splits" + (", nor in the source corpus and in a split." if source else ".")
        if own
        else "",
        "" if source else "Whether the source corpus holds them too was not looked at.",
        "Texts of M2D2 were compared with no others." if m2d2_by_revision(settings) else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _pretrain(recipe: Recipe, models: Mapping[str, TrainedModel]) -> str:
    rates = listed(f"{model.pretrain_learning_rate:g} ({name})" for name, model in models.items())
    return (
        f"{listed(models)}: trained from scratch, in GPT-2's architecture, on the source corpus, with a byte-level BPE "
        f"made from it. Learning rate {rates}; {_recipe(recipe)}."
    )


def _published(models: Mapping[str, PublishedModel]) -> str:
    parts = (
        f"{name} is {model.checkpoint}{f' at revision {_short(model.revision)}' if model.revision else ''}, read in "
        f"windows of {model.context:,} tokens"
        for name, model in models.items()
    )
    return f"Published checkpoints: {listed(parts, '; ')}."


def _short(revision: str) -> str:
    """A commit as it is usually written; the parameters below have all of it."""
    return revision[:12] if len(revision) == 40 else revision


def _recipe(recipe: Recipe) -> str:
    """What all training shares, in one clause after another."""
    engine = recipe.engine
    micro = f" in micro-batches of {engine.micro_batch_size}" if engine.micro_batch_size < recipe.batch_size else ""
    kept = ["the weights"] * engine.offload_parameters + ["the optimiser's state"] * engine.offload_optimizer
    state = f" with {' and '.join(kept)} in the machine's memory" if kept else ""
    parts = [
        f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)}",
        f"batches of {recipe.batch_size} sequences{micro}",
        f"{recipe.schedule} rate{f' after a warm-up over {recipe.warmup:.0%} of the steps' if recipe.warmup else ''}",
        f"AdamW with weight decay {recipe.weight_decay:g}",
        f"gradients clipped at {recipe.gradient_clipping:g}",
        recipe.precision + (", the optimiser's weights float32" if recipe.precision == "bfloat16" else ""),
    ]
    parts += [f"ZeRO stage {engine.zero_stage}{state}"] * bool(engine.zero_stage)
    parts += ["activations computed again in the backward pass"] * engine.activation_checkpointing
    return "; ".join(parts)


def _embed(settings: Settings, embedded: Facts) -> str:
    rule, domains = settings.embed, [embedded[name] for name in settings.domains]
    source, rest = (_cut_share(group) for group in ([embedded[SOURCE]], domains))
    about = embedded[SOURCE]
    products = "" if rule.precision == "float32" else f", which multiplies in {rule.precision}"
    joined = f"Consecutive rows of a domain are joined to texts of up to {rule.group_words} words. "
    return (joined if rule.group_words else "") + (
        f"Of each domain's train split {percent(rule.fraction)} of the rows, and of the source corpus "
        f"{percent(rule.source_fraction)}, or up to {rule.max_texts:,} rows where that is more, as unit vectors of "
        f"{about['encoder']} (d = {about['d']}){products}. It reads {about['max_seq_length']} tokens of a row; longer "
        f"were, and so were cut, {source} of the source's rows and {rest} of the domains'."
    )


def _cut_share(corpora: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(about['truncated'] for about in corpora) / sum(about['n'] for about in corpora):.1%}"


def _adapt(settings: Settings) -> str:
    rule = settings.adapt
    rates = listed(f"{model.adapt_learning_rate:g} ({name})" for name, model in settings.models.items())
    return (
        f"Each model trained further on each domain's train split, one domain at a time, with DeepSpeed. Learning rate "
        f"{rates}; {_recipe(rule)}. At {rule.curve_points} points on the way, the loss on the first "
        f"{percent(rule.train_start)} of train, on valid and on test."
    )


def _evaluate(settings: Settings, scores: Sequence[Mapping[str, Any]]) -> str:
    contexts = listed(f"{context:,}" for context in sorted({score["context"] for score in scores}))
    weights = f"weights and activations are {settings.evaluate.precision}, likelihoods float32"
    precision = "all in float32" if settings.evaluate.precision == "float32" else weights
    several = (
        " It is per token, so compare it between models only if their vocabularies are equal; bits per byte always "
        "compare."
    )
    return (
        f"Rows joined with {plain(settings.evaluate.separator)}, tokenised without special tokens, in consecutive "
        f"windows of {contexts} tokens that overlap by one: all tokens but the first are scored once; "
        f"{precision}. Perplexity = exp(sum of NLL / tokens), "
        f"natural logarithm.{several if len(settings.models) > 1 else ''} "
        f"{span([score['zero_shot']['tokens'] for score in scores])} test tokens a domain."
    )
