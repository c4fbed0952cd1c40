"""Stage report: its tables, words, figures and page, from invented results."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PAPER_STUDIES
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from results import QUICK, write_results

from odyssey import portions
from odyssey.claims import BETTER, HOLDS, SAME, WORSE
from odyssey.corpora import m2d2
from odyssey.errors import OdysseyError
from odyssey.estimates import correlations
from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.provenance import git_state
from odyssey.reporting import (
    answer,
    captions,
    domain_axis,
    figure_style,
    figures,
    method,
    method_claims,
    page_tables,
    parameters,
    tables,
    terminal,
    token_figures,
    words,
)
from odyssey.sections import HubSource, LocalSource, PublishedModel
from odyssey.settings import Settings, load_settings, validate
from odyssey.stages import claims, report
from odyssey.store import MANIFEST, new_folder, read_json

PARAMS = Path(__file__).parent.parent / "params.yaml"
STUDIES = ["mini", *PAPER_STUDIES]
CARRIED = {"tokens_50": 30.0, "newline": 0.01, "other": 0.02}
"""Of the evidence, what the answer reads of tokens."""
DOMAINS = ["pandas", "torch", "mlflow", "scipy.stats", "mpmath"]


def few(settings: Settings, domains: list[str] = DOMAINS, models: tuple[str, ...] = ("tiny",)) -> Settings:
    """The default study with fewer domains and models."""
    chosen = {name: settings.domains[name] for name in domains}
    kept = {name: settings.models[name] for name in models}
    return settings.model_copy(update={"domains": chosen, "adapt_to": domains, "models": kept})


@pytest.fixture(scope="module")
def settings() -> Settings:
    return few(load_settings(PARAMS, "mini").model_copy(update={"seed": 0, "claims": QUICK}))


@pytest.fixture(scope="module")
def paper() -> Settings:
    """The paper's GPT2-small: 199 domains measured, 20 adapted to."""
    return load_settings(PARAMS, "gpt2-small").model_copy(update={"seed": 0, "claims": QUICK})


@pytest.fixture(scope="module")
def layout(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("report") / "data")
    write_results(settings, layout)
    report.run(settings, layout)
    return layout


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at no picture: figures are made, but not rendered, which takes most of a report's time."""

    monkeypatch.setattr(figure_style, "save", lambda figure, path: path.touch())


def table_of(*rows: tuple[str, str, str, float, float, float], noise: tuple[str, ...] = ()) -> pd.DataFrame:
    """A headline table from (model, domain, portion, zero_shot, adapted, mmd), one token each.

    Intervals reach a tenth of the change to either side, and those of the domains in `noise` twice the change.
    """
    scores = {
        (model, domain): {
            "zero_shot": {"nll_sum": math.log(zero_shot), "tokens": 1, "bytes": 1},
            "adapted": {"nll_sum": math.log(adapted), "tokens": 1, "bytes": 1},
        }
        for model, domain, _, zero_shot, adapted, _ in rows
    }
    places = {domain: (domain, portion, mmd, mmd + 0.2, 1500, 400, 384) for _, domain, portion, _, _, mmd in rows}
    columns = ["domain", "portion", "mmd", "fd", "n_source", "n_target", "d"]
    similarity = pd.DataFrame(places.values(), columns=columns)
    return tables.headline(scores, similarity, pd.DataFrame([evidence_of(*row[:2], *row[3:5], noise) for row in rows]))


def evidence_of(
    model: str, domain: str, zero_shot: float, adapted: float, noise: tuple[str, ...] = ()
) -> dict[str, object]:
    change = adapted - zero_shot
    reach = abs(change) * (2 if domain in noise else 0.1)
    outcome = SAME if domain in noise or not change else WORSE if change > 0 else BETTER
    ends = {"change_low": change - reach, "change_high": change + reach}
    return {"model": model, "domain": domain, **ends, "outcome": outcome, "units": 30, "unit": "document"}


def numbered(headline: pd.DataFrame) -> pd.DataFrame:
    """As the figures take it."""
    return headline.assign(id=range(1, len(headline) + 1))


def correlated(headline: pd.DataFrame) -> pd.DataFrame:
    """As stage `claims` has it."""
    evidence = headline.assign(seed=0, log_change=np.log(headline["ratio"]))
    return correlations(evidence, QUICK, np.random.default_rng(0))


def said_of(headline: pd.DataFrame, **carried: Any) -> list[str]:
    """The answer's three sentences; `carried` are columns of the evidence on tokens, alike for all domains or not."""
    evidence = headline.assign(log_change=np.log(headline["ratio"]), **{**CARRIED, **carried})
    found = {"correlations": correlated(headline), "evidence": evidence}
    told = answer.answer(tables.portions(headline), found)
    assert [asked for asked, _ in told] == [
        "Does it get worse?",
        "Does similarity say where?",
        "Through which tokens?",
    ]
    sentences = [sentence for _, sentence in told]
    assert all(re.fullmatch(r"[^.]*(\.(?! )[^.]*)*\.", sentence) for sentence in sentences), sentences
    return sentences


def test_headline_derives_perplexities_from_sums() -> None:
    # 10 tokens of ln 8 and of ln 4 nats in 30 bytes: perplexity 8 and 4, 3 and 2 bits a token, 1 and 2/3 a byte.
    score = {
        "zero_shot": {"nll_sum": 10 * math.log(8), "tokens": 10, "bytes": 30},
        "adapted": {"nll_sum": 10 * math.log(4), "tokens": 10, "bytes": 30},
    }
    similarity = pd.DataFrame(
        [("a", "p", 0.1, 0.3, 5, 4, 3)], columns=["domain", "portion", "mmd", "fd", "n_source", "n_target", "d"]
    )
    evidence = pd.DataFrame([evidence_of("m", "a", 8, 4)])
    row = tables.headline({("m", "a"): score}, similarity, evidence).iloc[0]
    assert row[["zero_shot", "adapted", "change", "ratio"]].tolist() == pytest.approx([8, 4, -4, 0.5])
    assert row[["change_low", "change_high", "outcome", "units"]].tolist() == [pytest.approx(-4.4), -3.6, "better", 30]
    assert row[["bits_per_byte_zero_shot", "bits_per_byte_adapted"]].tolist() == pytest.approx([1, 2 / 3])
    assert row[["mmd", "fd", "n_source", "n_target", "d"]].tolist() == [0.1, 0.3, 5, 4, 3]


def test_headline_is_sorted_by_model_portion_and_change() -> None:
    found = table_of(
        ("z", "far", "science", 100, 50, 0.4),
        ("z", "up", "software", 10, 11, 0.1),
        ("z", "down", "software", 10, 9, 0.2),
        ("a", "up", "software", 10, 12, 0.1),
    )
    assert found[["model", "domain"]].values.tolist() == [["z", "far"], ["z", "down"], ["z", "up"], ["a", "up"]]


def test_portions_count_what_is_beyond_noise_and_take_the_median() -> None:
    rows = [("m", name, "p", 10, after, 0.1) for name, after in (("a", 11), ("b", 10), ("c", 5), ("d", 14))]
    assert tables.portions(table_of(*rows, noise=("d",))).to_dict("records") == [
        {
            "model": "m",
            "portion": "p",
            "domains": 4,
            "worse": 1,
            "better": 1,
            "within_noise": 2,
            "median_ratio": pytest.approx(1.05),
        }
    ]


