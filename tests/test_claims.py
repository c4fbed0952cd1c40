"""The paper's claims: verdicts on made-up evidence, and the stage on invented results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import ROOT, read_study
from results import QUICK, put_in_use, write_results

from odyssey import claims, seeds, verdicts
from odyssey.claims import FAILS, HOLDS, OPEN
from odyssey.cli import main
from odyssey.errors import OdysseyError
from odyssey.estimates import correlations
from odyssey.frames import read_frame
from odyssey.layout import Layout
from odyssey.reporting import claims_text
from odyssey.science.perplexity import Score
from odyssey.science.stats import Interval
from odyssey.settings import Settings
from odyssey.stages import claims as stage
from odyssey.stages import report
from odyssey.store import check_folder
from odyssey.tracking.connection import store
from odyssey.tracking.publication import publish


def evidence(seed: int = 0, **columns: Any) -> pd.DataFrame:
    """20 domains and two models as the paper has it: the nearer a domain, the worse; newlines carry it."""
    rng = np.random.default_rng(seed)
    frames = []
    for model, parameters, size in (("tiny", 100, 1.2), ("small", 900, 1.0)):
        fd = np.concatenate([np.linspace(0.3, 0.5, 10), np.linspace(0.7, 0.9, 10)])
        log_change = size * (0.1 - (fd > 0.6) * 0.6) - (fd - 0.4) * 0.2 + rng.normal(0, 0.01, 20)
        frame = pd.DataFrame(
            {"domain": [f"d{k}" for k in range(20)], "fd": fd, "mmd": fd / 4, "log_change": log_change}
        )
        frame = frame.assign(seed=seed, model=model, parameters=parameters, change=60 * np.expm1(log_change))
        frame["portion"] = np.where(fd < 0.6, "software", "science")
        frame["log_change_low"], frame["log_change_high"] = log_change - 0.02, log_change + 0.02
        frame["outcome"] = [claims.outcome(Interval(x - 0.02, x + 0.02)) for x in log_change]
        for name in ("rise_train_start", "rise_valid", "rise_test"):
            frame[name] = log_change + rng.normal(0, 0.005, 20)
        frame["tokens_50"] = rng.integers(2, 6, 20).astype(float)
        frame["newline_change"] = 0.5 + rng.normal(0, 0.02, 20)
        frame["newline"], frame["other"] = 0.05 + rng.normal(0, 0.002, 20), 0.01
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).assign(**columns)


def judge(found: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return verdicts.judge(found, correlations(found, QUICK, rng), QUICK, rng)


def judged(found: pd.DataFrame, number: str, model: str = "small") -> Any:
    """One claim's finding on a model."""
    table = judge(found)
    rows = table[(table["claim"] == number) & (table["model"].str.contains(model))]
    return next(rows.itertuples())


def test_every_claim_holds_where_all_is_as_the_paper_says() -> None:
    table = judge(evidence())
    # But 5c, which is true by choice of the domains.
    assert set(table.loc[table["claim"] != "5c", "verdict"]) == {HOLDS}, table[table["verdict"] != HOLDS].T
    assert set(table.loc[table["claim"] == "5c", "verdict"]) == {OPEN}
    assert list(dict.fromkeys(table["claim"])) == list(claims.CLAIMS)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    # A claim of sizes is of a pair of models, every other one of each model.
    assert table.groupby("claim").size().to_dict() == {n: 1 if n[0] == "4" else 2 for n in claims.CLAIMS}


def test_no_claim_holds_where_all_is_the_other_way_round() -> None:
    found = evidence()
    turned = ["log_change", "change", "rise_train_start", "rise_valid", "rise_test"]
    found[turned] = -found[turned]
    found["outcome"] = found["outcome"].map(
        {claims.WORSE: claims.BETTER, claims.BETTER: claims.WORSE, claims.SAME: claims.SAME}
    )
    found["rise_train_start"] = found["rise_valid"] = found["rise_test"] = -0.1 - found["fd"] / 100
    found["tokens_50"], found["newline"], found["newline_change"] = 50.0 + 10 * found["fd"], -found["fd"], -found["fd"]
    found["parameters"] = found["model"].map({"tiny": 900, "small": 100})
    table = judge(found)
    assert set(table.loc[table["claim"] != "5c", "verdict"]) == {FAILS}, table[table["verdict"] != FAILS].T


