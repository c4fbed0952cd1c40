"""Advice as JSON, and as a run for MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from odyssey.advisor import probe as probes
from odyssey.advisor import similarity as similarities
from odyssey.advisor import texts as reading
from odyssey.advisor.advice import Advice
from odyssey.advisor.forecast import Forecast
from odyssey.advisor.remarks import warnings
from odyssey.advisor.texts import Texts
from odyssey.provenance import versions
from odyssey.record import Metric, Record, fit

OURS = {
    "confidence": probes.CONFIDENCE,
    "probe_share": probes.SHARE,
    "probe_most_tokens": probes.MOST_TOKENS,
    "longest_context": probes.LONGEST_CONTEXT,
    "batch_size": probes.BATCH_SIZE,
    "row_words": reading.ROW_WORDS,
    "similarity_rows": similarities.ROWS,
    "similarity_draws": similarities.DRAWS,
    "ngram_words": similarities.NGRAM_WORDS,
    "contained": similarities.CONTAINED,
}
"""Choices of ours that the numbers depend on."""


def as_dict(advice: Advice) -> dict[str, Any]:
    """Everything, as JSON values; NLL and changes are in nats per token, what is not known is null."""
    asked, zero_shot, dealt = advice.request, advice.zero_shot, advice.dealt
    found: dict[str, Any] = {
        "verdict": advice.forecast.verdict,
        "forecast": _forecast(advice.forecast),
        "model": {
            "name": asked.model,
            "commit": advice.commit,
            "parameters": advice.parameters,
            "context": advice.context,
            "learning_rate": advice.learning_rate,
            "learning_rate_from": advice.learning_rate_from,
        },
        "domain": {**_side(advice.domain), "tokens": dealt.total, "bytes_per_token": dealt.bytes_per_token},
        "source": {**_side(advice.source), "bytes_per_token": advice.source_bytes_per_token},
        "similarity": {**advice.similarity.as_dict(), "encoder": asked.encoder or "the pinned all-MiniLM-L6-v2"},
        "zero_shot": {
            "log_perplexity": zero_shot.log,
            "log_perplexity_interval": zero_shot.log_interval,
            "perplexity": math.exp(zero_shot.log),
            "perplexity_interval": [math.exp(end) for end in zero_shot.log_interval],
            "tokens": len(zero_shot.nll),
            "documents": zero_shot.documents,
        },
        "probe": _probe(advice),
        "tokens": advice.tokens,
        "cost": cost(advice),
        "warnings": warnings(advice),
        "seed": asked.seed,
        "ours": OURS,
        "packages": versions("torch", "transformers", "deepspeed", "sentence-transformers"),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found), parse_constant=lambda _: None)
    return plain


def _forecast(forecast: Forecast) -> dict[str, Any]:
    found = asdict(forecast)
    del found["verdict"]
    return {**found, "precedents": forecast.precedents and forecast.precedents._asdict()}


def _side(texts: Texts) -> dict[str, Any]:
    return {
        "name": texts.name,
        "documents": texts.found,
        "words": texts.words,
        "documents_looked_at": len(texts.documents),
        "rows_looked_at": len(texts.rows),
        "commit": texts.commit,
        "population": texts.population,
    }


def _probe(advice: Advice) -> dict[str, Any] | None:
    probe = advice.probe
    if probe is None:
        return None
    return {
        "tokens": probe.tokens,
        "steps": probe.steps,
        "seconds": probe.seconds,
        "points": [{"tokens": tokens, "change": change} for tokens, change in probe.points],
        "change": probe.change.log,
        "change_interval": probe.change.log_interval,
        "held_out_documents": probe.change.n,
    }


def cost(advice: Advice) -> dict[str, Any]:
    """What the whole adaptation takes here: one epoch over all the texts, and scoring the part held out twice.

    At the probe's rate; without one, a token is taken to cost three times as much in training as in
    scoring (a backward pass is two forward passes; see `science.cost`).
    """
    tokens, scored = advice.dealt.total, len(advice.zero_shot.nll)
    rate = advice.probe.rate if advice.probe else advice.zero_shot.rate / 3
    return {
        "tokens": tokens,
        "steps": math.ceil(tokens / (probes.BATCH_SIZE * advice.context)),
        "seconds": tokens / rate + 2 * scored / advice.zero_shot.rate,
        "measured": advice.probe is not None,
    }


def short(path: str) -> str:
    """The last two parts of a path: what tells files of one project apart."""
    return "/".join(Path(path).parts[-2:])


def record(advice: Advice, shown: str) -> Record:
    """The run of a piece of advice: numbers, what was shown, all of it as JSON, and tokens."""
    found = as_dict(advice)
    name = fit(f"{Path(advice.request.model).name} {short(str(advice.request.domain))}")
    made = Record(name, tags={"verdict": advice.forecast.verdict, "model": advice.request.model})
    made.tags["domain"] = str(advice.request.domain)
    options = {**_flat(found["model"], "model/"), "seed": advice.request.seed, "source": advice.request.source}
    options |= {f"ours/{key}": value for key, value in OURS.items()}
    made.params = {key: str(value) for key, value in options.items()}
    sections = ("forecast", "similarity", "zero_shot", "probe", "cost")
    numbers = {key: value for name in sections for key, value in _flat(found[name] or {}, f"{name}/").items()}
    made.metrics = [Metric(key, float(value)) for key, value in numbers.items() if type(value) in (int, float)]
    if advice.probe:
        made.metrics += [Metric("probe/curve", change, tokens) for tokens, change in advice.probe.points]
        made.tables = {"tokens.json": pd.DataFrame(list(advice.tokens))}
    made.texts = {"advice.json": json.dumps(found, indent=2) + "\n", "advice.txt": shown + "\n"}
    return made


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Values that are not themselves lists or tables, with their full names."""
    return dict(_walk(values, prefix))


def _walk(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, list) and len(value) == 2 and key.endswith("interval"):
            yield from ((f"{prefix}{key}/{end}", one) for end, one in zip(("low", "high"), value, strict=True))
        elif not isinstance(value, list | dict):
            yield f"{prefix}{key}", value
