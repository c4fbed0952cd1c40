"""Advice as it is shown and logged."""

from __future__ import annotations

import json

from odyssey.advisor.advice import Advice
from odyssey.advisor.record import as_dict, record
from odyssey.advisor.render import render
from odyssey.tracking.publication import log_advice


def shown(advice: Advice, as_json: bool) -> str:
    """A screen of text, or one JSON object."""
    return json.dumps(as_dict(advice)) if as_json else render(advice)


def log(advice: Advice) -> str:
    """Log it to MLflow as a run of its own; returns where. Raises OdysseyError if the store cannot be used."""
    return log_advice(record(advice, render(advice)))
