"""The report's tables: results in, pandas frames out. No files here.

Everywhere, a change is adapted minus zero-shot: positive means that the domain got worse.
Perplexity is per token, exp(sum of NLL / tokens); the ratio of two perplexities of one text
is exp(difference of the mean NLLs), so its logarithm is in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from odyssey.corpora import m2d2
from odyssey.science.perplexity import Score
from odyssey.settings import Settings

Cell = tuple[str, str]
"""(model, domain)"""

DISTANCES = ("mmd", "fd")


def by_portion(settings_domains: Mapping[str, Any]) -> dict[str, str]:
    """{domain: portion}, portions in the order of their first domain, domains in the study's order."""
    portions = list(dict.fromkeys(about.portion for about in settings_domains.values()))
    ranked = sorted(settings_domains.items(), key=lambda item: portions.index(item[1].portion))
    return {domain: about.portion for domain, about in ranked}


def portion_order(settings: Settings) -> list[str]:
    """All of a study's portions, those that models are adapted to first."""
    domains = [*settings.adapted.values(), *settings.domains.values()]
    return list(dict.fromkeys(about.portion for about in domains))


def number_domains(domains: Mapping[str, Any]) -> pd.DataFrame:
    """One row a domain, by id: domain, id, and its name as it is displayed.

    M2D2's have the ids and names of the paper's appendix A.2. All others follow, portion by
    portion; they are called as in the settings.
    """
    own = [name for name in by_portion(domains) if domains[name].corpus != "m2d2"]
    known = {name: (m2d2.domains()[name].id, m2d2.domains()[name].display) for name in domains if name not in set(own)}
    first = len(m2d2.domains()) + 1 if known else 1
    known |= {name: (i, name) for i, name in enumerate(own, first)}
    rows = [(name, *about) for name, about in sorted(known.items(), key=lambda item: item[1][0])]
    return pd.DataFrame(rows, columns=["domain", "id", "display"])


def headline(scores: Mapping[Cell, Mapping[str, Any]], similarity: pd.DataFrame) -> pd.DataFrame:
    """One row a cell: perplexities, change, ratio, bits per byte, distances with n and d.

    `scores[model, domain]` holds nll_sum (nats), tokens and bytes of "zero_shot" and "adapted";
    `similarity` has one row a domain. Models keep their order; within one, rows are sorted by
    portion (in the order of `similarity`) and then by change, the largest gain first.
    """
    rows = []
    for (model, domain), score in scores.items():
        before, after = Score(**score["zero_shot"]), Score(**score["adapted"])
        row = {"model": model, "domain": domain, "zero_shot": before.perplexity, "adapted": after.perplexity}
        row |= {"change": after.perplexity - before.perplexity, "ratio": after.perplexity / before.perplexity}
        row |= {"bits_per_byte_zero_shot": before.bits_per_byte, "bits_per_byte_adapted": after.bits_per_byte}
        rows.append(row)
    table = pd.DataFrame(rows).merge(similarity, on="domain", validate="many_to_one")
    table.insert(2, "portion", table.pop("portion"))
    models, portions = list(dict.fromkeys(m for m, _ in scores)), list(dict.fromkeys(similarity["portion"]))
    order = sorted(
        range(len(table)),
        key=lambda i: (
            models.index(table["model"][i]),
            portions.index(table["portion"][i]),
            table["change"][i],
            table["domain"][i],
        ),
    )
    return table.iloc[order].reset_index(drop=True)


def portions(headline: pd.DataFrame) -> pd.DataFrame:
    """Per model and portion: domains that got worse, better, or stayed; median ratio of perplexities."""
    rows = []
    for (model, portion), group in headline.groupby(["model", "portion"], sort=False):
        change = group["change"]
        row = {"model": model, "portion": portion, "domains": len(group), "worse": int((change > 0).sum())}
        row |= {"better": int((change < 0).sum()), "median_ratio": float(group["ratio"].median())}
        rows.append(row)
    return pd.DataFrame(rows)


def correlations(headline: pd.DataFrame) -> pd.DataFrame:
    """Spearman's and Pearson's correlation of the change with MMD and with FD, over domains.

    Per model, for the change in perplexity ("change") and in its logarithm ("log_change", nats per
    token); over all domains and within each portion, because two portions that differ in both
    quantities correlate without any relation inside them. p-values are two-sided and take domains as
    independent. NaN where it is undefined: fewer than three domains, or a constant.
    """
    rows = []
    table = headline.assign(log_change=[math.log(ratio) for ratio in headline["ratio"]])
    for model, own in table.groupby("model", sort=False):
        groups = [("all", own), *own.groupby("portion", sort=False)]
        for portion, group in groups if own["portion"].nunique() > 1 else groups[:1]:
            for change in ("change", "log_change"):
                for distance in DISTANCES:
                    found = _correlate(group[distance], group[change])
                    key = {"model": model, "portion": portion, "change": change, "distance": distance}
                    rows.append({**key, "n": len(group), **found})
    return pd.DataFrame(rows)


