"""Descriptions as MLflow's UI gets them: what they say, what they link, and that they fit."""

from __future__ import annotations

import re

import pytest

from odyssey import description
from odyssey.corpora import m2d2
from odyssey.description import EXPERIMENT_TAG_LENGTH, TAG_LENGTH, Places, fluid
from odyssey.settings import Settings


def row(model: str, domain: str, before: float, change: float, **other: str) -> dict[str, str]:
    """A row of the headline table, as it is read."""
    about = {"model": model, "domain": domain, "portion": "software", "outcome": "worse" if change > 0 else "better"}
    numbers = {"zero_shot": before, "adapted": before + change, "change": change, "mmd": 0.03234, "fd": 0.3854}
    ends = {"change_low": change - 1, "change_high": change + 1}
    return about | {key: str(value) for key, value in (numbers | ends).items()} | other


def token(model: str, domain: str, text: str, **other: str) -> dict[str, str]:
    return {"model": model, "domain": domain, "split": "test", "direction": "up", "token": text} | other


def places(rows: list[dict[str, str]]) -> Places:
    cells = {(each["model"], each["domain"]): f"{number:032x}" for number, each in enumerate(rows, 1)}
    return Places("7", "f" * 32, cells)


HEADLINE = [
    row("tiny", "pandas", 80.0, -3.5, portion="software", change_low="", change_high=""),
    row("tiny", "torch", 94.2213, 23.86057),
    row("small", "torch", 81.8615, 0.5, outcome="within noise"),
    row("small", "mpmath", 1200.0, -41.3, portion="science"),
]
CLAIMS = [
    {"claim": "1", "statement": "It gets better", "model": "tiny", "verdict": "holds"},
    {"claim": "1", "statement": "It gets better", "model": "small", "verdict": "does not hold"},
]
TOKENS = [
    token("tiny", "torch", " the"),
    token("tiny", "torch", "never", direction="down"),
    token("tiny", "torch", "never", split="train"),
    token("tiny", "torch", "a`b"),
    token("tiny", "torch", "."),
    token("tiny", "torch", "fourth"),
    token("tiny", "pandas", "never"),
]


def summary(settings: Settings, headline: list[dict[str, str]] = HEADLINE, figures: tuple[str, ...] = ()) -> str:
    return description.summary(settings, headline, CLAIMS, TOKENS, figures, places(headline))


def table(text: str) -> list[list[str]]:
    """The cells of the table's rows, without the heads."""
    lines = [line for line in text.split("\n") if line.startswith("|")][2:]
    return [[cell.strip("\u2060\u00a0") for cell in line[1:-1].split("|")] for line in lines]


def test_it_begins_with_the_worst_domain_of_each_model_and_its_tokens(settings: Settings) -> None:
    first, second = summary(settings).split("\n\n")[:2]
    run = "#/experiments/7/runs/" + f"{2:032x}"
    assert first.startswith(f"**tiny** came off worst on [torch]({run}?workflowType=machine_learning): ")
    assert "94.22 → 118.08 (+23.86), through `␣the`, `` a`b `` and `.` (" in first
    assert f"({run}/artifacts/tokens/test.json?workflowType=machine_learning)" in first
    assert "never" not in summary(settings)
    # Of a model whose domains are all within noise that is said, and no tokens are known here.
    assert "81.86 → 82.36 (+0.50) (within noise) ([all its tokens](" in second


def test_it_counts_and_judges(settings: Settings) -> None:
    text = summary(settings)
    assert "- tiny: 1 of 2 software domains and 0 of 0 science domains got worse beyond noise\n" in text
    assert "- 1 It gets better: tiny: holds; small: does not hold\n" in text
    assert f"[Report](#/experiments/7/runs/{'f' * 32}/artifacts/report/report.html?" in text
    assert "[Curves](#/experiments/7/runs?workflowType=machine_learning&compareRunsMode=CHART&" in text


def test_the_table_begins_with_the_worst_change(settings: Settings) -> None:
    rows = table(summary(settings))
    assert [cells[0] for cells in rows] == ["tiny", "small", "tiny", "small"]
    assert rows[0][1].startswith("[torch](#/experiments/7/runs/" + f"{2:032x}")
    assert rows[0][2:] == ["software", "94.2", "118.1", "+23.9\u00a0[+22.9,\u00a0+24.9]", "0.032", "0.385"]
    assert rows[2][5] == "−3.50"
    assert rows[3][3:6] == ["1200", "1159", "−41.3\u00a0[−42.3,\u00a0−40.3]"]


