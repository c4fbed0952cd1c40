"""Stage `claims`: does each claim of the paper hold here, where does the change come from, when should one stop?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from odyssey import claims, verdicts
from odyssey.claims_tables import check_claims_table
from odyssey.errors import OdysseyError
from odyssey.estimates import correlations
from odyssey.frames import read_frame, write_frame
from odyssey.layout import Layout
from odyssey.portions import by_portion
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.science import stats
from odyssey.science.attribution import (
    OTHERS,
    SHARES,
    Concentration,
    by_class,
    classes_of,
    concentration,
    specific_and_others,
)
from odyssey.science.perplexity import Score
from odyssey.science.splits import generator
from odyssey.science.stopping import Curve, best_step, evaluate_rule
from odyssey.science.token_classes import NEWLINE, SPECIFIC
from odyssey.science.tokens import TokenTable, token_table
from odyssey.settings import Settings
from odyssey.store import check_folder, is_current, new_folder, read_json
from odyssey.written import as_written, by, check_columns, check_rows

READ = {
    "similarity": ("similarity.csv",),
    "adapt": ("curves.csv",),
    "evaluate": ("scores.json", "zero_shot.npy", "adapted.npy", "token_ids.npy", "units.npy"),
    "tokens": ("vocabulary.csv",),
    "joins": ("documents.csv", "joins.csv"),
}
"""Files of a cell that are read."""
WHOLE = ("gross", "net", "rising")
SUMS = ("tokens", "nll_before", "nll_after")
JOINT_SUMS = ("joint_tokens", "joint_nll_before", "joint_nll_after")
JOINED = ("joint_contribution", "bits_per_byte_before", "bits_per_byte_after")
CURVE_POINTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)
"""Numbers of token ids that the concentration curve is kept at."""


def run(settings: Settings, layout: Layout) -> pd.DataFrame:
    """Write layout.claims: claims.csv and what the verdicts rest on, unless it still holds; return the claims."""
    if "all" in (about.portion for about in settings.adapted.values()):
        raise OdysseyError("a portion cannot be called 'all', which stands for all of them; rename it in the study")
    cells = [(model, domain) for model in settings.models for domain in by_portion(settings.adapted)]
    made_from = {
        "inputs": _inputs(settings, layout, cells),
        "settings": {
            **settings.model_dump(mode="json", include={"seed", "claims", "joins"}),
            "portions": [(domain, about.portion) for domain, about in settings.adapted.items()],
        },
        "code": code_digest(__name__),
        "packages": versions("numpy", "pandas", "scipy"),
    }
    if is_current(layout.claims, made_from):
        print(f"claims: kept {layout.claims}")
        with as_written(layout.claims, "claims"):
            kept = read_frame(layout.claims / "claims.csv")
            check_claims_table("claims", kept)
        return kept
    tables = _tables(settings, layout, cells)
    with new_folder(layout.claims, made_from) as folder:
        for name, table in tables.items():
            write_frame(folder / f"{name}.csv", table)
    print(f"claims: {len(tables['claims'])} verdicts in {layout.claims / 'claims.csv'}")
    return tables["claims"]


def _inputs(settings: Settings, layout: Layout, cells: list[tuple[str, str]]) -> dict[str, str]:
    """Digests of the results that are read, after checking them."""
    found = {"similarity": check_folder(layout.similarity, "similarity", READ["similarity"])}
    places = {"adapt": layout.adapted, "evaluate": layout.evaluated, "tokens": layout.tokens}
    places |= {"joins": layout.joined} if settings.joins else {}
    for model, domain in cells:
        for stage, place in places.items():
            found[f"{stage}/{model}/{domain}"] = check_folder(place(model, domain), stage, READ[stage])
    return found


def _tables(settings: Settings, layout: Layout, cells: list[tuple[str, str]]) -> dict[str, pd.DataFrame]:
    """What the stage writes, by name."""
    with as_written(layout.similarity, "similarity"):
        similarity = _similarity(layout)
    curves = {}
    for cell in cells:
        with as_written(layout.adapted(*cell), "adapt"):
            curves[cell] = _curve(layout.adapted(*cell) / "curves.csv")
    parts = [
        _cell(settings, layout, model, domain, similarity, curves[model, domain])
        for model, domain in bar(cells, "claims", unit="cells")
    ]
    tables = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    rng = generator(settings.seed, "claims")
    tables["correlations"] = correlations(tables["evidence"], settings.claims, rng)
    tables["claims"] = verdicts.judge(tables["evidence"], tables["correlations"], settings.claims, rng)
    tables["stopping"] = evaluate_rule({cell: _curve_of(curve) for cell, curve in curves.items()})
    return tables | ({"joins": _joins(settings, layout, cells)} if settings.joins else {})


def _cell(
    settings: Settings, layout: Layout, model: str, domain: str, similarity: pd.DataFrame, curve: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """One cell's rows of the tables."""
    with as_written(layout.similarity, "similarity"):
        distances = dict(similarity.loc[domain, ["portion", "mmd", "fd"]])
    with as_written(layout.evaluated(model, domain), "evaluate"):
        scored = _scored(layout.evaluated(model, domain))
        change = _change(settings, layout, model, domain)
    with as_written(layout.tokens(model, domain), "tokens"):
        class_of = _vocabulary(layout, model, domain)
    with as_written(layout.evaluated(model, domain), "evaluate"):
        table = _attribution(layout, model, domain, max(class_of))
        shares = concentration(table.contribution)
    with as_written(layout.tokens(model, domain), "tokens"):
        classes = classes_of(table.token_id, class_of)
        of_classes = by_class(table, classes)
    evidence = {
        "seed": settings.seed,
        "model": model,
        "parameters": scored.parameters,
        "domain": domain,
        **distances,
        "zero_shot": scored.zero_shot,
        "unit": scored.unit,
        **change,
        **_rises(curve),
        **_carriers(table, classes, shares),
    }
    key = {"model": model, "domain": domain}
    at = [k for k in CURVE_POINTS if k <= shares.rising]
    counts = {f"{name}_{100 * share:.0f}": of.get(share) for share in SHARES for name, of in _counts(shares).items()}
    return {
        "evidence": pd.DataFrame([evidence]),
        "classes": of_classes.assign(**key),
        "concentration": pd.DataFrame([{**key, **{name: getattr(shares, name) for name in WHOLE}, **counts}]),
        "concentration_curve": pd.DataFrame({**key, "tokens": at, "share": shares.curve[[k - 1 for k in at]]}),
    }