def test_correlations_are_shown_with_their_intervals() -> None:
    # Far domains gain more, but within each portion the farther one gains less.
    found = correlated(
        table_of(
            *[("m", f"near{i}", "near", 100, 90 + i, 0.1 * i) for i in range(3)],
            *[("m", f"far{i}", "far", 100, 20 + i, 1 + 0.1 * i) for i in range(3)],
        )
    )
    rank = {part: tables.spearman(found, "mmd", portion=part) for part in ("all", "near", "far")}
    # Ranks 1..6 against 4, 5, 6, 1, 2, 3: 1 - 6 * (6 * 3^2) / (6 * 35) = -19/35.
    assert rank == pytest.approx({"all": -19 / 35, "near": 1, "far": 1})
    shown = page_tables.correlation_rows(found)
    assert shown["header"][4:8] == ["n", "Spearman", "interval", "p"]
    row = next(row for row in shown["rows"] if row[:4] == ["m", "near", "log change", "MMD"])
    assert row[4:7] == ["3", "+1.00", "[+1.00, +1.00]"]


def test_correlations_are_undefined_for_few_or_equal() -> None:
    few_rows = table_of(("m", "a", "p", 10, 11, 0.1), ("m", "b", "p", 10, 9, 0.2))
    equal = table_of(*[("m", name, "p", 10, 11 + i, 0.1) for i, name in enumerate("abc")])
    for headline in (few_rows, equal):
        found = tables.metrics(tables.portions(headline), correlated(headline), pd.DataFrame({"verdict": [HOLDS]}))
        assert found["m"]["r"] == {}
        json.dumps(found, allow_nan=False)
        assert "cannot be said" in said_of(headline)[1]
        assert page_tables.correlation_rows(correlated(headline))["rows"][0][5:8] == ["–", "–", "–"]


def test_metrics_are_few_and_of_models_and_claims() -> None:
    # Changes +10%, -10% and, within noise, +40%; MMD ranks 3, 1, 2 against changes' ranks 2, 1, 3: r = 1 - 6 * 2 / 24.
    rows = [("m", name, "p", 10, after, x) for name, after, x in (("a", 11, 0.3), ("b", 9, 0.1), ("c", 14, 0.2))]
    headline = table_of(*rows, noise=("c",))
    verdicts = pd.DataFrame({"verdict": ["holds", "holds", "does not hold"]})
    assert tables.metrics(tables.portions(headline), correlated(headline), verdicts) == {
        "m": {"worse": {"p": 1}, "ratio": {"p": 1.1}, "r": {"mmd": 0.5, "fd": 0.5}},
        "the claims": {"hold": 2, "fail": 1, "open": 0},
    }


def test_curves_hold_the_change_on_test_since_before() -> None:
    cell = pd.DataFrame({"step": [0, 9], "fraction": [0.0, 1.0], "train_start": 3.0, "valid": 4.0, "test": [4.0, 4.5]})
    found = tables.curves({("m", "a"): cell, ("m", "b"): cell - 1}, {"a": "p", "b": "q"})
    assert found[["model", "domain", "portion"]].values.tolist() == [["m", "a", "p"]] * 2 + [["m", "b", "q"]] * 2
    assert found["test_change"].tolist() == [0, 0.5, 0, 0.5]


def test_top_tokens_are_the_largest_of_each_direction() -> None:
    contribution = [0.3, 0.1, 0.2, -0.5, -0.1, 0.0]
    table = pd.DataFrame({"token_id": range(6), "token": list("abcdef"), "contribution": contribution})
    found = tables.top_tokens({("m", "d", "test"): table}, top=3)
    assert found[["direction", "rank", "token"]].values.tolist() == [["up", 1, "a"], ["up", 2, "c"], ["down", 1, "d"]]


def test_drawn_domains_are_two_of_each_portion() -> None:
    portion_of = {f"{portion}{i}": portion for portion in ("a", "b") for i in range(5)} | {"c0": "c"}
    drawn = portions.draw_domains(portion_of, np.random.default_rng(3))
    assert [portion_of[domain] for domain in drawn] == ["a", "a", "b", "b", "c"]
    assert drawn == portions.draw_domains(portion_of, np.random.default_rng(3))


def test_portions_are_kept_together() -> None:
    domains = load_settings(PARAMS, "mini").domains
    mixed = {name: domains[name] for name in ("mpmath", "torch", "networkx", "pandas")}
    assert list(portions.by_portion(mixed)) == ["mpmath", "networkx", "torch", "pandas"]


def test_plain_table_fits_a_terminal() -> None:
    long = "Culture_and_the_arts__The_arts_and_Entertainment" * 2
    headline = table_of((long, long, long, 1e9, 1.5e9, 0.1), (long, "b", "q", 123456, 12.5, 0.2))
    lines = terminal.plain(headline, tables.portions(headline), 0.95).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("x1.500" in line and "[+4.50e+08, +5.50e+08]" in line for line in lines)
    assert any("123,456" in line and "12.50" in line for line in lines)


def test_plain_table_says_what_is_beyond_noise() -> None:
    rows = [("m", name, "p", 10.0, after, 0.1) for name, after in (("a", 9.0), ("b", 10.5), ("c", 12.0))]
    headline = table_of(*rows, noise=("b",))
    headline.loc[2, ["change_low", "change_high"]] = np.nan  # as of a single document
    assert terminal.plain(headline, tables.portions(headline), 0.9).splitlines() == [
        "model m: test perplexity; a change above 0: got worse",
        "  p  zero-shot  adapted  change    90% interval   ratio     MMD      FD",
        "  a      10.00     9.00   -1.00  [-1.10, -0.90]  x0.900  0.1000  0.3000",
        "  b      10.00    10.50   +0.50  [-0.50, +1.50]  x1.050  0.1000  0.3000",
        "  c      10.00    12.00   +2.00               -  x1.200  0.1000  0.3000",
        "  p: 1 of 3 got worse, 1 better, 1 within noise, median ratio x1.050",
    ]


def test_plain_table_cuts_names_where_they_are_alike() -> None:
    names = [f"Technology_and_applied_sciences__{field}" for field in ("Agriculture", "Computing_and_more")]
    headline = table_of(*[("m", name, "Wiki", 10.0, 11.0, 0.1) for name in names])
    cut = [line.split()[0] for line in terminal.plain(headline, tables.portions(headline), 0.95, 90).splitlines()[2:4]]
    assert len(set(cut)) == 2
    assert all(name.startswith("Techno") and "..." in name for name in cut)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "+0.00"),
        (-0.004, "-0.0040"),
        (2e-5, "+2.00e-05"),
        (-7.125, "-7.12"),
        (1234.56, "+1,234.6"),
        (1e6, "+1.00e+06"),
    ],
)
def test_numbers_to_read(value: float, shown: str) -> None:
    assert words.number(value, "+") == shown


