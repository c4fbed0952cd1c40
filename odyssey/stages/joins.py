"""Stage `joins`: does how rows are joined, in training and in evaluation, make the damage? (paper, section 3)

The paper found that adaptation makes newline tokens worse and could not say why. Here each domain's rows are
joined in several ways on either side: by a newline, a space, or the tokenizer's end-of-text token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from odyssey import models, processes, scoring, tokenization
from odyssey.corpora.parquet import read_texts
from odyssey.errors import OdysseyError
from odyssey.layout import SUMMARY, Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.joins import SEPARATORS, Joined, by_group, joint_tokens, total
from odyssey.science.windows import blocks
from odyssey.sections import Join
from odyssey.settings import Settings
from odyssey.stages.cells import chosen_models, missing_cells, split_digests
from odyssey.stages.units import units
from odyssey.store import check_folder, new_folder, prune, write_csv, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SUMS = tuple(field.name for field in fields(Joined))
COLUMNS = (
    *("trained", "scored", *SUMS, "row_bytes", "change", "change_rest", "joint_contribution"),
    *("perplexity_before", "perplexity_after", "bits_per_byte_before", "bits_per_byte_after"),
)
DOCUMENT_COLUMNS = ("trained", "scored", "document", *SUMS)


class _Test(NamedTuple):
    """A test split joined in one way. The arrays but `ids` are of the tokens that are scored, all but the first."""

    ids: np.ndarray
    joint: np.ndarray
    document: np.ndarray
    """Index into `documents`."""
    documents: list[str]


def run(settings: Settings, layout: Layout, *, model: str | None = None, domain: str | None = None) -> None:
    """Write joins.csv and documents.csv for each model and domain, or for those given; finished cells are kept.

    summary.json says which ways of joining the study asks for. With null nothing else is there.
    """
    if settings.joins is None:
        prune(layout.joins, keep=())
        print("joins: the study asks for none")
    else:
        for name in chosen_models(settings, model, layout.joins):
            _run_model(settings, layout, name, domain, settings.joins)
    if processes.is_first():
        write_json(layout.joins / SUMMARY, {"joins": settings.joins})


def origins(settings: Settings, layout: Layout, model: str) -> Callable[[str], dict[str, Any]]:
    """What a model's cells are made from, by domain. Raises OdysseyError if it is not there or damaged."""
    chosen, rules = settings.model(model), settings.evaluate
    base = check_folder(layout.pretrained(model), "pretrain")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "base": base,
            "adapted": check_folder(layout.adapted(model, name), "adapt"),
            "domain": split_digests(layout, name),
            "settings": {
                "seed": settings.seed,
                "joins": settings.joins,
                # What `adapt` measures on its way is not measured here.
                "adapt": settings.adapt.model_dump(exclude={"engine", "train_start", "curve_points"}),
                **rules.model_dump(exclude={"batch_tokens"}),
                "learning_rate": chosen.adapt_learning_rate,
                "context": chosen.context,
            },
            "code": code_digest(__name__),
            "packages": versions("torch", "transformers", "deepspeed"),
        }

    return made_from


def _run_model(settings: Settings, layout: Layout, model: str, domain: str | None, ways: Sequence[Join]) -> None:
    engine, made_from = settings.adapt.engine.model_dump(), origins(settings, layout, model)
    how = {"engine": engine, "processes": processes.count(), "batch_tokens": settings.evaluate.batch_tokens}
    for name, folder, origin in missing_cells(settings, model, domain, layout.joined, made_from, "joins"):
        with new_folder(folder, origin, how) as temporary:
            _compare(settings, layout, model, name, ways, temporary)