def test_domains_that_move_both_ways_beyond_noise_refute_a_tendency() -> None:
    found = evidence()
    near = (found["portion"] == "software").to_numpy()
    signs = np.where(np.arange(len(found)) % 2, 1, -1)
    found["log_change"] = np.where(near, 0.1 * signs, found["log_change"])
    found["outcome"] = np.where(near, np.where(signs > 0, claims.WORSE, claims.BETTER), found["outcome"])
    finding = judged(found, "2")
    assert finding.verdict == FAILS
    assert "clearly move both ways" in finding.reason
    assert "5 of 10 software cells worse and 5 better" in finding.reason


def test_one_clear_exception_refutes_an_always_and_a_slight_one_does_not() -> None:
    for change, verdict in ((0.025, HOLDS), (0.7, FAILS)):
        found = evidence()
        first = found.index[(found["portion"] == "science") & (found["model"] == "small")][0]
        # Standard error 0.0102: 2.4 of them are no rarity in ten domains.
        found.loc[first, ["log_change", "log_change_low", "log_change_high"]] = change, change - 0.02, change + 0.02
        found.loc[first, "outcome"] = claims.WORSE
        finding = judged(found, "1")
        assert finding.verdict == verdict
        assert ("d10" in finding.reason) == (verdict == FAILS)


def test_few_domains_in_order_by_chance_show_no_relation() -> None:
    found = evidence()
    few = found[found["domain"].isin(["d0", "d10", "d19"])]
    assert judged(few, "3b").verdict == OPEN
    assert "by chance" in judged(few, "3b").reason


def test_models_of_one_size_are_not_compared() -> None:
    finding = judged(evidence(parameters=100), "4a")
    assert (finding.verdict, finding.reason) == (OPEN, "the models are of one size")


def test_texts_without_newlines_say_nothing_of_them() -> None:
    for number in ("6b", "6c"):
        finding = judged(evidence(newline=np.nan, newline_change=np.nan), number)
        assert (finding.verdict, finding.reason) == (OPEN, "the test texts have no such tokens")


def test_a_change_without_an_interval_is_not_called_noise() -> None:
    assert claims.outcome(Interval(np.nan, np.nan)) == claims.UNKNOWN


def test_noise_decides_nothing() -> None:
    noise = np.tile(np.random.default_rng(1).normal(0, 1, 20), 2)
    found = evidence(log_change=noise, log_change_low=-3, log_change_high=3, outcome=claims.SAME)
    for number in ("1", "2", "3a", "3b"):
        finding = judged(found, number)
        assert finding.verdict == OPEN
        assert finding.reason.startswith("undecided")
    for number in ("5a", "5b", "5c", "6a", "6c"):
        finding = judged(found, number)
        assert (finding.verdict, finding.reason) == (OPEN, "no domain got worse beyond noise")
        assert np.isnan(finding.value)


def test_two_degraded_domains_have_students_interval() -> None:
    found = evidence()
    small = (found["model"] == "small").to_numpy()
    found.loc[small, "outcome"] = [claims.WORSE] * 2 + [claims.SAME] * 18
    found.loc[small, "tokens_50"] = [14.0, 16.0] + [3.0] * 18
    finding = judged(found, "6a")
    # t(0.975, 1) = 12.706; the standard error of 14 and 16 is 1.
    assert (finding.value, finding.n) == (15, 2)
    assert (finding.low, finding.high) == pytest.approx((15 - 12.706, 15 + 12.706), rel=1e-3)
    assert finding.verdict == OPEN


