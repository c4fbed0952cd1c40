"""Every screen of MLflow's UI that a study's user comes by, at two window sizes: what it holds, and a picture of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from odyssey.cell_results import ADAPTED, CHANGE, FD, MMD, ZERO_SHOT
from odyssey.frames import read_frame
from odyssey.record import fit
from odyssey.tracking import views
from odyssey.tracking.landing import PATH

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from ui.conftest import Shown

pytestmark = pytest.mark.slow

HEADS = ["Run Name", "Created", "model", "domain", "portion", "PPL zero-shot", "PPL adapted", "Change", "MMD", "FD"]
HEADS_FROM_THE_LEFT = """(wanted) => [...document.querySelectorAll(".ag-header-cell")].filter((head) => head.innerText)
    .sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)
    .map((head) => head.innerText).slice(0, wanted.length).join() === wanted.join()"""
"""The columns are put in their order after the table is there."""
ROWS = ".ag-center-cols-container .ag-row"
CARD = "experiment-view-compare-runs-card"
SECTION = "experiment-view-compare-runs-section-header"
GENAI = ("Ask questions about your experiments", "Evaluation", "Playground")


# --- the runs


def test_it_opens_at_the_studys_runs(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    wanted = ranked(shown)
    page.get_by_text(f"{len(wanted)} matching runs").wait_for()
    shoot(page)
    assert names(page) == [fit(f"{row.model} {row.domain}") for row in wanted.itertuples()]
    page.wait_for_function(HEADS_FROM_THE_LEFT, arg=HEADS)
    # All of them are in the window, also in the small one.
    assert inside(page.locator(f".ag-header-cell[col-id='metrics.`{FD}`']"), page)
    worst = wanted.iloc[0]
    assert [cell(page, f"tags.`{name}`") for name in ("model", "domain")] == [worst.model, worst.domain]
    numbers = {ZERO_SHOT: worst.zero_shot, ADAPTED: worst.adapted, CHANGE: worst.change, MMD: worst.mmd, FD: worst.fd}
    for name, value in numbers.items():
        assert float(cell(page, f"metrics.`{name}`")) == pytest.approx(value, rel=1e-6)
        # Few enough digits for all of them to be seen.
        assert page.locator(f"{ROWS}[row-index='0'] [col-id='metrics.`{name}`']").evaluate(
            "cell => cell.scrollWidth <= cell.clientWidth"
        )


def test_nothing_of_genai_is_in_the_way(browser: Browser, page: Page, shown: Shown) -> None:
    """As it is where MLflow opens an experiment by itself, in a page that is opened after ours."""
    visitor = browser.new_context()
    plain = visitor.new_page()
    plain.goto(shown.url.replace(PATH, f"/#/experiments/{shown.experiment}"))
    for text in GENAI:
        plain.get_by_text(text).first.wait_for()
    visitor.close()
    assert [text for text in GENAI if page.get_by_text(text).count()] == []
    page.get_by_role("link", name="tiny mpmath").first.click()
    page.get_by_role("tab", name="Artifacts").wait_for()
    assert page.get_by_role("link", name="Runs").count() >= 1
    assert [text for text in GENAI if page.get_by_text(text).count()] == []


def test_the_views_are_in_a_menu(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    page.get_by_test_id("saved-views-trigger").click()
    menu = page.get_by_role("menu")
    menu.get_by_text("small: domains").wait_for()
    shoot(page)
    said = menu.inner_text().split("\n")
    assert [name for name in said if name in known(shown)] == list(known(shown))
    menu.get_by_text("small: domains").click()
    own = ranked(shown).query("model == 'small'")
    page.get_by_text(f"{len(own)} matching runs").wait_for()
    assert [name.split()[0] for name in names(page)] == ["small"] * len(own)
    assert column(page, "tags.`domain`") == own["domain"].tolist()


def test_the_description_answers_and_links(page: Page, shown: Shown) -> None:
    worst = ranked(shown).iloc[0]
    note = page.get_by_text("Worst:")
    assert f"{worst.model} {worst.domain}, perplexity {worst.zero_shot:.2f}" in note.inner_text()
    # One line of it is seen.
    box = note.bounding_box()
    assert box is not None
    assert box["height"] < 40
    linked = {link.inner_text() for link in note.get_by_role("link").all()}
    assert linked == {f"{worst.model} {worst.domain}", "its tokens", "Summary", "Curves", "Change against similarity"}


# --- charts


def test_curves(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    curves = follow(page, "Curves")
    first = curves.get_by_test_id(CARD).first
    first.locator(".js-line").first.wait_for()
    shoot(curves)
    # The ten worst runs, and of each three losses.
    # Beside each there is a pale one, of what smoothing would hide.
    drawn = first.locator(".js-line").evaluate_all("lines => lines.map((line) => line.style.strokeOpacity)")
    assert drawn.count("1") == 30
    assert "nll/train_start vs nll/valid vs nll/test" in first.inner_text()
    assert inside(first, curves)
    assert open_sections(curves) == ["Loss by step (nats per token)", "One by one"]


def test_change_against_similarity(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    charts = follow(page, "Change against similarity")
    cards = charts.get_by_test_id(CARD)
    for place, distance in enumerate(("FD", "MMD")):
        cards.nth(place).locator(".point").first.wait_for()
        assert cards.nth(place).locator(".point").count() == len(ranked(shown))
        assert cards.nth(place).inner_text().startswith(f"{distance} vs. Change")
        assert inside(cards.nth(place), charts)
    shoot(charts)
    # Domains near the source corpus are of one colour, the others of another.
    bluish = {run for run, (red, _, blue) in run_colours(charts) if blue > red}
    assert bluish == {
        fit(f"{row.model} {row.domain}") for row in ranked(shown).itertuples() if row.portion == "software"
    }
    assert open_sections(charts) == ["Change against distance", "Side by side"]
    charts.get_by_text("Side by side").scroll_into_view_if_needed()
    charts.get_by_text("Parallel Coordinates").scroll_into_view_if_needed()
    parallel = cards.nth(2)
    parallel.get_by_text("PPL zero-shot").wait_for()
    assert {"Portion", "MMD", "FD", "PPL zero-shot", "Change"} <= set(parallel.inner_text().split("\n"))


def test_comparing_all_runs(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    page.locator(".ag-header-select-all input").first.check(force=True)
    page.get_by_role("button", name="Compare").click()
    page.get_by_text(f"Comparing {len(ranked(shown))} Runs from 1 Experiment").wait_for()
    page.locator(".parcoords .axis-title").first.wait_for()
    shoot(page)
    assert page.locator(".parcoords .axis-title").all_text_contents() == ["FD", "MMD", "Portion", "Change"]
    page.get_by_role("tab", name="Scatter Plot").click()
    page.locator(".xtitle").wait_for()
    assert page.locator(".xtitle").text_content() == "FD"
    assert page.locator(".ytitle").text_content() == "Change"


def test_a_run_that_trains_is_seen_first(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(shown.store)
    tags = {"model": "small", "domain": "torch", "seed": "0", views.CURRENT: "yes", views.COLOR: "#010203"}
    run = client.create_run(shown.experiment, run_name="small in training", tags=tags).info.run_id
    try:
        for step, loss in enumerate([5.0, 4.0, 4.5]):
            for name in ("train_start", "valid", "test"):
                client.log_metric(run, f"nll/{name}", loss, step=step)
        url = page.url.split("#")[0] + views.page(shown.experiment, views.LIVE).removeprefix("/")
        page.goto("about:blank")
        page.goto(url)
        line = page.get_by_test_id(CARD).first.locator(".js-line[style*='rgb(1, 2, 3)'][style*='stroke-opacity: 1;']")
        line.first.wait_for()
        shoot(page)
        assert line.count() == 3
        assert names(page)[0] == "small in training"
    finally:
        client.delete_run(run)


# --- a run


def test_the_summary(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    summary = follow(page, "Summary")
    summary.get_by_text("Show more").click()
    summary.get_by_text("Show less").wait_for()
    headline = ranked(shown)
    table = summary.locator("table", has=summary.get_by_role("columnheader", name="zero-shot"))
    rows = table.locator("tbody tr")
    assert rows.count() == len(headline)
    assert [rows.nth(i).locator("td").nth(1).inner_text() for i in range(len(headline))] == headline["domain"].tolist()
    assert rows.first.get_by_role("link").get_attribute("href", timeout=1000)
    images = summary.locator("img[src*='get-artifact']")
    assert images.count() == 4
    for image in images.all():
        image.scroll_into_view_if_needed()
        summary.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
        assert inside(image, summary)
    images.first.scroll_into_view_if_needed()
    shoot(summary)
    assert summary.evaluate("document.documentElement.scrollWidth") <= width(summary)
    assert summary.get_by_text("Adapting to dissimilar domains lowers test perplexity: tiny:").count() == 1


def test_which_tokens_made_the_worst_domain_worse(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    tokens = follow(page, "its tokens")
    tokens.get_by_role("columnheader", name="contribution").wait_for()
    shoot(tokens)
    worst = ranked(shown).iloc[0]
    assert tokens.get_by_role("heading", name=f"{worst.model} {worst.domain}").count() == 1
    wanted = top_tokens(shown, worst.model, worst.domain)
    heads = tokens.get_by_role("columnheader")
    assert heads.all_inner_texts()[:5] == ["token", "contribution", "change", "nll_before", "nll_after"]
    box = heads.nth(4).bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width(tokens)
    cells = tokens.get_by_role("cell").all_inner_texts()
    assert float(cells[1]) == pytest.approx(wanted.iloc[0].contribution, abs=1e-5)


def test_tokens_side_by_side(page: Page, shown: Shown, shoot: Callable[[Page], None]) -> None:
    here = page.url
    page.goto("about:blank")
    page.goto(here.replace("?", "?compareRunsMode=ARTIFACT&", 1))
    page.get_by_text("tokens/test.json").first.wait_for()
    worst = ranked(shown).iloc[0]
    wanted = top_tokens(shown, worst.model, worst.domain)["contribution"].round(5)
    page.get_by_role("gridcell", name=str(wanted.iloc[0]), exact=True).first.wait_for()
    shoot(page)
    assert page.get_by_role("columnheader", name="contribution").count() == 1
    tokens = page.get_by_role("columnheader", name="token", exact=True)
    assert tokens.count() == 1
    first = page.locator(".ag-row[row-index='0'] .ag-cell").all_inner_texts()
    second = page.locator(".ag-row[row-index='1'] .ag-cell").all_inner_texts()
    assert str(wanted.iloc[0]) in first
    assert str(wanted.iloc[1]) in second


# --- what a page holds


def ranked(shown: Shown) -> pd.DataFrame:
    """The cells of the study, the worst change first."""
    table = read_frame(shown.layout.report / "tables" / "headline.csv")
    return table.sort_values("change", ascending=False)


def top_tokens(shown: Shown, model: str, domain: str) -> pd.DataFrame:
    table = read_frame(shown.layout.tokens(model, domain) / "test.csv")
    return table.sort_values("contribution", ascending=False)


def known(shown: Shown) -> dict[str, str]:
    """The views' keys by their names, in their order."""
    return {view.name: key for key, view in views.views(shown.settings).items()}