def test_figures_that_are_there_are_shown(settings: Settings) -> None:
    there = ("report/figures/figure1_small.svg", "report/figures/figure8_tiny.svg", "report/figures/figure7_tiny.svg")
    images = re.findall(r"!\[\]\((.*?)\)", summary(settings, figures=(*there, "figure1_tiny.svg")))
    assert images == [f"get-artifact?path={path}&run_uuid={'f' * 32}" for path in there[:2]]


def test_all_of_the_mini_study_fits(settings: Settings) -> None:
    rows = [row(model, domain, 90.0, 1.0) for model in settings.models for domain in settings.adapted]
    figures = tuple(f"report/figures/figure{n}_{model}.svg" for n in (1, 8) for model in settings.models)
    claims = [
        CLAIMS[0] | {"claim": str(n), "model": m, "statement": "x" * 70} for n in range(12) for m in settings.models
    ]
    text = description.summary(settings, rows, claims, TOKENS, figures, places(rows))
    assert len(text) <= TAG_LENGTH
    assert len(table(text)) == len(rows) == 40


def test_of_the_papers_199_domains_the_worst_and_the_best_are_left(settings: Settings) -> None:
    rows = [row("gpt2-xl", domain, 20.0, 5 - k / 10) for k, domain in enumerate(m2d2.domains())]
    assert len(rows) == 199
    text = summary(settings, rows)
    assert TAG_LENGTH - 200 < len(text) <= TAG_LENGTH
    shown = table(text)
    (gap,) = [place for place, cells in enumerate(shown) if cells[1].startswith("… ")]
    assert shown[gap][1] == f"… {199 - (len(shown) - 1)} more"
    assert len(shown) > 20
    plain = [cells[1].replace("\\", "") for cells in shown]
    assert plain[0].startswith(f"[{rows[0]['domain']}](")
    assert plain[8:gap] == [each["domain"] for each in rows[8:gap]]
    assert plain[gap + 1 :] == [each["domain"] for each in rows[gap + 1 - len(shown) :]]
    assert abs(gap - (len(shown) - gap - 1)) <= 1


@pytest.mark.parametrize(("models", "told"), [(1, 1), (40, 12)])
def test_a_tag_is_never_too_long(settings: Settings, models: int, told: int) -> None:
    rows = [row(f"model-with-a-long-name-{k}", "d", 10.0, 1.0) for k in range(models)]
    assert len(summary(settings, rows)) <= TAG_LENGTH
    above = description.experiment(settings, rows, TOKENS, places(rows))
    assert len(above) <= EXPERIMENT_TAG_LENGTH
    assert "Views: " in above
    assert above.count("came off worst") == told


def test_underscores_are_no_emphasis(settings: Settings) -> None:
    rows = [row("my_own_model", "Culture_and_the_arts__Culture_and_Humanities", 20.0, 1.0)]
    text = summary(settings, rows)
    assert "[Culture\\_and\\_the\\_arts\\_\\_Culture\\_and\\_Humanities](" in text
    assert text.count("my\\_own\\_model") == 3
    assert "my_own_model" not in text


def test_the_experiments_first_line_is_the_answer(settings: Settings) -> None:
    text = description.experiment(settings, HEADLINE, TOKENS, places(HEADLINE))
    first = text.split("\n")[0]
    said = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", first)
    assert said == (
        "Worst: tiny torch, perplexity 94.22 → 118.08 (+23.86) · its tokens · Summary · Curves · "
        "Change against similarity"
    )
    assert f"[Summary](#/experiments/7/runs/{'f' * 32}?" in first
    assert "viewStateShareKey=model-small)" in text


def test_a_drawing_loses_its_size_and_nothing_else() -> None:
    head = '<?xml version="1.0"?>\n<svg width="633pt" height="444pt" viewBox="0 0 633 444" version="1.1">'
    rest = '<rect width="5" height="6"/></svg>'
    assert fluid(head + rest) == '<?xml version="1.0"?>\n<svg viewBox="0 0 633 444" version="1.1">' + rest
    assert fluid("no drawing") == "no drawing"
