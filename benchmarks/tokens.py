"""The token table of 5 million scored tokens with a vocabulary of 50,000, against pandas groupby.

    python benchmarks/tokens.py

Both start from the arrays of ids and NLL (float32) and end with the table, largest contribution first. pandas sums
float32 by Kahan's rule and returns float32; ours sums and returns float64.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import harness
import numpy as np
import pandas as pd

from odyssey.science.tokens import token_table

TOKENS = 5_000_000
VOCABULARY = 50_000
ROUNDS = 15
"""Many, as a round takes a fraction of a second."""
MEANS = "pandas groupby"
TABLE = "pandas groupby to the whole table"


def main() -> None:
    """Measure the groupby alone, and up to the same table."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--tokens", type=int, default=TOKENS)
    tokens = command.parse_args().tokens
    ids, before, after = scored(tokens)
    frame = pd.DataFrame({"token_id": ids, "before": before, "after": after})
    took = {way: min(harness.timed(partial(_means, frame, *way)).seconds for _ in range(3)) for way in _FORMS}
    sort, named = min(took, key=took.__getitem__)
    result = harness.alternate(
        f"Token table of {tokens:,} scored tokens, vocabulary {VOCABULARY:,}",
        "10x pandas groupby",
        {
            harness.OURS: lambda: harness.timed(lambda: token_table(ids, before, after)),
            MEANS: lambda: harness.timed(lambda: _means(frame, sort, named)),
            TABLE: lambda: harness.timed(lambda: _table(ids, before, after, sort, named)),
        },
        _same,
        ROUNDS,
    )
    form = "named aggregations" if named else "mean() and size()"
    result.note = (
        f"pandas with sort={sort} and {form}, the fastest of four forms; its groupby alone starts from a frame that "
        "is there and leaves out differences, contributions and order, which ours includes. Ours makes one pass over "
        "the ids for each of the three sums, some 5 ns a token in all: one in compiled code would be what is left."
    )
    harness.record("tokens", [result])


def scored(tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids by Zipf's law in a random order of the vocabulary, int32, and NLL before and after, float32; all (n,)."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCABULARY + 1)
    ids = rng.permutation(VOCABULARY)[rng.choice(VOCABULARY, tokens, p=share / share.sum())].astype(np.int32)
    before = rng.gamma(2, 1.5, tokens).astype(np.float32)
    return ids, before, (before + rng.normal(0, 0.3, tokens)).astype(np.float32)


_FORMS = [(sort, named) for sort in (True, False) for named in (True, False)]


def _means(frame: pd.DataFrame, sort: bool, named: bool) -> pd.DataFrame:
    groups = frame.groupby("token_id", sort=sort)
    if named:
        return groups.agg(counts=("before", "size"), before=("before", "mean"), after=("after", "mean"))
    means = groups[["before", "after"]].mean()
    means["counts"] = groups.size()
    return means


def _table(ids: np.ndarray, before: np.ndarray, after: np.ndarray, sort: bool, named: bool) -> pd.DataFrame:
    table = _means(pd.DataFrame({"token_id": ids, "before": before, "after": after}), sort, named)
    table["change"] = table["after"] - table["before"]
    table["contribution"] = table["counts"] / len(ids) * table["change"]
    return table.sort_values("contribution", ascending=False)


def _same(values: Mapping[str, Any]) -> str:
    """The same ids and counts; means to what float32 holds."""
    ours = values[harness.OURS]
    furthest = 0.0
    for name in (MEANS, TABLE):
        theirs = values[name].loc[ours.token_id]
        assert len(theirs) == len(values[name])
        assert (theirs["counts"].to_numpy() == ours.counts).all()
        for column in ("before", "after"):
            mean = getattr(ours, column)
            furthest = max(furthest, float(np.max(np.abs(theirs[column].to_numpy() - mean) / np.abs(mean))))
    assert furthest < 1e-6
    assert abs(float(ours.contribution.sum()) - _change(values[TABLE])) < 1e-6
    return f"ids and counts equal, means within {furthest:.0e} relative (float32's rounding)"


def _change(table: pd.DataFrame) -> float:
    return float(table["contribution"].sum())


if __name__ == "__main__":
    main()