def names(page: Page) -> list[str]:
    """The runs' names, from the top."""
    rows = page.locator(".ag-pinned-left-cols-container .ag-row")
    found = {int(row.get_attribute("row-index") or 0): row.get_by_role("link").inner_text() for row in rows.all()}
    return [found[place] for place in sorted(found)]


def cell(page: Page, name: str) -> str:
    """The first row's cell of a column."""
    return page.locator(f"{ROWS}[row-index='0'] [col-id='{name}']").inner_text()


def column(page: Page, name: str) -> list[str]:
    """A column's cells, from the top."""
    found = {
        int(row.get_attribute("row-index") or 0): row.locator(f"[col-id='{name}']").inner_text()
        for row in page.locator(ROWS).all()
    }
    return [found[place] for place in sorted(found)]


def follow(page: Page, link: str) -> Page:
    """The tab that a link of the experiment's description opens, in a window of the same size."""
    with page.context.expect_page() as opened:
        page.get_by_text("Worst:").get_by_role("link", name=link, exact=True).click()
    return opened.value


def width(page: Page) -> int:
    assert page.viewport_size is not None
    return page.viewport_size["width"]


def inside(part: Locator, page: Page) -> bool:
    """Whether all of the part's width is in the window."""
    box = part.bounding_box()
    return box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width(page)


def open_sections(page: Page) -> list[str]:
    """Sections of charts that are not shut."""
    heads = page.locator("[aria-expanded='true']").filter(has=page.get_by_test_id(SECTION))
    return [said.split("\n")[0] for said in heads.all_inner_texts()]


def run_colours(page: Page) -> list[tuple[str, list[int]]]:
    """Runs in the list beside the charts, with their colours as red, green, blue."""
    found: list[tuple[str, list[int]]] = page.evaluate(
        """() => [...document.querySelectorAll(".ag-row")].filter((row) => row.querySelector("a")).map((row) => [
            row.querySelector("a").innerText,
            getComputedStyle(row.querySelector("[data-testid=experiment-view-table-run-color]"))
                .backgroundColor.match(/[0-9]+/g).map(Number),
        ])"""
    )
    return found