def test_what_a_study_cannot_test_is_not_tested() -> None:
    found = evidence()
    one = found[(found["model"] == "small") & (found["portion"] == "software")].head(2)
    reasons = {number: judged(one, number).reason for number in claims.CLAIMS}
    assert "one portion" in reasons["1"] == reasons["2"]
    assert "too few" in reasons["3a"] == reasons["3b"]
    assert "one model" in reasons["4a"] == reasons["4b"]


def test_several_seeds_are_averaged_within_a_domain() -> None:
    both = pd.concat([evidence(0), evidence(1)], ignore_index=True)
    finding = judged(both, "1")
    assert (finding.n, finding.seeds) == (10, 2)
    rows = both[(both["model"] == "small") & (both["portion"] == "science")]
    assert finding.value == pytest.approx(rows.groupby("domain")["log_change"].mean().mean())
    # A domain that only one seed has counts with that one.
    less = judged(both.drop(index=rows.index[0]), "1")
    assert less.n == 10


def test_the_order_of_the_evidence_does_not_matter() -> None:
    found = evidence()
    values = [
        judge(frame).sort_values(["claim", "model"])["value"].to_numpy()
        for frame in (found, found.sample(frac=1, random_state=3))
    ]
    np.testing.assert_allclose(values[0], values[1])


def test_correlations_agree_with_scipy() -> None:
    from scipy.stats import pearsonr, spearmanr

    found = evidence()
    table = correlations(found, QUICK, np.random.default_rng(0))
    assert len(table) == 2 * 3 * 2 * 2
    for row in table.itertuples():
        own = found[(found["model"] == row.model) & ((found["portion"] == row.portion) | (row.portion == "all"))]
        assert row.n == len(own)
        for kind, peer in (("spearman", spearmanr), ("pearson", pearsonr)):
            value, low, high = (getattr(row, f"{kind}{end}") for end in ("", "_low", "_high"))
            assert value == pytest.approx(peer(own[row.distance], own[row.change]).statistic)
            assert low <= value <= high


def test_text_names_every_claim_with_its_numbers() -> None:
    table = judge(evidence())
    text, short = claims_text.details(table), claims_text.verdicts(table)
    for claim in claims.CLAIMS.values():
        assert claim.statement.split()[0] in text
        assert claim.statement.split()[0] in short
    assert max(map(len, [*text.splitlines(), *short.splitlines()])) <= 100
    assert f"{table['value'].iloc[0]:+.3g}" in text


# --- the stage


@pytest.fixture(scope="module")
def study(smoke_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Layout]:
    settings = smoke_settings.model_copy(update={"claims": QUICK})
    layout = Layout(tmp_path_factory.mktemp("claims") / "smoke")
    write_results(settings, layout)
    return settings, layout


def test_changes_are_those_of_the_scores_and_parts_sum_to_them(study: tuple[Settings, Layout]) -> None:
    settings, layout = study
    found = read_frame(layout.claims / "evidence.csv")
    classes = read_frame(layout.claims / "classes.csv")
    assert len(found) == len(settings.models) * len(settings.adapted)
    for row in found.itertuples():
        scores = json.loads((layout.evaluated(row.model, row.domain) / "scores.json").read_text())
        before, after = (Score(**scores[name]) for name in ("zero_shot", "adapted"))
        assert row.change == pytest.approx(after.perplexity - before.perplexity, rel=1e-9)
        assert row.log_change == pytest.approx(after.mean_nll - before.mean_nll, rel=1e-9)
        own = classes[(classes["model"] == row.model) & (classes["domain"] == row.domain)]
        assert abs(own["contribution"].sum() - row.log_change) < 1e-9
        assert own["tokens"].sum() == before.tokens
        assert row.change_low <= row.change <= row.change_high
        assert row.units == 25


def test_a_second_run_keeps_the_folder_and_a_changed_result_does_not(
    study: tuple[Settings, Layout], tmp_path: Path
) -> None:
    settings, layout = study
    before = check_folder(layout.claims, "claims")
    stamp = (layout.claims / "claims.csv").stat().st_mtime_ns
    again = stage.run(settings, layout)
    assert (layout.claims / "claims.csv").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(again, read_frame(layout.claims / "claims.csv"))
    other = Layout(tmp_path / "smoke")
    write_results(settings, other)
    assert check_folder(other.claims, "claims") == before
    write_results(settings, other, seed=1)
    assert check_folder(other.claims, "claims") != before


