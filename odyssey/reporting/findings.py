"""Sentences about what stage `claims` found: verdicts, tokens that carry the change, when to stop, joined rows.

Every sentence is true whatever the numbers are. No results are read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from odyssey.claims import FAILS, HOLDS, OPEN, WORSE
from odyssey.reporting.words import listed, percent, signed, significant, span
from odyssey.science.attribution import SHARES

GROSS = {share: f"gross_{100 * share:.0f}" for share in SHARES}
"""Columns that count the token ids with these shares of a gross rise."""


def verdicts(claims: pd.DataFrame) -> str:
    """How many verdicts there are of each kind."""
    counts = listed(f"“{verdict}” {int((claims['verdict'] == verdict).sum())}" for verdict in (HOLDS, FAILS, OPEN))
    return f"A claim has a verdict for each model or pair of models. Of all {len(claims)}: {counts}."


def adds_up(classes: pd.DataFrame, domain: str, model: str) -> str:
    """What the classes' contributions to the change of one domain's mean NLL add up to."""
    change = significant(float(classes["contribution"].sum()))
    lead = classes.loc[classes["contribution"].idxmax()]
    lowest = classes.loc[classes["contribution"].idxmin()]
    return (
        f"{domain} with {model}: the classes' contributions add up exactly to the change of the mean NLL, {change} "
        f"nats per token, the highest being that of {lead['class']} ({significant(lead['contribution'])}), the lowest "
        f"that of {lowest['class']} ({significant(lowest['contribution'])})."
    )


def degraded_curves(curves: pd.DataFrame, counts: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Figure 7's curves of one model's degraded domains, each up to all of its rise, and their median.

    `curves` has domain, tokens and share at the same numbers of tokens for all domains, as far as each one
    goes, and `counts` has domain and rising, the number of tokens at which it reaches 1 and ends.
    """
    table = curves.pivot(index="tokens", columns="domain", values="share")
    # Where a domain has no value it has come to its end.
    median = table.fillna(1.0).median(axis=1)
    median.loc[float(counts["rising"].max())] = 1.0
    found = {}
    for domain, rising in zip(counts["domain"], counts["rising"], strict=True):
        own = curves.loc[curves["domain"] == domain, ["tokens", "share"]]
        end = pd.DataFrame({"tokens": [float(rising)], "share": [1.0]})
        found[domain] = pd.concat([own[own["tokens"] < rising], end], ignore_index=True)
    return found, median.rename("share").rename_axis("tokens").reset_index()


def concentration_caption(counts: pd.DataFrame, model: str) -> str:
    """What to see in Figure 7, from the counts of tokens of the domains that got worse beyond noise."""
    if len(counts) == 1:
        lines = f"The line is {counts['domain'].iloc[0]}, the only domain that got worse beyond noise with {model}."
    else:
        lines = f"A thin line is one of the {len(counts)} domains that got worse beyond noise with {model}."
    parts = {percent(share): column for share, column in GROSS.items()} | {"all of it": "rising"}
    shown = listed((f"{part}: {_counted(counts[column])}" for part, column in parts.items()), "; ")
    return (
        f"{lines} The gross rise is the sum of what raises the mean NLL, whatever other tokens take back. The fewest "
        f"token ids that make up so much of it are, for {shown}."
    )


def _counted(counts: pd.Series) -> str:
    return span(counts.astype(int)) + (f" (median {counts.median():g})" if counts.nunique() > 1 else "")


def no_concentration(headline: pd.DataFrame) -> str:
    """Which models have no Figure 7; nothing if all have."""
    models = [str(m) for m, own in headline.groupby("model", sort=False) if not (own["outcome"] == WORSE).any()]
    return f"With {listed(models)} no domain got worse beyond noise, so there is no Figure 7 of it." if models else ""


def apart(evidence: pd.DataFrame) -> str:
    """What domain-specific tokens and all others changed by: the median domain of each portion."""
    parts = []
    for model, own in evidence.groupby("model", sort=False):
        medians = own.groupby("portion", sort=False)[["specific_change", "others_change"]].median()
        told = (
            f"{row.Index} {signed(row.specific_change, 3)} against {signed(row.others_change, 3)}"
            for row in medians.itertuples()
        )
        parts.append(f"{listed(told)} with {model}")
    return (
        "Change of the mean NLL on domain-specific tokens against that on all others, in nats per token, each the "
        f"median over domains: {listed(parts, '; ')}."
    )


def best_rule(stopping: pd.DataFrame) -> str:
    """After which share of the training the stopping rule saves most."""
    if stopping.empty:
        return "The curves have no point between their ends, so the rule could not be tried."
    best = stopping.loc[stopping["net"].idxmax()]
    cells, stopped = int(best["cells"]), int(best["stopped"])
    if not stopping["stopped"].any():
        return f"Whenever it is asked, it stops none of the {cells} cells."
    about = (
        f"after {percent(best['at'])} of the training: {significant(best['net'])} nats per token on the average of all "
        f"{cells} cells, {stopped} of which it stops"
    )
    worth = "It saves most if asked" if best["net"] > 0 else "It never saves more than it costs, and costs least"
    return f"{worth} {about}."


def going_on(evidence: pd.DataFrame) -> str:
    """Where validation would have one stop, and in how many cells that would have been better than the end."""
    best, lost = evidence["best_fraction"], evidence["lost_by_going_on"]
    losers = lost[lost > 0]
    many = f"; the other {len(losers)} lost {significant(losers.median(), '')} nats per token at the median"
    return (
        f"The loss on valid is lowest after {percent(round(best.median(), 4))} of the training at the median cell. By "
        f"going on from its lowest point to the end, {len(lost) - len(losers)} of {len(lost)} cells lost nothing on "
        f"test{many if len(losers) else ''}."
    )


def joined(joins: pd.DataFrame) -> str:
    """What became of the change where training and test join rows in the same way."""
    alike = joins[joins["trained"] == joins["scored"]]
    sentences = []
    for model, own in alike.groupby("model", sort=False):
        ways = own.groupby("scored", sort=False)
        changes = listed(f"{signed(rows['change'].mean(), 3)} ({way(str(name))})" for name, rows in ways)
        joints = listed(signed(rows["joint_contribution"].mean(), 3) for _, rows in ways)
        worse = listed(str(int((rows["change_low"] > 0).sum())) for _, rows in ways)
        sentences.append(
            f"With {model} and rows joined alike in training and in the test, the mean NLL changed by {changes} nats "
            f"per token on the average of domains; the joints themselves have {joints} of it. Worse beyond noise: "
            f"{worse} of {own['domain'].nunique()} domains."
        )
    return " ".join(sentences)


def way(name: str) -> str:
    """A way of joining rows to read."""
    return name.replace("_", " ")


def grid(joins: pd.DataFrame, column: str, ways: Sequence[str]) -> Mapping[tuple[str, str], list[float]]:
    """The means over domains of a column, by (model, way in training), one for each way in the test."""
    means = joins.groupby(["model", "trained", "scored"], sort=False)[column].mean()
    models = dict.fromkeys(joins["model"])
    return {
        (m, trained): [float(means.get((m, trained, scored), float("nan"))) for scored in ways]
        for m in models
        for trained in ways
    }
