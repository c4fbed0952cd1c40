"""The report's page in a browser: its layout on screens and on paper, sorting, searching, and that it asks for nothing.

Needs a Chromium, as conftest.py has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from results import QUICK, write_results

from odyssey.frames import read_frame
from odyssey.layout import Layout
from odyssey.reporting.tables import most_degraded
from odyssey.settings import load_settings
from odyssey.stages import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
DOMAINS = ["pandas", "sentence_transformers", "mlflow", "scipy.stats", "mpmath"]
A4 = 680
"""Pixels that are between the margins of a printed page."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A report of two models and five domains."""
    whole = load_settings(PARAMS, "mini")
    few = {"domains": {name: whole.domains[name] for name in DOMAINS}, "adapt_to": DOMAINS}
    settings = whole.model_copy(update={"seed": 0, "claims": QUICK, **few})
    layout = Layout(tmp_path_factory.mktemp("page") / "data")
    write_results(settings, layout)
    report.run(settings, layout)
    return layout


@contextmanager
def opened(browser: Browser, layout: Layout, width: int = 1280, **options: Any) -> Iterator[Page]:
    """The report, `width` pixels wide, which may ask for nothing beside itself."""
    url = (layout.report / "report.html").as_uri()
    with visited(browser, url, (url, "data:"), width, **options) as page:
        yield page


@contextmanager
def visited(browser: Browser, url: str, wanted: tuple[str, ...], width: int, **options: Any) -> Iterator[Page]:
    """A page; what it asks for that does not begin like one of `wanted`, or has to complain of, fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 844}, **options)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda found: None if found.url.startswith(wanted) else complaints.append(found.url))
    page.goto(url, wait_until="load")
    yield page
    context.close()
    assert complaints == []


def overflowing(page: Page) -> list[str]:
    """What reaches outside of the window, if it does not scroll in a box of its own."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((one) => one.getClientRects().length && one.getBoundingClientRect().right > innerWidth + 1)
            .filter((one) => {
                const box = one.closest(".wide, select");
                return !box || getComputedStyle(box).overflowX === "visible" || box === one;
            })
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    return found


def column(table: Locator, place: int) -> list[str]:
    """The texts of a table's column that are shown."""
    return table.locator(f"tbody tr:not([hidden]) td:nth-child({place})").all_inner_texts()


def headline(page: Page) -> Locator:
    return page.get_by_role("region", name="Perplexity with tiny").locator("table")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 720, 1280, 1920])
def test_nothing_reaches_outside_of_the_window(browser: Browser, layout: Layout, width: int, scheme: Any) -> None:
    with opened(browser, layout, width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert overflowing(page) == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 28)")


def test_every_figure_is_drawn(browser: Browser, layout: Layout) -> None:
    with opened(browser, layout) as page:
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert len(widths) == len(list((layout.report / "figures").iterdir()))
        assert min(widths) > 400


def test_headings_sort_by_number_and_by_text(browser: Browser, layout: Layout) -> None:
    known = read_frame(layout.report / "tables" / "headline.csv")
    own = known[known["model"] == "tiny"]
    by_change = own.sort_values("change", ascending=False)["domain"].tolist()
    with opened(browser, layout) as page:
        table = headline(page)
        assert column(table, 1) == own["domain"].tolist()
        change, domain = (table.get_by_role("columnheader", name=name, exact=True) for name in ("change", "domain"))
        change.get_by_role("button").click()
        assert column(table, 1) == by_change
        assert change.get_attribute("aria-sort") == "descending"
        change.get_by_role("button").press("Enter")  # as the keyboard does
        assert column(table, 1) == by_change[::-1]
        assert change.get_attribute("aria-sort") == "ascending"
        domain.get_by_role("button").press("Space")
        assert column(table, 1) == sorted(own["domain"])
        assert [change.get_attribute("aria-sort"), domain.get_attribute("aria-sort")] == [None, "ascending"]


def test_what_is_undefined_and_totals_stay_last(browser: Browser, layout: Layout) -> None:
    with opened(browser, layout) as page:
        table = page.get_by_role("region", name="Correlations").locator("table")
        button = table.get_by_role("columnheader", name="Spearman").get_by_role("button")
        for _ in range(2):
            button.click()
            dashes = [text == "–" for text in column(table, 6)]
            assert any(dashes)  # a correlation over two domains
            assert dashes == sorted(dashes)
        classes = page.get_by_role("region", name="Classes of tokens").first.locator("table")
        classes.get_by_role("columnheader", name="share").get_by_role("button").click()
        assert classes.locator("tr").last.locator("td").first.inner_text() == "all"


def test_tokens_are_those_of_the_worst_domains_until_searched(browser: Browser, layout: Layout) -> None:
    known = read_frame(layout.report / "tables" / "headline.csv")
    worst = {(model, most_degraded(known, model)) for model in ("tiny", "small")}
    with opened(browser, layout) as page:
        table, search = page.locator("#token-table"), page.get_by_role("search")
        whole = table.locator("tbody tr").count()

        def shown() -> set[tuple[str, ...]]:
            return set(zip(column(table, 8), column(table, 9), column(table, 10), strict=True))

        assert shown() == {(*cell, "test") for cell in worst}
        search.locator("[name=domain]").select_option("mpmath")
        search.locator("[name=split]").select_option("both")
        assert shown() == {(model, "mpmath", split) for model in ("tiny", "small") for split in ("test", "train")}
        search.locator("[name=model]").select_option("small")
        assert shown() == {("small", "mpmath", "test"), ("small", "mpmath", "train")}
        for name in ("domain", "model"):
            search.locator(f"[name={name}]").select_option(label="all")
        assert search.locator("output").inner_text() == f"{whole:,} of {whole:,} rows"
        search.locator("[name=token]").fill(" T")
        assert set(column(table, 1)) == {"␣the", "␣tensor", "␣test"}
        search.locator("[name=token]").fill("no such token")
        assert search.locator("output").inner_text() == f"0 of {whole:,} rows"


