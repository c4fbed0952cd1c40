"""The tables of stage `claims` as the report and several seeds together read them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

from odyssey.written import check_columns

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "claims": (
            *("claim", "statement", "source", "model", "statistic", "value", "low", "high", "p", "n"),
            *("verdict", "reason"),
        ),
        "evidence": (
            *("seed", "model", "parameters", "domain", "portion", "mmd", "fd", "zero_shot", "unit", "units"),
            *("change", "change_low", "change_high", "log_change", "log_change_low", "log_change_high", "outcome"),
            *("rise_train_start", "rise_valid", "rise_test", "best_fraction", "lost_by_going_on", "tokens_50"),
            *("newline_change", "newline", "other", "specific_change", "others_change"),
        ),
        "correlations": (
            *("model", "portion", "change", "distance", "n"),
            *("spearman", "spearman_p", "spearman_low", "spearman_high"),
            *("pearson", "pearson_p", "pearson_low", "pearson_high"),
        ),
        "classes": (
            *("model", "domain", "class", "tokens", "share", "change", "contribution"),
            "perplexity_change_without",
        ),
        "concentration": ("model", "domain", "rising", "gross_50", "gross_80", "gross_95"),
        "concentration_curve": ("model", "domain", "tokens", "share"),
        "stopping": (
            *("at", "cells", "stopped", "harm_saved", "harm_saved_sum", "gain_cost", "gain_cost_sum"),
            "net",
        ),
        "joins": (
            *("model", "domain", "trained", "scored", "change", "change_low", "change_high"),
            *("change_rest", "change_rest_low", "change_rest_high", "joint_contribution"),
            *("bits_per_byte_before", "bits_per_byte_after"),
        ),
    }
)
"""By table, what is read of it."""
NAMES = ("change", "distance")
"""Columns of the correlations that say what of: in other tables a change is a number."""


def check_claims_table(name: str, table: pd.DataFrame) -> None:
    """Raise ValueError if a column is missing or holds text for numbers."""
    check_columns(table, COLUMNS[name], NAMES if name == "correlations" else ())
