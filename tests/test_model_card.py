"""The model card: what it names, what it warns of, and what there is room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT

from odyssey.layout import SOURCE
from odyssey.model_card import Facts, description, markdown
from odyssey.model_terms import terms
from odyssey.record import Data
from odyssey.sections import LocalDomain, PublishedModel
from odyssey.settings import Settings, load_settings

DOMAIN = "mpmath"
MOST = 5000
"""Characters of a description."""


def facts(settings: Settings, model: str, domain: str | None, **changes: Any) -> Facts:
    """Invented, with round numbers: e ** 2 before, e ** 3 after."""
    before, after = ({"nll_sum": nll * 100.0, "tokens": 100, "bytes": 400} for nll in (2, 3))
    scores = {"context": 16, "separator": "\n", "parameters": 1234567, "zero_shot": before, "adapted": after}
    used = ["train", "valid", "test"] if domain else ["test"]
    names = {SOURCE: "pretrain", **({f"{domain}/{split}": split for split in used} if domain else {"d/test": "test"})}
    rows = {"mmd": "0.03125", "fd": "0.5", "n_source": "900", "n_target": "200"}
    came = {"change_low": "10.5", "change_high": "15.25", "outcome": "worse"}
    whole = Facts(
        settings=settings,
        model=model,
        domain=domain,
        name="a-name",
        scores=dict.fromkeys([domain] if domain else settings.adapted, scores),
        similarity=rows if domain else {},
        evidence=came if domain else {},
        data=[Data(name, Path("x"), f"md5-{name}", use, {"rows": 12345}) for name, use in names.items()],
        sha256={name: f"sha-{name}" for name in names},
        weights={"model.safetensors": "sha-weights"},
        commit=None,
        packages={"torch": "2.13.0"},
        run_id="run-id",
        code="`c0ffee`",
    )
    return replace(whole, **changes)


def test_a_card_names_data_hashes_and_numbers(settings: Settings) -> None:
    card = markdown(facts(settings, "tiny", DOMAIN), "models:/m-1", "sqlite:///mlflow.db")
    for part in (
        "7.39 to 20.09, worse: test perplexity on mpmath before and after adaptation.\n",
        "1,234,567 parameters, context of 128 tokens",
        "- Perplexity: **20.09**, base model 7.39: +12.70, x2.718 (95% interval +10.50 to +15.25: worse)",
        "- Bits per byte: **1.0820**, base model 0.7213: +0.3607",  # 3 / 4 and 2 / 4 nats a byte, over ln 2
        "MMD 0.0312, FD 0.5000 (200 and 900 texts",
        "> **It got worse** at texts of `mpmath`",
        "consecutive windows of 16 tokens that overlap by one",
        "rows joined with `'\\n'`",
        "Adaptation: 1 epoch, AdamW, learning rate 0.003 (constant, warm-up 0), batches of 8 sequences",
        "- `source` for pretraining and similarity: 12,345 rows; md5 (DVC's) `md5-source`, sha256 `sha-source`",
        "- `mpmath/test` for perplexity: 12,345 rows; md5 (DVC's) `md5-mpmath/test`, sha256 `sha-mpmath/test`",
        "- `model/model.safetensors`: sha256 `sha-weights`",
        "MLflow run `run-id`, code `c0ffee`",
        'mlflow.set_tracking_uri("sqlite:///mlflow.db")  # in the project\'s folder',
        "- `mpmath`, documentation strings of mpmath: under the licences of these packages",
    ):
        assert part in card, part
    assert yaml.safe_load(card.split("---\n")[1])["pipeline_tag"] == "text-generation"


def test_a_card_warns_only_of_what_got_worse(settings: Settings) -> None:
    for outcome in ("better", "within noise"):
        evidence = {"change_low": "-1", "change_high": "1", "outcome": outcome}
        card = markdown(facts(settings, "tiny", DOMAIN, evidence=evidence), "models:/m-1", "http://here")
        assert f"-1.00 to +1.00: {outcome})" in card
        assert "got worse" not in card
        assert 'set_tracking_uri("http://here")\n' in card
    none = {"change_low": "", "change_high": "", "outcome": "no interval"}
    card = markdown(facts(settings, "tiny", DOMAIN, evidence=none), "models:/m-1", "http://here")
    assert "(no interval, as the test split is of one document)" in card


def test_a_published_models_card_has_its_commit_and_licences() -> None:
    settings = load_settings(ROOT / "params.yaml", "llama-7b")
    model, domain = next(iter(settings.models)), next(iter(settings.adapted))
    about = facts(settings, model, domain, commit="a" * 40)
    card = markdown(about, "models:/m-1", "http://here")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["base_model"] == "huggyllama/llama-7b"
    assert metadata["datasets"] == ["machelreid/m2d2"]
    assert f"`huggyllama/llama-7b` at commit `{'a' * 40}`" in card
    assert "- `source` for similarity: " in card
    assert "Pretraining:" not in card
    lines = [*terms(settings, model, domain)]
    assert lines[0].startswith("- **For non-commercial use only**")
    assert "`huggyllama/llama-7b`, `machelreid/m2d2`" in lines[0]
    # What it was compared with is nothing that it was made from.
    assert not any("RedPajama" in line for line in lines)
    base = markdown(facts(settings, model, None), "models:/m-1", "http://here")
    assert "datasets" not in yaml.safe_load(base.split("---\n")[1])
    assert "`source` for" not in base
    assert "Sequences of" not in base


def test_terms_of_ones_own_texts_and_models(settings: Settings) -> None:
    chosen = PublishedModel(checkpoint="my/model", revision=None, context=16, adapt_learning_rate=1e-3)
    texts = LocalDomain(corpus="local", path="texts/mine", portion="mine")
    settings = settings.model_copy(update={"models": {"own": chosen}, "domains": {"d": texts}, "adapt_to": ["d"]})
    assert [*terms(settings, "own", "d")] == [
        "- `my/model`, a checkpoint of the user's own: under the terms that it came with",
        "- `d`, the user's own texts: under the terms that they came with",
    ]


def test_a_description_has_whole_sections_in_the_room_there_is(settings: Settings) -> None:
    many = {f"domain_{k}": settings.domains[DOMAIN] for k in range(199)}
    long = facts(settings.model_copy(update={"domains": many, "adapt_to": list(many)}), "tiny", None)
    text = description(long, "models:/a-name/1", "http://here", MOST)
    assert len(text) <= MOST
    assert text.startswith("7.39 to 7.39: test perplexity on 199 domains, before adaptation.\n")
    assert text.count("```") == 4
    assert "domain_0" not in text
    assert text.endswith("The whole card is the artifact `model/README.md`.\n")
    assert "domain_198" in markdown(long, "models:/a-name/1", "http://here")
    short = description(facts(settings, "tiny", DOMAIN), "models:/a-name/1", "http://here", MOST)
    assert "whole card" not in short
    assert "sha-weights" in short