def test_a_domains_name_shows_its_tokens(browser: Browser, layout: Layout) -> None:
    with opened(browser, layout) as page:
        headline(page).get_by_role("link", name="sentence_transformers").press("Enter")
        table = page.locator("#token-table")
        assert set(zip(column(table, 8), column(table, 9), strict=True)) == {("tiny", "sentence_transformers")}
        assert page.locator("h3", has_text="Single tokens").is_visible()
        assert page.url.endswith("#tokens")
        top = page.evaluate("document.getElementById('token-table').getBoundingClientRect().top")
        assert 0 <= top < 844


def test_links_work_in_the_frame_of_another_page(browser: Browser, layout: Layout, tmp_path: Path) -> None:
    """As MLflow shows it: such a frame follows no links, not even to places inside of it."""
    frame = tmp_path / "frame.html"
    text = json.dumps((layout.report / "report.html").read_text(encoding="utf-8")).replace("</", "<\\/")
    frame.write_text(
        f"""<meta charset="utf-8"><body><script>
        const frame = document.createElement("iframe");
        Object.assign(frame, {{ sandbox: "allow-scripts", height: 800, width: 900 }});
        frame.src = URL.createObjectURL(new Blob([{text}], {{ type: "text/html" }}));
        document.body.append(frame);
        </script>""",
        encoding="utf-8",
    )
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    page = context.new_page()
    page.goto(frame.as_uri())
    inside = page.frame_locator("iframe")
    inside.get_by_role("link", name="Its tokens").first.click()
    heading = inside.get_by_role("heading", name="Single tokens")
    assert 0 <= heading.evaluate("(one) => one.getBoundingClientRect().top") < 800
    context.close()


def test_without_script_tables_are_plain_and_whole(browser: Browser, layout: Layout) -> None:
    tokens = len(read_frame(layout.report / "tables" / "top_tokens.csv"))
    with opened(browser, layout, java_script_enabled=False) as page:
        assert page.locator("#token-table tbody tr").locator("visible=true").count() == tokens
        assert page.get_by_role("search").count() == 0
        assert headline(page).get_by_role("button").count() == 0
        page.emulate_media(media="print")
        marked = page.locator("#token-table tbody tr.mark").count()
        assert page.locator("#token-table tbody tr").locator("visible=true").count() == marked < tokens


def test_nothing_is_cut_on_paper(browser: Browser, layout: Layout) -> None:
    with opened(browser, layout, A4) as page:
        page.emulate_media(media="print")
        assert overflowing(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == A4
        cut = "[...document.querySelectorAll('.wide')].filter((box) => box.scrollHeight > box.clientHeight + 1).length"
        assert page.evaluate(cut) == 0
        folded = page.get_by_role("region", name="Domains by id").locator("td").first
        assert folded.is_visible()
        assert not page.get_by_role("search").is_visible()


def test_dvc_plots_are_drawn_without_a_network(browser: Browser, layout: Layout, tmp_path: Path) -> None:
    render = pytest.importorskip("dvc_render")
    known = read_frame(layout.report / "tables" / "headline.csv").astype(str)
    curves = read_frame(layout.report / "tables" / "curves.csv").astype(str)
    pictures = sorted((layout.report / "figures").iterdir())
    templates = {"template_dir": str(ROOT / ".dvc" / "plots")}
    labels = {"x_label": "MMD <to> the source", "y_label": "ratio"}

    def rows(table: Any) -> list[dict[str, str]]:
        found: list[dict[str, str]] = pd.concat(table.assign(rev=rev) for rev in ("old", "new")).to_dict("records")
        return found

    renderers = [
        render.VegaRenderer(rows(known), "points", template="change", x="mmd", y="ratio", **templates, **labels),
        render.VegaRenderer(rows(curves), "lines", template="curves", x="fraction", y="test_change", **templates),
        render.VegaRenderer(rows(known), "cells", template="confusion", x="outcome", y="portion", **templates),
        render.ImageRenderer([{"rev": "old", "src": str(pictures[0])}], "picture"),
    ]
    page_at = tmp_path / "index.html"
    render.render_html(renderers, page_at, ROOT / ".dvc" / "plots.html")
    with visited(browser, page_at.as_uri(), ("file:",), 1280) as page:
        points, lines, cells = (page.locator(f"#{name}") for name in ("points", "lines", "cells"))
        assert points.locator("svg[role=img]").count() == 2  # one a revision
        assert points.locator("svg[role=img] path title").count() == 2 * len(known)
        assert points.get_by_text("MMD <to> the source").count() == 2
        assert lines.locator("svg[role=img]").count() == 2 * 2  # and model
        assert lines.locator("path title").count() == 2 * 2 * len(DOMAINS)
        assert cells.inner_text().startswith("cells: this kind of plot is drawn by Vega, from the network")
        assert page.evaluate("[...document.images].map((image) => image.naturalWidth > 400)") == [True]
        assert page.evaluate("document.documentElement.scrollWidth") == 1280
        assert "NaN" not in page.content()