def test_answer_when_some_got_worse() -> None:
    rows = [("m", f"near{i}", "near", 10, 9 + i, 0.1 * i) for i in range(4)]
    often, where, through = said_of(table_of(*rows, ("m", "far", "far", 80, 20, 1.0), noise=("near3",)))
    # Near: 9, 10, 11 and, within noise, 12; the median of 0.9, 1, 1.1 and 1.2.
    assert often == (
        "Sometimes: with m, 1 of 4 near domains got worse beyond noise and 1 better (median ratio of perplexities "
        "×1.050) and 0 of 1 far domains got worse and 1 better (×0.250)."
    )
    assert where.startswith("Not clearly: over 5 domains, Spearman’s r between the distance to the source corpus and")
    assert ", with 0 of 2 intervals clear of 0; inside single portions r runs from " in where
    # ln 1.1 = 0.0953, of which 0.01 and 0.02.
    assert through == (
        "Through no handful: half of the rise in loss takes 30 token ids on the 1 domain that got worse with m; "
        "where it rose most, on near2 with m, the newline that adds most has 10.5% of it and the other token that "
        "adds most has 21.0%."
    )


def test_answer_calls_nothing_worse_within_noise() -> None:
    rows = [("m", name, "p", 10, 11, 0.1) for name in ("a", "b")]
    often, _, through = said_of(table_of(*rows, noise=("a", "b")))
    assert often.startswith("Not here beyond noise: with m, 0 of 2 p domains got worse beyond noise and 0 better ")
    assert through == "No token carries a rise, as none of the 2 adaptations got worse beyond noise."


def test_noise_is_explained_with_the_settings_confidence() -> None:
    headline = table_of(("m", "a", "p", 10, 11, 0.1), ("m", "b", "p", 10, 11, 0.1))
    assert "hold 90% intervals: of a change, over the 30 test documents" in captions.noise(headline, 0.9)
    headline["units"], headline["unit"] = [1200, 900], ["block", "document"]
    assert "the 900 to 1,200 test blocks or documents of its domain" in captions.noise(headline, 0.975)


def test_answer_when_all_improved() -> None:
    often, where, _ = said_of(table_of(*[("m", f"d{i}", "p", 100, 90 / 2**i, float(i)) for i in range(5)]))
    assert often.startswith("Not here: with m, 0 of 5 p domains got worse beyond noise and 5 better")
    assert where.startswith("Overall yes: over 5 domains, ")
    assert " is −1.00 [−1.00, −1.00] with MMD and −1.00 [−1.00, −1.00] with FD (m): the nearer a domain is " in where
    assert where.endswith("to the source corpus, the less adaptation tended to help.")


def test_answer_when_all_got_worse_and_the_far_ones_most() -> None:
    often, where, _ = said_of(table_of(*[("m", f"d{i}", "p", 100, 110 * 2**i, float(i)) for i in range(5)]))
    assert often.startswith("Always here: with m, 5 of 5 p domains got worse beyond noise and 0 better")
    assert "the more adaptation tended to help" in where


def test_answer_names_every_model() -> None:
    often, where, _ = said_of(
        table_of(*[(m, f"d{i}", "p", 100, 90 / 2**i, float(i)) for m in ("x", "y") for i in range(5)])
    )
    assert often.endswith(
        "with x, 0 of 5 p domains got worse beyond noise and 5 better (median ratio of perplexities ×0.225); "
        "with y, 0 of 5 p domains got worse and 5 better (×0.225)."
    )
    assert "with FD (x) and −1.00 [−1.00, −1.00] with MMD and" in where


@pytest.mark.parametrize(
    ("counts", "opening"),
    [
        ([3.0, 10.0], "Through a handful: half of the rise in loss takes 3 to 10 token ids on the 2 domains that"),
        ([10.0, 11.0], "Through a handful on some domains only: half of the rise in loss takes 10 to 11"),
        ([11.0, 12.0], "Through no handful: half of the rise in loss takes 11 to 12"),
    ],
)
def test_a_handful_of_tokens_is_up_to_ten(counts: list[float], opening: str) -> None:
    headline = table_of(("m", "a", "p", 10, 11, 0.1), ("m", "b", "p", 10, 12, 0.2))
    assert said_of(headline, tokens_50=counts)[2].startswith(opening)


def test_a_domain_without_newlines_is_no_error_and_gains_are_no_share() -> None:
    headline = table_of(("m", "a", "p", 10, 11, 0.1))
    assert "where it rose most, on a with m, it has no newline and the other" in said_of(headline, newline=math.nan)[2]
    assert "the newline that adds most has 0.0% of it" in said_of(headline, newline=-0.1)[2]


def test_the_worst_domain_is_named_with_its_tokens() -> None:
    headline = table_of(("m", "a", "p", 10, 11, 0.1), ("m", "b", "p", 10, 12, 0.2), ("n", "a", "p", 10, 9, 0.1))
    rows = [("m", "b", "test", "up", 2, "s"), ("m", "b", "test", "up", 1, " the"), ("m", "b", "train", "up", 1, "x")]
    rows += [("m", "a", "test", "up", 1, "y"), ("m", "b", "test", "down", 1, "z")]
    top = pd.DataFrame(rows, columns=["model", "domain", "split", "direction", "rank", "token"])
    assert answer.worst_domains(headline, top) == [
        ("m", "b", True, "10.00 to 12.00, ×1.200, +2.00 [+1.80, +2.20]", ["␣the", "s"]),
        ("n", "a", False, "10.00 to 9.00, ×0.900, −1.00 [−1.10, −0.90]", []),
    ]