def _counts(shares: Concentration) -> dict[str, dict[float, int]]:
    return {"gross": shares.of_gross, "net": shares.of_net}


def _similarity(layout: Layout) -> pd.DataFrame:
    """Distances by domain; raises ValueError or KeyError for what is no such table."""
    table = read_frame(layout.similarity / "similarity.csv")
    check_columns(table, ("domain", "portion", "mmd", "fd"))
    return by(table, "domain")


def _curve(path: Path) -> pd.DataFrame:
    """A cell's curve; raises ValueError or KeyError for what is none."""
    table = read_frame(path)
    check_columns(table, ("train_start", *Curve._fields))
    best_step(_curve_of(table))
    return table


class _Scored(NamedTuple):
    """What scores.json says of a cell."""

    parameters: int
    zero_shot: float
    """Perplexity."""
    unit: str


def _scored(folder: Path) -> _Scored:
    scores = read_json(folder / "scores.json")
    return _Scored(int(scores["parameters"]), Score(**scores["zero_shot"]).perplexity, str(scores["unit"]))


def _array(path: Path) -> np.ndarray:
    with path.open("rb") as file:  # NumPy's own reader would take archives and pickles, too
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _arrays(folder: Path, *names: str) -> list[np.ndarray]:
    """Arrays of one number a token; raises ValueError for what is none."""
    found = [_array(folder / f"{name}.npy") for name in names]
    if {array.shape for array in found} != {(len(found[0]),)} or not len(found[0]):
        raise ValueError(f"{', '.join(names)} of shapes {', '.join(str(array.shape) for array in found)}")
    return found


def _change(settings: Settings, layout: Layout, model: str, domain: str) -> dict[str, Any]:
    """A cell's change of perplexity and of the mean NLL, with intervals over the units that are drawn again."""
    units, before, after = _arrays(layout.evaluated(model, domain), "units", "zero_shot", "adapted")
    if units.max() > len(units):  # what comes next takes memory for each up to it
        raise ValueError(f"unit {units.max()} of {len(units)} tokens")
    sums = [np.bincount(units, weights=weights) for weights in (None, before.astype(float), after.astype(float))]
    found = _interval(np.stack(sums), settings, generator(settings.seed, "claims", model, domain))
    changes = _ends("change", found.perplexity, found.perplexity_interval)
    changes |= _ends("log_change", found.log, found.log_interval)
    if np.isinf(list(changes.values())).any():
        raise ValueError("losses beyond any perplexity")
    return {
        "units": found.n,
        **changes,
        "outcome": claims.outcome(found.log_interval),
    }


