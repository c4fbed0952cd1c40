"""Several seeds of a study together, from what was published of each.

A seed draws everything anew, so a study's results are those of one seed, and MLflow is where
those of several meet.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pandas as pd

from odyssey import claims, verdicts
from odyssey.claims_tables import check_claims_table
from odyssey.errors import OdysseyError
from odyssey.estimates import correlations
from odyssey.frames import read_frame, write_frame
from odyssey.records import settings_digest
from odyssey.science import stats
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.tracking import publication
from odyssey.written import read_of


def combine(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The claims over all published seeds of a study, and each domain's change; logs a run of both.

    Seeds count whose settings were those of now but for the seed; of one with several published
    states, the one does that was new last. Raises OdysseyError if there are not two.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = publication.evidence(settings.study, settings_digest(settings), Path(folder))
        frames = [_evidence(settings.study, path) for path in paths]
        seeds = sorted({int(frame["seed"].iloc[0]) for frame in frames})
        if len(seeds) < 2:
            raise OdysseyError(
                f"study '{settings.study}': {len(seeds)} seed(s) of it in MLflow, with the settings of now; run "
                "another one with `dvc exp run -S seed=1`, or `odyssey track` to publish what is there"
            )
        evidence = pd.concat(sorted(frames, key=lambda frame: int(frame["seed"].iloc[0])), ignore_index=True)
        rng = generator(0, "claims", *map(str, seeds))
        links = correlations(evidence, settings.claims, rng)
        found = verdicts.judge(evidence, links, settings.claims, rng)
        changes = by_domain(evidence, settings.claims.confidence)
        tables = {"claims": found, "correlations": links, "domains": changes, "evidence": evidence}
        for name, table in tables.items():
            write_frame(Path(folder) / f"{name}.csv", table)
        files = {f"claims/{name}.csv": Path(folder) / f"{name}.csv" for name in tables}
        publication.log_seeds(settings.study, seeds, files)
    return found, changes


def _evidence(study: str, path: Path) -> pd.DataFrame:
    with read_of(
        f"{path.name} of a run '{study} summary' in MLflow", "delete that run and publish its seed with `odyssey track`"
    ):
        table = read_frame(path)
        check_claims_table("evidence", table)
        int(table["seed"].iloc[0])
    return table


def by_domain(evidence: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Mean log change (nats/token) of each model and domain over seeds, with Student's interval.

    The spread between seeds holds all there is: other texts, another base model, another test split.
    """
    rows = []
    for (model, domain), own in evidence.groupby(["model", "domain"], sort=False):
        mean, interval = stats.over_seeds(own["log_change"].to_numpy(), confidence)
        key = {"model": model, "domain": domain, "portion": own["portion"].iloc[0], "seeds": len(own)}
        found = {"log_change": mean, "low": interval.low, "high": interval.high, "outcome": claims.outcome(interval)}
        rows.append(key | found | {"seeds_worse": int((own["outcome"] == claims.WORSE).sum())})
    return pd.DataFrame(rows)


def domain_text(changes: pd.DataFrame) -> str:
    """Each domain's mean log change over seeds, for a terminal."""
    width = max(map(len, changes["domain"]))
    lines = []
    for model, own in changes.groupby("model", sort=False):
        lines.append(f"model {model}: mean log change (nats/token) over seeds [interval]")
        for row in own.sort_values("log_change").itertuples():
            interval = "" if math.isnan(row.low) else f"[{row.low:+.3f}, {row.high:+.3f}]"
            lines.append(
                f"  {row.domain:<{width}}  {row.log_change:+.3f} {interval:<18} {row.seeds} seeds  {row.outcome}"
            )
    return "\n".join(lines)