def marked(path: Path) -> dict[str, Any]:
    """The parameters of a study's file with the comment `# paper`, or `# paper: <value>` where ours differs."""
    found: dict[str, Any] = {}
    above: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not (key := re.match(r"( *)([\w.-]+):", line)):
            continue
        above = [*above[: len(key[1]) // 2], key[2]]
        if mark := re.search(r": *(\S+) *# paper(?:: *(\S+).*)?$", line):
            value = mark[2] or mark[1]
            found[".".join(above)] = None if value == "all" else yaml.safe_load(value)
    return found


@pytest.mark.parametrize("study", STUDIES)
def test_paper_parameters_are_those_marked_in_the_study(study: str) -> None:
    found = marked(PARAMS.parent / "studies" / f"{study}.yaml")
    assert found == parameters.stated(load_settings(PARAMS, study))


def origins(settings: Settings) -> dict[str, tuple[str, str]]:
    return {key: (value, origin) for key, value, origin in parameters.parameters(settings)}


def test_parameters_say_whose_choice_they_are(settings: Settings) -> None:
    rows = origins(settings)
    assert rows["adapt.train_start"] == ("0.03", "paper")
    assert rows["embed.max_texts"] == (str(settings.embed.max_texts), "ours (paper: 50000)")
    assert rows["evaluate.separator"] == ('"\\n"', "ours")
    assert rows["domains.pandas"] == ("software; docstrings: pandas", "ours")
    assert rows["models.tiny.architecture.layers"][1] == "ours"
    assert rows["adapt_to"] == ("all", "ours")
    assert rows["tokens.source_texts"] == ("50000", "ours")
    assert [rows[f"claims.{key}"] for key in ("confidence", "resamples")] == [("0.95", "ours"), ("200", "ours")]
    assert rows["joins"] == ("none", "ours")
    ways = settings.model_copy(update={"joins": ["newline", "end_of_text"]})
    assert origins(ways)["joins"] == ("newline, end_of_text", "ours")


def test_parameters_of_the_papers_own_study(paper: Settings) -> None:
    rows = origins(paper)
    assert rows["models.gpt2-small.adapt_learning_rate"] == ("5e-05", "paper")
    assert rows["source.rows"] == ("400000", "paper")
    assert rows["sample.rows.train"] == ("all", "ours")
    assert rows["adapt.engine.offload_optimizer"] == ("false", "ours")
    # One row, not 199; 51 ids of appendix A.2 come before arXiv's, two of them S2ORC's.
    assert [key for key in rows if key.startswith("domains")] == ["domains"]
    value = "m2d2 at revision 6ae613b, 150 S2ORC and 49 Wiki: all of the paper's appendix A.2"
    assert rows["domains"] == (value, "paper")
    assert rows["adapt_to"][0].startswith("Society_and_social_sciences__Society, Technology")
    assert rows["adapt_to"][1] == "paper"


@pytest.mark.parametrize(
    ("corpus", "rows", "origin"),
    [
        ("openwebtext", 1000, "ours (paper: 400000)"),
        ("dolma", 650_000, "paper"),
        ("redpajama", None, "paper"),
        ("redpajama", 1000, "ours (paper: all)"),
    ],
)
def test_source_rows_are_compared_with_the_papers(paper: Settings, corpus: Any, rows: int | None, origin: str) -> None:
    source = HubSource(corpus=corpus, revision="main", rows=rows)
    assert origins(paper.model_copy(update={"source": source}))["source.rows"][1] == origin


@pytest.mark.parametrize(
    ("checkpoint", "rate", "origin"),
    [
        ("allenai/OLMo-1B-hf", 8.5e-6, "paper"),
        ("huggyllama/llama-7b", 5e-6, "paper"),
        ("openai-community/gpt2-xl", 1e-4, "ours (paper: 5e-05)"),
        ("somebody/else", 5e-5, "ours"),
    ],
)
def test_learning_rates_are_the_papers_for_its_models(
    paper: Settings, checkpoint: str, rate: float, origin: str
) -> None:
    model = PublishedModel(checkpoint=checkpoint, revision=None, context=1024, adapt_learning_rate=rate)
    rows = origins(paper.model_copy(update={"models": {"one": model}}))
    assert rows["models.one.adapt_learning_rate"][1] == origin
    assert rows["models.one.revision"] == ("none", "ours")


def test_glyphs_that_the_font_lacks_are_escaped() -> None:
    assert token_figures.visible(" the") == "␣the"
    assert token_figures.visible("中") == "\\u4e2d"
    assert token_figures.visible("\U0001f9ea") == "\\U0001f9ea"
    assert token_figures.visible("") == "(empty)"
    assert len(token_figures.visible("x" * 99)) == 22


def test_figure_one_is_symlog_only_where_gains_dwarf_losses() -> None:
    big = table_of(("m", "a", "p", 300, 60, 0.4), ("m", "b", "q", 10, 11, 0.1))
    small = table_of(("m", "a", "p", 9, 6, 0.4), ("m", "b", "q", 10, 11, 0.1))
    for table, scale in ((big, "symlog"), (small, "linear")):
        figure = figures.perplexity_change(numbered(table), "m", ["p", "q"], 0.95)
        axes = figure.axes[0]
        assert axes.get_yscale() == scale
        assert scale in axes.get_ylabel()
        # Bars are zero-shot minus adapted: what improved points up.
        bars = axes.containers[0]
        assert isinstance(bars, BarContainer)
        assert [bar.get_height() > 0 for bar in bars.patches] == [True, False]


def test_figure_one_shows_intervals_and_sets_noise_apart() -> None:
    table = table_of(("m", "a", "p", 9, 6, 0.4), ("m", "b", "p", 10, 11, 0.1), noise=("b",))
    figure = figures.perplexity_change(numbered(table), "m", ["p"], 0.9)
    bars, interval = figure.axes[0].containers
    assert isinstance(bars, BarContainer)
    assert isinstance(interval, ErrorbarContainer)
    assert [bar.get_hatch() for bar in bars.patches] == [None, "////"]
    # Changes of -3 and 1, reaching 0.3 and 2 to either side, turned round.
    ends = [segment[:, 1].tolist() for segment in interval.lines[2][0].get_segments()]
    assert ends == [pytest.approx([2.7, 3.3]), pytest.approx([-3, 1])]
    assert legend_of(figure)[:3] == ["perplexity change (left axis)", "change within noise", "90% interval"]
    alone = figures.perplexity_change(numbered(table[:1]).assign(change_low=np.nan), "m", ["p"], 0.9)
    assert legend_of(alone) == ["perplexity change (left axis)", "MMD (right axis)", "FD (right axis)"]


def with_logs(headline: pd.DataFrame) -> pd.DataFrame:
    """With the columns of the evidence that Figure 8 reads."""
    ends = {
        end: (headline["zero_shot"] + headline[f"change{end}"]) / headline["zero_shot"] for end in ("_low", "_high")
    }
    logs = {f"log_change{end}": np.log(ratio) for end, ratio in {"": headline["ratio"], **ends}.items()}
    return headline.assign(**logs)


def test_figure_eight_sets_noise_apart_and_names_the_worst() -> None:
    rows = [("m", name, "p", 10.0, after, x) for name, after, x in (("a", 13, 0.1), ("b", 11.5, 0.2), ("c", 8, 0.3))]
    table = with_logs(table_of(*rows, ("m", "d", "q", 10.0, 4.0, 0.9), noise=("b",)))
    figure = figures.change_by_distance(table, "m", ["p", "q"], 0.9)
    for axes, column in zip(figure.axes, ("mmd", "fd"), strict=True):
        points = [found for found in axes.collections if isinstance(found, PathCollection)]
        # Of each portion the domains, and then nothing, for the legend.
        places = [np.asarray(found.get_offsets()).tolist() for found in points[::2]]
        assert places == [table.loc[table["portion"] == p, [column, "log_change"]].values.tolist() for p in ("p", "q")]
        # Within p by change: c, then b, within noise and so hollow, then a.
        white = np.all(np.asarray(points[0].get_facecolor()) == 1, axis=1)
        assert white.tolist() == [False, True, False]
        assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]
    assert legend_of(figure) == ["p", "q"]
    ticks = [figure.axes[0].yaxis.get_major_formatter()(value) for value in np.log([0.5, 1, 1.25])]
    assert ticks == ["×0.5", "×1", "×1.25"]


def test_figure_eight_names_no_two_that_collide() -> None:
    alike = [("m", f"d{i}", "p", 10.0, 12 + 0.001 * i, 0.1) for i in range(3)]
    table = with_logs(table_of(*alike, ("m", "far", "p", 10.0, 4.0, 0.9)))
    assert [text.get_text() for text in figures.change_by_distance(table, "m", ["p"], 0.95).axes[0].texts] == ["d2"]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_captions_say_what_is_beyond_noise() -> None:
    table = table_of(("m", "a", "p", 9, 6, 0.4), ("m", "b", "p", 10, 11, 0.1), noise=("b",))
    caption = captions.change_caption(table, 0.9)
    assert caption.startswith("None got worse beyond noise. Bars: zero-shot minus adapted test perplexity, with 90% ")
    assert "intervals over 30 test documents. Pale" in caption
    assert "Pale" not in captions.change_caption(table[:1], 0.9)
    split = {"chunks": 1, "chunks_wanted": 1, "tokens": 5, "nll_before": 2.0, "nll_after": 2.1}
    about = captions.token_caption(table, {"train": split, "test": split})
    assert about.startswith("b is the domain that came off worst (none got worse beyond noise) with m.")


def test_captions_say_what_to_see() -> None:
    table = table_of(*[("m", f"d{i}", "p", 10, 12 - i, 0.1 * i) for i in range(3)], noise=("d1",))
    assert captions.change_caption(table, 0.95).startswith("Worse beyond noise, below the dashed line: d0. Bars: ")
    about = captions.similarity_caption(table, correlated(table), 0.95)
    assert about.startswith("Spearman's r is −1.00 [−1.00, −1.00] with MMD and −1.00 [−1.00, −1.00] with FD. A point")
    assert "Hollow: within noise." in about
    alone = captions.similarity_caption(table[-1:], correlated(table[-1:]), 0.95)
    assert alone.startswith("A point is a domain")
    assert "Hollow" not in alone
    curves = {name: pd.DataFrame({"test": [4.0, 5.0, end]}) for name, end in (("a", 4.5), ("b", 4.0), ("c", 3.0))}
    assert captions.curves_caption(curves).startswith(
        "Test perplexity (dash-dotted) ended higher than it began on a and lower than it began on b and c. Where"
    )


def test_the_most_degraded_domain_is_one_beyond_noise() -> None:
    rows = [("m", name, "p", 10, after, 0.1) for name, after in (("a", 11), ("b", 12), ("c", 13))]
    assert tables.most_degraded(table_of(*rows, noise=("c",)), "m") == "b"
    assert tables.most_degraded(table_of(*rows, noise=("a", "b", "c")), "m") == "c"


@pytest.mark.parametrize("count", [1, 4, 40, 199])
def test_figures_hold_any_number_of_domains(count: int, tmp_path: Path) -> None:
    """Nothing reaches outside the picture."""
    rows = [("m", f"a_domain_with_a_long_name_{i}", f"portion{i % 2}", 50.0, 40.0 + i, 0.1 * i) for i in range(count)]
    headline = numbered(table_of(*sorted(rows, key=lambda row: row[2]), noise=("a_domain_with_a_long_name_0",)))
    order = ["portion0", "portion1"]
    change = figures.perplexity_change(headline, "m", order, 0.95)
    points = figures.change_by_distance(with_logs(headline), "m", order, 0.95)
    for figure in (change, figures.similarity(headline, "it", order), points):
        figure_style.save(figure, tmp_path / "figure.svg")
        assert figure.get_figwidth() <= 11
        whole, used = figure.bbox_inches, figure.get_tightbbox()
        assert used.x0 > -0.02
        assert used.y0 > -0.02
        assert used.x1 < whole.x1 + 0.02
        assert used.y1 < whole.y1 + 0.02


def test_report_holds_every_figure_and_table(settings: Settings, layout: Layout) -> None:
    names = {path.relative_to(layout.report).as_posix() for path in layout.report.rglob("*.*")}
    drawn = ["figure1_tiny", "figure2", "figure3_tiny", "figure4_tiny", "figure7_tiny", "figure8_tiny"]
    kept = ["headline", "similarity", "portions", "correlations", "curves", "top_tokens"]
    wanted = {f"{kind}/{name}" for name in drawn for kind, name in (("png", f"{name}.png"), ("figures", f"{name}.svg"))}
    assert names == wanted | {f"tables/{name}.csv" for name in kept} | {"report.html", "metrics.json", MANIFEST}
    headline = pd.read_csv(layout.report / "tables" / "headline.csv")
    assert list(headline.columns[:6]) == ["model", "domain", "portion", "zero_shot", "adapted", "change"]
    assert list(headline.columns[6:10]) == ["change_low", "change_high", "outcome", "ratio"]
    assert list(headline.columns[10:14]) == ["bits_per_byte_zero_shot", "bits_per_byte_adapted", "units", "unit"]
    assert list(headline.columns[14:]) == ["mmd", "fd", "n_source", "n_target", "d"]
    assert sorted(headline["domain"]) == sorted(settings.domains)


def test_metrics_are_those_of_the_tables(layout: Layout) -> None:
    found = read_json(layout.report / "metrics.json")["tiny"]
    headline = pd.read_csv(layout.report / "tables" / "headline.csv")
    software = headline[headline["portion"] == "software"]
    assert found["worse"] == {"software": int((software["outcome"] == "worse").sum()), "science": 0}
    assert found["ratio"]["software"] == pytest.approx(software["ratio"].median(), abs=1e-4)
    assert set(found["r"]) == {"mmd", "fd"}


def test_what_dvc_plots_is_there(layout: Layout) -> None:
    """Plots of dvc.yaml name tables, columns and templates that there are."""
    folder, root = "data/${study}/report", PARAMS.parent
    plots = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    assert [plot for plot in plots if isinstance(plot, str)] == [f"{folder}/figures"]
    assert all(path.suffix == ".svg" for path in (layout.report / "figures").iterdir())
    about = [one for plot in plots if isinstance(plot, dict) for one in plot.values()]
    assert len(about) == 3
    for one in about:
        assert (root / ".dvc" / "plots" / f"{one['template']}.json").is_file()
        for path, column in (*one["x"].items(), *one["y"].items()):
            assert column in pd.read_csv(layout.report / Path(path).relative_to(folder)).columns


def test_equal_results_give_equal_bytes(settings: Settings, layout: Layout) -> None:
    before = read_json(layout.report / MANIFEST)
    report.run(settings, layout)
    assert read_json(layout.report / MANIFEST) == before


def test_page_is_self_contained(layout: Layout) -> None:
    text = page_of(layout)
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?!["']?(?:data:|#))|@import|url\(|https?:|<link""", text)
    assert text.count("<img ") == 6
    assert text.count("<script>") == text.count("<script") == 1
    assert "default-src 'none'" in text


def page_of(layout: Layout) -> str:
    return (layout.report / "report.html").read_text(encoding="utf-8")


def test_page_begins_with_question_and_answer(layout: Layout) -> None:
    text = page_of(layout)
    assert f"<h1>{answer.QUESTION}</h1>" in text
    top = text[text.index("<h1>") : text.index("<nav")]
    assert re.findall(r"<dt>(.*?)</dt><dd>(\w+)", top) == [
        ("Does it get worse?", "Sometimes"),
        ("Does similarity say where?", "Overall"),
        ("Through which tokens?", "Through"),
    ]
    headline = pd.read_csv(layout.report / "tables" / "headline.csv")
    worst = headline.loc[headline["ratio"].idxmax(), "domain"]
    assert f"Got worst with tiny: <strong>{worst}</strong>" in top
    assert f'<a href="#tokens" data-model="tiny" data-domain="{worst}">Its tokens</a>' in top


def test_page_goes_from_claims_over_figures_to_provenance(layout: Layout) -> None:
    text = page_of(layout)
    anchors = re.findall(r'<a href="#(\w+)">', text[text.index("<nav") : text.index("</nav>")])
    kept = ["claims", "domains", "similarity", "curves", "carriers", "tokens", "method", "provenance"]
    assert anchors == kept
    places = [text.index(f'id="{name}"') for name in kept]
    assert places == sorted(places)
    figure_ids = re.findall(r'<figure id="(\w+)">', text)
    assert figure_ids == [f"figure{name}" for name in ("1_tiny", "8_tiny", "2", "3_tiny", "7_tiny", "4_tiny")]
    assert all(re.findall(r"<figcaption><strong>Figure \d[^<]+</strong> [A-Z\w]", text))


def rows_of(text: str) -> list[list[Any]]:
    """The token table's rows, each with whether it is of a worst domain, and then its cells."""
    body = text[text.index('id="token-table"') :].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [row.split("<td>") for row in body.split("<tr")[1:]]
    return [["mark" in first, *(html.unescape(cell.strip()) for cell in cells)] for first, *cells in rows]


def test_token_table_has_every_cell_and_the_worst_domain_first(layout: Layout) -> None:
    top = pd.read_csv(layout.report / "tables" / "top_tokens.csv", keep_default_na=False)
    rows, worst = rows_of(page_of(layout)), top["domain"] == tables.most_degraded(headline_of(layout), "tiny")
    assert len(rows) == len(top)
    assert [row[0] for row in rows] == [True] * worst.sum() + [False] * (len(top) - worst.sum())
    first = top[worst & (top["split"] == "test") & (top["rank"] == 1)].iloc[0]
    numbers = [words.signed(first["contribution"], 4), words.signed(first["change"], 3)]
    numbers += [f"{first['nll_before']:.3f}", f"{first['nll_after']:.3f}", f"{first['count']:,}"]
    assert rows[0] == [True, first["token"].replace(" ", "␣"), "worse", *numbers, "tiny", first["domain"], "test"]
    assert {(row[8], row[9], row[10]) for row in rows} == set(
        top[["model", "domain", "split"]].itertuples(index=False, name=None)
    )


def headline_of(layout: Layout) -> pd.DataFrame:
    return pd.read_csv(layout.report / "tables" / "headline.csv")


def test_of_many_cells_the_token_table_has_the_strongest_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    headline = table_of(*[("m", f"d{i}", "p", 10, 11 + i, 0.1) for i in range(3)])
    contribution = pd.Series([0.3, 0.2, 0.1, -0.3, -0.2, -0.1])
    cell = pd.DataFrame({"token_id": range(6), "token": list("abcdef"), "contribution": contribution})
    cell = cell.assign(count=1, nll_before=1.0, nll_after=2.0, change=1.0)
    top = tables.top_tokens({("m", f"d{i}", "test"): cell for i in range(3)}, top=6)
    monkeypatch.setattr(page_tables, "MOST_TOKENS", 13)  # of 6 groups of 3: two of each
    shown = page_tables.token_rows(top, headline)
    assert [row[0] for row in shown["rows"]] == [*"abcdef", *"abde", *"abde"]
    assert [row[8] for row in shown["rows"]] == ["d2"] * 6 + ["d0"] * 4 + ["d1"] * 4
    monkeypatch.setattr(page_tables, "MOST_TOKENS", 1)
    assert len(page_tables.token_rows(top, headline)["rows"]) == 6 + 2 + 2


def test_a_domains_name_leads_to_its_tokens(layout: Layout) -> None:
    text = page_of(layout)
    links = re.findall(r'<td><a href="#tokens" data-model="tiny" data-domain="([\w.]+)">', text)
    assert links == headline_of(layout)["domain"].tolist()
    options = re.findall(r"<option>(.*?)</option>", text)
    assert options == ["tiny", *sorted(links), "test", "train"]


def test_every_parameter_and_what_is_fixed_is_on_the_page(settings: Settings, layout: Layout) -> None:
    text = page_of(layout)
    section = text[text.index('id="method"') : text.index('id="provenance"')]
    rows = re.findall(r"<tr( class=\"mark\")?><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", section)
    wanted = [*parameters.parameters(settings), *method_claims.fixed()]
    shown = [tuple(html.unescape(cell.replace("<wbr>", "")) for cell in row[1:]) for row in rows]
    assert shown == wanted
    assert [bool(row[0]) for row in rows] == [origin == "paper" for _, _, origin in wanted]
    stated = [origin for _, _, origin in parameters.parameters(settings)].count("paper")
    assert f"{stated} of {len(parameters.parameters(settings))} are as the paper states them" in section
    assert ("a handful of tokens (claim 6a): at most", "10", "ours") in wanted


def test_page_names_neither_commit_nor_date(layout: Layout) -> None:
    text = page_of(layout)
    commit, _ = git_state(PARAMS.parent)
    assert commit[:12] not in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)
    made_from = read_json(layout.report / MANIFEST)["made_from"]
    assert made_from["code"][:12] in text
    assert made_from["settings"][:12] in text