def top_tokens(tables: Mapping[tuple[str, str, str], pd.DataFrame], top: int) -> pd.DataFrame:
    """The tokens that raise and that lower the mean NLL most, `top` together, of each table.

    `tables[model, domain, split]` has token_id, token, count, nll_before, nll_after, change and
    contribution (nats). `rank` 1 is the largest contribution of its direction, "up" being worse.
    """
    parts = []
    for (model, domain, split), table in tables.items():
        ranked = table.sort_values(["contribution", "token_id"], ascending=[False, True])
        up = ranked[ranked["contribution"] > 0].head(math.ceil(top / 2))
        down = ranked[ranked["contribution"] < 0].tail(top // 2).iloc[::-1]
        for direction, part in (("up", up), ("down", down)):
            key = {"model": model, "domain": domain, "split": split, "direction": direction}
            parts.append(part.assign(**key, rank=range(1, len(part) + 1)))
    columns = ["model", "domain", "split", "direction", "rank"]
    table = pd.concat(parts, ignore_index=True)
    return table[columns + [column for column in table.columns if column not in columns]]


def metrics(portions: pd.DataFrame, correlations: pd.DataFrame) -> dict[str, Any]:
    """{model: {"worse": {portion: count}, "median_ratio": {portion: ratio}, "spearman": {distance: r}}}.

    Spearman's r is that of the log change, over all domains; undefined ones are left out.
    """
    found: dict[str, Any] = {}
    for model, own in portions.groupby("model", sort=False):
        of_model = correlations[correlations["model"] == model]
        found[str(model)] = {
            "worse": {row.portion: int(row.worse) for row in own.itertuples()},
            "median_ratio": {row.portion: round(float(row.median_ratio), 6) for row in own.itertuples()},
            "spearman": {
                distance: round(r, 6) for distance in DISTANCES if not math.isnan(r := spearman(of_model, distance))
            },
        }
    return found


def spearman(correlations: pd.DataFrame, distance: str, column: str = "spearman", portion: str = "all") -> float:
    """A figure of one model's correlations of the log change with `distance`."""
    own = correlations[(correlations["change"] == "log_change") & (correlations["portion"] == portion)]
    return float(own.loc[own["distance"] == distance, column].iloc[0])


def most_degraded(headline: pd.DataFrame, model: str) -> str:
    """The domain with the largest perplexity ratio: the worst, or, if none got worse, the least improved."""
    own = headline[headline["model"] == model]
    return str(own.loc[own["ratio"].idxmax(), "domain"])


def draw_domains(portion_of: Mapping[str, str], rng: np.random.Generator, each: int = 2) -> list[str]:
    """`each` domains of every portion, at random, in the given order (the paper: four, at random)."""
    drawn: set[str] = set()
    for portion in dict.fromkeys(portion_of.values()):
        own = [domain for domain in portion_of if portion_of[domain] == portion]
        drawn.update(own[i] for i in rng.choice(len(own), min(each, len(own)), replace=False))
    return [domain for domain in portion_of if domain in drawn]


def plain(headline: pd.DataFrame, portions: pd.DataFrame, width: int = 100) -> str:
    """The headline table for a terminal, in at most `width` columns; long names are cut."""
    columns = ["zero-shot", "adapted", "change", "ratio", "MMD", "FD"]
    values = [_values(row) for row in headline.itertuples()]
    widths = [max(len(name), *(len(line[i]) for line in values)) for i, name in enumerate(columns)]
    left = width - sum(widths) - 2 * len(widths)
    second = min(max(7, *map(len, headline["portion"])), left // 3)
    first = min(max(6, *map(len, headline["domain"])), left - second - 4)

    def line(domain: str, portion: str, figures: Sequence[str]) -> str:
        names = f"  {_cut(domain, first):<{first}}  {_cut(portion, second):<{second}}"
        return names + "".join(f"  {value:>{size}}" for value, size in zip(figures, widths, strict=True))

    lines: list[str] = []
    for model, own in portions.groupby("model", sort=False):
        lines += [_cut(f"model {model}: test perplexity (change above 0: got worse)", width)]
        lines += [line("domain", "portion", columns)]
        lines += [
            line(row.domain, row.portion, figures)
            for row, figures in zip(headline.itertuples(), values, strict=True)
            if row.model == model
        ]
        for row in own.itertuples():
            text = f"  {row.portion}: {row.worse} of {row.domains} got worse, median ratio x{row.median_ratio:.3f}"
            lines.append(_cut(text, width))
        lines.append("")
    return "\n".join(lines)


def _values(row: Any) -> list[str]:
    """A row's figures to read."""
    perplexities = [number(row.zero_shot), number(row.adapted), number(row.change, "+"), f"x{row.ratio:.3f}"]
    return [*perplexities, f"{row.mmd:.4f}", f"{row.fd:.4f}"]


def number(value: float, sign: str = "") -> str:
    """A figure to read: two decimals, fewer when large, more when small; never a rounded-away sign."""
    size = abs(value)
    if size and (size >= 1e6 or size < 0.001):
        return f"{value:{sign}.2e}"
    decimals = 0 if size >= 10_000 else 1 if size >= 1000 else 2 if size >= 0.01 or not size else 4
    return f"{value:{sign},.{decimals}f}"


def _correlate(x: pd.Series, y: pd.Series) -> dict[str, float]:
    from scipy import stats

    if len(x) < 3 or x.nunique() == 1 or y.nunique() == 1:
        return dict.fromkeys(("spearman", "spearman_p", "pearson", "pearson_p"), math.nan)
    rank, line = stats.spearmanr(x, y), stats.pearsonr(x, y)
    found = {"spearman": rank.statistic, "spearman_p": rank.pvalue, "pearson": line.statistic, "pearson_p": line.pvalue}
    return {name: float(value) for name, value in found.items()}


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