def _ends(name: str, value: float, interval: stats.Interval) -> dict[str, float]:
    return {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _vocabulary(layout: Layout, model: str, domain: str) -> dict[int, str]:
    """The class of each token id."""
    known = read_frame(layout.tokens(model, domain) / "vocabulary.csv")
    check_rows(known, ("token_id", "class"))
    return dict(zip(known["token_id"], known["class"], strict=True))


def _attribution(layout: Layout, model: str, domain: str, largest: int) -> TokenTable:
    """The test text's token table, of token ids up to the vocabulary's largest."""
    ids, before, after = _arrays(layout.evaluated(model, domain), "token_ids", "zero_shot", "adapted")
    if ids.max() > largest:  # what comes next takes memory for each up to it
        raise ValueError(f"token id {ids.max()}, and the vocabulary's largest is {largest}")
    return token_table(ids, before, after)


def _rises(curve: pd.DataFrame) -> dict[str, float]:
    """Rises of the mean NLL over the epoch, and where the best valid loss was."""
    rises = {f"rise_{name}": curve[name].iloc[-1] - curve[name].iloc[0] for name in ("train_start", "valid", "test")}
    best = best_step(_curve_of(curve))
    return {**rises, "best_fraction": best.fraction, "lost_by_going_on": best.lost_by_going_on}


def _curve_of(table: pd.DataFrame) -> Curve:
    return Curve(*(table[name].to_numpy() for name in Curve._fields))


def _carriers(table: TokenTable, classes: np.ndarray, shares: Concentration) -> dict[str, Any]:
    """Which tokens carry a cell's change."""
    newline, rows = classes == NEWLINE, by_class(table, classes).set_index("class")
    apart = specific_and_others(table, classes).set_index("class")["change"]
    return {
        "tokens_50": shares.of_net.get(0.5, np.nan),
        "newline_change": rows.loc[NEWLINE, "change"],
        "newline": _largest(table.contribution[newline]),
        "other": _largest(table.contribution[~newline]),
        "specific_change": apart[SPECIFIC],
        "others_change": apart[OTHERS],
    }


def _largest(contribution: np.ndarray) -> float:
    return float(contribution.max()) if len(contribution) else np.nan


def _joins(settings: Settings, layout: Layout, cells: list[tuple[str, str]]) -> pd.DataFrame:
    """What each way of joining rows makes of a cell's change (nats/token), of all tokens and of the rows' own."""
    rows = []
    for model, domain in cells:
        with as_written(layout.joined(model, domain), "joins"):
            rows += _joins_of(settings, layout, model, domain)
    return pd.DataFrame(rows)


def _joins_of(settings: Settings, layout: Layout, model: str, domain: str) -> list[dict[str, Any]]:
    """One cell's rows of it."""
    folder, rows = layout.joined(model, domain), []
    documents, whole = read_frame(folder / "documents.csv"), read_frame(folder / "joins.csv")
    check_rows(documents, ("trained", "scored", *SUMS, *JOINT_SUMS))
    check_rows(whole, ("trained", "scored", *JOINED))
    whole = by(whole, "trained", "scored")
    for (trained, scored), own in documents.groupby(["trained", "scored"], sort=False):
        sums = own[list(SUMS)].to_numpy(float).T
        rest = sums - own[list(JOINT_SUMS)].to_numpy(float).T
        rng = partial(generator, settings.seed, "claims", "joins", model, domain)  # the same documents for each way
        every, apart = (_interval(part, settings, rng()) for part in (sums, rest))
        key = {"model": model, "domain": domain, "trained": trained, "scored": scored}
        changes = _ends("change", every.log, every.log_interval) | _ends("change_rest", apart.log, apart.log_interval)
        rows.append({**key, **changes, **whole.loc[(trained, scored), list(JOINED)]})
    return rows


def _interval(sums: np.ndarray, settings: Settings, rng: np.random.Generator) -> stats.Change:
    """Of sums (3, n_documents): tokens, NLL before, NLL after."""
    rules = settings.claims
    return stats.paired_change(*sums, confidence=rules.confidence, resamples=rules.resamples, rng=rng)