@pytest.mark.usefixtures("undrawn")
def test_page_escapes_token_text_and_keeps_null(settings: Settings, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    small = few(settings, ["pandas", "torch", "mpmath"])
    write_results(small, layout)
    texts = ["<script>alert('x')</script>", "&amp;", "$x_1$", "null", "NA", '"', "\\n"]
    table = {"token_id": range(7), "token": texts, "count": 1, "nll_before": 1.0, "nll_after": 2.0}
    table |= {"change": 1.0, "contribution": np.linspace(0.7, 0.1, 7)}
    for domain in small.adapted:
        kept = {name: (layout.tokens("tiny", domain) / name).read_bytes() for name in (SUMMARY, "vocabulary.csv")}
        with new_folder(layout.tokens("tiny", domain), {}) as folder:
            for split in ("train", "test"):
                pd.DataFrame(table).to_csv(folder / f"{split}.csv", index=False)
            for name, content in kept.items():
                (folder / name).write_bytes(content)
    claims.run(small.model_copy(update={"claims": QUICK}), layout)
    report.run(small, layout)
    text = (layout.report / "report.html").read_text(encoding="utf-8")
    assert text.count("<script") == 1
    for token in texts:
        assert f"<td>{html.escape(token).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}<td>" in text


def test_terminal_table_is_that_of_the_report(settings: Settings, layout: Layout) -> None:
    text = report.headline(settings, layout)
    assert text.splitlines()[-1] == f"report: {layout.report / 'report.html'}"
    assert all(len(line) <= 100 for line in text.splitlines()[:-1])
    headline = pd.read_csv(layout.report / "tables" / "headline.csv")
    for row in headline.itertuples():
        shown = [line.split() for line in text.splitlines() if line.split()[:1] == [row.domain]]
        assert [shown[0][1], shown[0][2]] == [words.number(row.zero_shot), words.number(row.adapted)]


def test_a_missing_result_names_its_stage(settings: Settings, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    with pytest.raises(OdysseyError, match="dvc repro similarity"):
        report.run(settings, layout)
    with pytest.raises(OdysseyError, match="dvc repro report"):
        report.headline(settings, layout)
    write_results(few(settings, DOMAINS[:2]), layout)
    with pytest.raises(OdysseyError, match=r"mlflow: not there yet; run `dvc repro adapt`"):
        report.run(settings, layout)
    assert not layout.report.exists()


def test_claims_have_to_be_of_the_results_at_hand(settings: Settings, tmp_path: Path) -> None:
    layout, small = Layout(tmp_path / "data"), few(settings, DOMAINS[:2])
    write_results(small, layout)
    rules = settings.claims.model_copy(update={"confidence": 0.9})
    with pytest.raises(OdysseyError, match=r"claims: of other cells .*, or other rules; run `dvc repro claims`"):
        report.run(small.model_copy(update={"claims": rules}), layout)
    with new_folder(layout.adapted("tiny", "torch"), {}) as folder:
        (folder / "curves.csv").write_text("step,tokens,fraction,train_start,valid,test\n", encoding="utf-8")
    with pytest.raises(OdysseyError, match="claims: made from another result of adapt/tiny/torch; run `dvc repro cl"):
        report.run(small, layout)
    shutil.rmtree(layout.claims)
    with pytest.raises(OdysseyError, match="claims: not there yet; run `dvc repro claims` first"):
        report.run(small, layout)


@pytest.mark.usefixtures("undrawn")
def test_joined_rows_have_a_section_where_they_were_tried(settings: Settings, layout: Layout, tmp_path: Path) -> None:
    assert "How rows are joined" not in (layout.report / "report.html").read_text(encoding="utf-8")
    other, ways = Layout(tmp_path / "data"), ["newline", "end_of_text"]
    small = few(settings, DOMAINS[:2]).model_copy(update={"joins": ways})
    write_results(small, other)
    report.run(small, other)
    text = (other.report / "report.html").read_text(encoding="utf-8")
    section = text[text.index('<h2 id="joins">How rows are joined</h2>') : text.index('<h2 id="method">')]
    assert re.search(
        r"the mean NLL changed by .0\.\d{3} \(newline\) and .0\.\d{3} \(end of text\) nats per token", section
    )
    assert "the joints themselves have +0.000 and +0.000 of it" in section
    assert section.count("<tr") == 3 * (1 + 2) + 1 + 8
    assert "<dt>joins</dt><dd>Rows joined by newline and end of text, each way in training" in text


def test_a_domain_without_distance_is_named(settings: Settings, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    write_results(settings, layout)
    table = pd.read_csv(layout.similarity / "similarity.csv")
    with new_folder(layout.similarity, {}) as folder:
        table[table["domain"] != "mpmath"].to_csv(folder / "similarity.csv", index=False)
    with pytest.raises(OdysseyError, match="no domain 'mpmath'; run `dvc repro similarity`"):
        report.run(settings, layout)


@pytest.mark.usefixtures("undrawn")
def test_all_improved_is_said_on_the_page(settings: Settings, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    write_results(settings, layout, worse=False)
    report.run(settings, layout)
    text = (layout.report / "report.html").read_text(encoding="utf-8")
    assert "Not here: with tiny, 0 of 3 software domains got worse beyond noise and 3 better" in text
    assert "None got worse beyond noise" in text
    assert "With tiny no domain got worse beyond noise, so there is no Figure 7 of it." in text
    assert not (layout.report / "figures" / "figure7_tiny.svg").exists()
    assert "Came off worst, within noise or better, with tiny: <strong>" in text
    assert 'class="mark"' not in text[text.index('id="domains"') : text.index('id="similarity"')]


# --- studies of other kinds


@pytest.fixture(scope="module")
def large(paper: Settings, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A report of 199 domains."""
    layout = Layout(tmp_path_factory.mktemp("large") / "data")
    write_results(paper, layout)
    report.run(paper, layout)
    return layout


def test_distances_are_of_all_domains_and_the_rest_of_those_adapted_to(paper: Settings, large: Layout) -> None:
    similarity = pd.read_csv(large.report / "tables" / "similarity.csv")
    assert similarity["id"].tolist() == list(range(1, 200))
    assert similarity["domain"].tolist() == list(m2d2.domains())
    assert similarity["display"][2] == "Culture and the arts: Culture and Humanities"
    headline = pd.read_csv(large.report / "tables" / "headline.csv")
    assert sorted(headline["domain"]) == sorted(paper.adapt_to)
    assert list(dict.fromkeys(headline["portion"])) == ["Wiki", "S2ORC"]
    correlations = pd.read_csv(large.report / "tables" / "correlations.csv")
    assert correlations["n"].tolist() == [20] * 4 + [10] * 8


def test_the_page_folds_what_is_long(large: Layout) -> None:
    text = page_of(large)
    folded = "".join(re.findall(r"<details>.*?</details>", text, re.DOTALL))
    # The 199 domains by id, and for each cell what became of domain-specific tokens, and its provenance.
    assert folded.count("<tr") == 1 + 199 + 1 + 20 + 1 + 20
    assert "The 199 domains by id, with" in folded
    assert "<td>Culture and the arts: Culture and Humanities</td>" in folded
    assert "<details open><summary>The 20 domains with gpt2-small" in text


@pytest.mark.usefixtures("undrawn")
def test_a_page_of_199_adapted_domains_stays_small(paper: Settings, tmp_path: Path) -> None:
    layout, every = Layout(tmp_path / "data"), paper.model_copy(update={"adapt_to": list(paper.domains)})
    write_results(every, layout)
    report.run(every, layout)
    text = page_of(layout)
    assert len(text) < 1_500_000
    assert "<details><summary>The 199 domains with gpt2-small" in text
    assert len({row[9] for row in rows_of(text)}) == 199
    assert "the 3 strongest of either kind on test and on train, and up to 10 of each model’s worst domain" in text


@pytest.mark.parametrize(
    ("corpus", "name"), [("openwebtext", "figure2"), ("dolma", "figure5"), ("redpajama", "figure6")]
)
@pytest.mark.usefixtures("undrawn")
def test_the_distance_figure_has_the_papers_number(paper: Settings, corpus: Any, name: str, tmp_path: Path) -> None:
    source = HubSource(corpus=corpus, revision="main", rows=None)
    few_domains = {domain: paper.domains[domain] for domain in ("Art", "hep-ex", "Health_and_fitness")}
    update = {"source": source, "domains": few_domains, "adapt_to": ["hep-ex", "Art"]}
    layout = Layout(tmp_path / "data")
    write_results(paper.model_copy(update=update), layout)
    report.run(paper.model_copy(update=update), layout)
    drawn = {path.stem for path in (layout.report / "png").glob("*.png")}
    assert drawn == {name, *(f"figure{number}_gpt2-small" for number in (1, 3, 4, 7, 8))}
    assert pd.read_csv(layout.report / "tables" / "similarity.csv")["id"].tolist() == [1, 13, 113]
    title = f"Figure {name[-1]}: distance of every domain to {method.NAMES[corpus]}"
    assert title in (layout.report / "report.html").read_text(encoding="utf-8")


def test_shading_follows_the_appendix() -> None:
    # Art is 1 and Philosophy 36; Wiki is the rest up to 51.
    found = domain_axis.runs([about.portion for about in m2d2.domains().values()])
    assert found == [("S2ORC", 1, 1), ("Wiki", 2, 35), ("S2ORC", 36, 36), ("Wiki", 37, 51), ("S2ORC", 52, 199)]


def test_many_domains_get_ids_and_each_portion_one_name(large: Layout, paper: Settings) -> None:
    table = pd.read_csv(large.report / "tables" / "similarity.csv")
    figure = figures.similarity(table, "OpenWebText", portions.portion_order(paper))
    below = figure.axes[-1]
    assert [label.get_text() for label in below.get_xticklabels()] == ["1", *map(str, range(10, 200, 10)), "199"]
    assert below.get_xticks().tolist() == [1, *range(10, 200, 10), 199]
    notes = [text for axes in figure.axes for text in axes.texts if isinstance(text, Annotation)]
    names = {note.get_text(): note.xy[0] for note in notes}
    assert names == {"Wiki": 18.5, "S2ORC": 125.5}  # the middles of 2 to 35 and of 52 to 199


def test_own_domains_follow_those_of_the_appendix(settings: Settings, paper: Settings) -> None:
    mixed = {"torch": settings.domains["torch"], **{name: paper.domains[name] for name in ("supr-con", "Art")}}
    assert portions.number_domains(mixed).values.tolist() == [
        ["Art", 1, "Art"],
        ["supr-con", 199, "supr-con"],
        ["torch", 200, "torch"],
    ]
    own = few(load_settings(PARAMS, "mini").model_copy(update={"claims": QUICK}), ["mpmath", "torch", "networkx"])
    assert portions.number_domains(own.domains)["domain"].tolist() == ["mpmath", "networkx", "torch"]
    assert portions.number_domains(own.domains)["id"].tolist() == [1, 2, 3]


def test_ids_of_the_first_figure_are_the_places_in_adapt_to(large: Layout) -> None:
    svg = (large.report / "figures" / "figure1_gpt2-small.svg").read_text(encoding="utf-8")
    assert "<!-- hep-ex  11 -->" in svg
    assert "<!-- Society_and_…l_sciences__Society  1 -->" in svg


def test_portions_keep_their_shade_in_every_figure(paper: Settings) -> None:
    # Those adapted to first, so that the first figure decides.
    assert portions.portion_order(paper) == ["Wiki", "S2ORC"]
    assert portions.portion_order(paper.model_copy(update={"adapt_to": ["hep-ex"]})) == ["S2ORC", "Wiki"]


def said(settings: Settings, folder: Path) -> dict[str, str]:
    """The method's text of a study with invented results."""
    layout = Layout(folder)
    write_results(settings, layout)
    names = (SOURCE, *settings.domains)
    sampled, embedded = (
        {name: read_json(place(name) / SUMMARY) for name in names} for place in (layout.corpus, layout.embedded)
    )
    scores = [read_json(layout.evaluated(m, d) / "scores.json") for m in settings.models for d in settings.adapted]
    return dict(method.method(settings, sampled, embedded, scores))


def test_method_of_a_study_that_trains_its_models(settings: Settings, tmp_path: Path) -> None:
    text = said(settings, tmp_path)
    assert list(text) == ["sample", "pretrain", "embed", "similarity", "adapt", "evaluate", "tokens", "claims"]
    assert "2 of 9 rows of up to 50 words, from documents that no domain uses" in text["sample"]
    assert "Domains: 5 of documentation strings, split by document" in text["sample"]
    assert "is in two splits, nor in the source corpus and in a split." in text["sample"]
    assert "models adapted to" not in text["sample"]
    assert "has 4 words on average, one of the source corpus 4." in text["sample"]
    assert text["pretrain"].startswith("tiny: trained from scratch")
    assert "after a warm-up over 2% of the steps" in text["pretrain"]
    assert "ZeRO" not in text["adapt"] + text["pretrain"]
    assert "micro-batches" not in text["adapt"]
    assert "at least 2 times as frequent in the domain's train split as in up to 50,000 texts of" in text["tokens"]
    assert "with a z-score above 3 (log odds" in text["tokens"]
    assert text["claims"].startswith(
        "A change's 95% interval: the domain's test documents, each with both of its scores"
    )
    assert "with replacement, 200 times" in text["claims"]
    assert "that up to 10 are a handful is ours" in text["claims"]
    assert "Learning rate 0.003 (tiny); 1 epoch; batches of 8 sequences; constant rate" in text["adapt"]


def test_method_of_a_study_of_the_paper(paper: Settings, tmp_path: Path) -> None:
    engine = {"micro_batch_size": 4, "zero_stage": 2, "offload_optimizer": True, "activation_checkpointing": True}
    engine |= {"offload_parameters": False, "checkpoint_minutes": 30}
    raw = {**paper.model_dump(mode="json"), "accept_licenses": False}
    raw["adapt"] = {**raw["adapt"], "engine": engine}
    text = said(validate(raw, "test"), tmp_path)
    assert list(text) == ["sample", "models", "embed", "similarity", "adapt", "evaluate", "tokens", "claims"]
    assert "OpenWebText (Skylion007/openwebtext, revision b4325f019c64), 2 of 9 texts, at random." in text["sample"]
    assert "199 of M2D2 (machelreid/m2d2, revision 6ae613b), in its own rows and splits." in text["sample"]
    assert "whether one is in two corpora was not looked at" in text["sample"]
    assert "measured for all 199 domains, and models adapted to 20 of them" in text["sample"]
    assert "near-copies" not in text["sample"]
    assert "A row of the domains' train splits has 4 words on average." in text["sample"]
    about = "gpt2-small is openai-community/gpt2 at revision 607a30d783df, read in windows of 1,024 tokens"
    assert about in text["models"]
    assert "batches of 16 sequences in micro-batches of 4" in text["adapt"]
    assert "ZeRO stage 2 with the optimiser's state in the machine's memory" in text["adapt"]
    assert "bfloat16, the optimiser's weights float32" in text["adapt"]
    assert "activations are bfloat16" in text["evaluate"]
    assert "vocabularies" not in text["evaluate"]


def test_method_of_a_users_own_texts(settings: Settings, paper: Settings, tmp_path: Path) -> None:
    source = LocalSource(corpus="local", path="texts/read.jsonl", rows=5)
    trained = said(settings.model_copy(update={"source": source}), tmp_path / "trained")["sample"]
    assert "Source corpus: texts/read.jsonl, 2 of 9 rows of up to 50 words, from documents" in trained
    own = {"domains": settings.domains, "adapt_to": settings.adapt_to, "source": source}
    published = said(paper.model_copy(update=own), tmp_path / "published")["sample"]
    assert "Source corpus: the texts of texts/read.jsonl, 2 of 9, at random." in published
    assert "None of these documents is in two splits. Whether the source corpus holds them too" in published


@pytest.mark.parametrize("adapt_to", [["pandas"], ["pandas", "torch", "mlflow"]])
@pytest.mark.usefixtures("undrawn")
def test_adapted_domains_of_one_portion(settings: Settings, adapt_to: list[str], tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    write_results(settings, layout)
    narrow = settings.model_copy(update={"adapt_to": adapt_to})
    with pytest.raises(OdysseyError, match=r"claims: of other cells than the study's, .* `dvc repro claims`"):
        report.run(narrow, layout)
    claims.run(narrow.model_copy(update={"claims": QUICK}), layout)
    report.run(narrow, layout)
    found = read_json(layout.report / "metrics.json")["tiny"]
    assert set(found["worse"]) == {"software"}
    assert set(found["r"]) == ({"mmd", "fd"} if len(adapt_to) > 2 else set())
    assert len(pd.read_csv(layout.report / "tables" / "similarity.csv")) == len(settings.domains)


def test_a_damaged_summary_is_named(settings: Settings, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    write_results(settings, layout)
    (layout.embedded("torch") / SUMMARY).write_text("{}", encoding="utf-8")
    with pytest.raises(OdysseyError, match=r"torch.summary.json: damaged .*; delete .* `dvc repro embed`"):
        report.run(settings, layout)
    assert not layout.report.exists()