def test_a_damaged_result_is_named(study: tuple[Settings, Layout], tmp_path: Path) -> None:
    settings, _ = study
    layout = Layout(tmp_path / "smoke")
    write_results(settings, layout)
    path = layout.evaluated("one", "click") / "adapted.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(OdysseyError, match=r"adapted\.npy: damaged.*dvc repro evaluate"):
        stage.run(settings, layout)


def test_the_command_prints_verdicts_and_names_what_is_missing(tmp_path: Path) -> None:
    settings = read_study(ROOT / "tests" / "smoke.yaml")
    options = ["--params", str(put_in_use(settings, tmp_path)), "--data", str(tmp_path / "data"), "claims"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert "dvc repro similarity" in result.output
    write_results(settings, Layout(tmp_path / "data" / "smoke"))
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert all(f"\n{number:<3} " in f"\n{result.stdout}" for number in claims.CLAIMS)
    found, shown = read_frame(tmp_path / "data" / "smoke" / "claims" / "claims.csv"), " ".join(result.stdout.split())
    assert all(f" {row.model}: {row.verdict}; " in shown for row in found.itertuples())
    assert "nan" not in result.stdout


# --- several seeds


def test_seeds_meet_in_mlflow(study: tuple[Settings, Layout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    settings, _ = study
    for seed in (0, 1):
        own = settings.model_copy(update={"seed": seed})
        layout = Layout(tmp_path / f"data{seed}" / "smoke")
        write_results(own, layout, seed=seed)
        report.run(own, layout)
        publish(own, layout)
        if seed == 0:
            with pytest.raises(OdysseyError, match="1 seed"):
                seeds.combine(own)
    found, changes = seeds.combine(settings)
    assert set(found["seeds"]) == {2}
    assert set(changes["seeds"]) == {2}
    frames = [read_frame(tmp_path / f"data{seed}" / "smoke" / "claims" / "evidence.csv") for seed in (0, 1)]
    both = pd.concat(frames).groupby(["model", "domain"], sort=False)["log_change"].mean()
    np.testing.assert_allclose(changes["log_change"], both)
    # The command says the same again.
    said = CliRunner().invoke(main, ["--params", str(put_in_use(settings, tmp_path)), "claims", "--all-seeds"])
    assert said.exit_code == 0, said.output
    assert said.stdout == f"{seeds.domain_text(changes)}\n\n{claims_text.details(found)}\n"
    shown = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert shown[0] == "model one: mean log change (nats/token) over seeds [interval]"
    for row in changes.itertuples():
        interval = f"[{row.low:+.3f}, {row.high:+.3f}]"
        assert f"{row.domain} {row.log_change:+.3f} {interval} 2 seeds {row.outcome}" in shown
    with store() as client:
        experiment = client.get_experiment_by_name(settings.study)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "tags.seeds != ''")
        assert [run.info.run_name for run in runs] == ["smoke seeds 0, 1"]
        assert {file.path for file in client.list_artifacts(runs[0].info.run_id, "claims")} == {
            "claims/claims.csv",
            "claims/correlations.csv",
            "claims/domains.csv",
            "claims/evidence.csv",
        }
    # Of a tag that somebody else has written no folder's name is made, and what is none is left out.
    for summary in client.search_runs([experiment.experiment_id], "tags.current = 'summary'"):
        if summary.data.tags["seed"] == "1":
            client.set_tag(summary.info.run_id, "seed", "0/../../ESCAPED")
    with pytest.raises(OdysseyError, match="1 seed"):
        seeds.combine(settings)
    # Other settings are another study.
    other = settings.model_copy(update={"claims": QUICK.model_copy(update={"resamples": 300})})
    with pytest.raises(OdysseyError, match="0 seed"):
        seeds.combine(other)