def _compare(settings: Settings, layout: Layout, model: str, domain: str, ways: Sequence[Join], folder: Path) -> None:
    """Write one cell's tables. One model is in memory at a time."""
    rules = settings.evaluate
    base, tokenizer = models.load(layout.pretrained(model), rules.precision)
    separators = {way: separator_of(way, tokenizer, model) for way in ways}
    tests = {way: _read_test(settings, layout, model, domain, tokenizer, separators[way]) for way in ways}
    row_bytes = sum(len(row.encode()) for row in read_texts(layout.split(domain, "test")))
    before = _score(settings, model, base, tests)
    del base
    table: list[tuple[Any, ...]] = []
    by_document: list[tuple[Any, ...]] = []
    for trained in ways:
        models.free_memory()
        network = _adapted(settings, layout, model, domain, trained, separators[trained])
        after = _score(settings, model, network, tests)
        del network
        for scored, test in tests.items():
            if np.array_equal(before[scored], after[scored]):
                raise OdysseyError(f"{model} on {domain}: training changed nothing; is the learning rate 0?")
            parts = by_group(test.document, len(test.documents), before[scored], after[scored], test.joint)
            named = zip(test.documents, parts, strict=True)
            by_document += [(trained, scored, document, *astuple(part)) for document, part in named]
            whole = total(parts)
            derived = (whole.change, whole.change_rest, whole.joint_contribution)
            ratios = (*whole.perplexity, *whole.bits_per_byte(row_bytes))
            table.append((trained, scored, *astuple(whole), row_bytes, *derived, *ratios))
    models.free_memory()
    write_csv(folder / "joins.csv", COLUMNS, table)
    write_csv(folder / "documents.csv", DOCUMENT_COLUMNS, by_document)


def _read_test(
    settings: Settings, layout: Layout, model: str, domain: str, tokenizer: PreTrainedTokenizerBase, separator: str
) -> _Test:
    ids, _, row_of = tokenization.encode_by_row(tokenizer, read_texts(layout.split(domain, "test")), separator)
    names, document = units(settings, layout, model, domain, row_of)
    joint = joint_tokens(ids, row_of, joint_id(tokenizer, separator))
    return _Test(ids, joint[1:], document, names)


def _score(
    settings: Settings, model: str, network: PreTrainedModel, tests: dict[Join, _Test]
) -> dict[Join, np.ndarray]:
    """NLL of the tokens of each test."""
    context, batch_tokens = settings.model(model).context, settings.evaluate.batch_tokens
    return {
        way: scoring.token_nll(network, test.ids, context, batch_tokens, label=f"{model} on rows joined by {way}")
        for way, test in tests.items()
    }


def _adapted(settings: Settings, layout: Layout, model: str, domain: str, way: Join, separator: str) -> PreTrainedModel:
    """The model adapted to the domain's rows joined in one way: `adapt`'s, if that is the study's own, or a new one."""
    import torch

    from odyssey.training import train

    rules, recipe, chosen = settings.evaluate, settings.adapt, settings.model(model)
    if separator == rules.separator:
        return models.load(layout.adapted(model, domain), rules.precision)[0]
    network, tokenizer = models.load(layout.pretrained(model), recipe.precision)
    ids, _ = tokenization.encode(tokenizer, read_texts(layout.split(domain, "train")), separator)
    data, label = blocks(ids, chosen.context), f"{model} on {domain} joined by {way}"
    if not len(data):
        raise OdysseyError(f"domain '{domain}': its train split is shorter than one context of {chosen.context} tokens")
    train(network, data, recipe, chosen.adapt_learning_rate, settings.seed, label=label)
    network.to(getattr(torch, rules.precision))
    return network


def separator_of(way: Join, tokenizer: PreTrainedTokenizerBase, model: str) -> str:
    """What joins rows in this way; raises OdysseyError naming the model if its tokenizer has no such token."""
    if way != "end_of_text":
        return SEPARATORS[way]
    token: str | None = tokenizer.eos_token
    if token is None:
        raise OdysseyError(
            f"model '{model}': its tokenizer has no end-of-text token; take end_of_text out of the study's 'joins'"
        )
    ids, _ = tokenization.encode(tokenizer, ["a", "b"], token)
    if ids.tolist().count(tokenizer.eos_token_id) != 1:
        raise OdysseyError(
            f"model '{model}': its end-of-text token {token!r} is not one token in a text; "
            "take end_of_text out of the study's 'joins'"
        )
    return token


def joint_id(tokenizer: PreTrainedTokenizerBase, separator: str) -> int | None:
    """Id of the token whose text is the separator; None if it is none, as the space that words' tokens begin with."""
    if separator == SEPARATORS["space"]:
        return None
    ids = tokenization.encode(tokenizer, ["a", "b"], separator)[0].tolist()
    texts = tokenization.token_texts(tokenizer, ids)
    return next((token for token, text in zip(ids, texts, strict=True) if text == separator), None)
