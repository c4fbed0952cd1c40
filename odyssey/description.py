"""What MLflow's UI says of a study above its runs and on its summary's page, as Markdown.

The UI folds a run's description to four lines and an experiment's to one, so the answer and the links come first.
It opens links in a new tab and drops HTML.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from odyssey.claims import WORSE
from odyssey.reporting.words import code, listed, number, plain, signed
from odyssey.settings import Settings
from odyssey.tracking import views

TAG_LENGTH, EXPERIMENT_TAG_LENGTH = 8000, 5000
"""Characters of a run's and of an experiment's tag that MLflow keeps."""
TOKENS = 3
"""Tokens that are named of a domain."""
TOKEN_TABLE = "/artifacts/tokens/test.json"
"""Page of a cell's run."""
FIRST = (views.CURVES, views.SIMILARITY)
"""Views that are linked at once: the UI's own menu opens views of charts as tables."""
LINKED = 8
"""Rows of the table that link their runs: a link is longer than a row."""
DRAWINGS = "report/figures"
"""Folder of the summary's artifacts with the figures as SVG, made `fluid`."""
FIGURES = (1, 8)
"""Figures of each model that are shown: every domain's change, and the change against the distance."""

BLANK = "\u00a0"
"""Where no line may end."""
GAP = f"\u2060{BLANK}"
"""Before a cell's text, as the UI's tables have no room between columns: a blank that is not stripped."""

Row = Mapping[str, str]
"""A row of a table of the report."""


@dataclass(frozen=True)
class Places:
    """Where a study's runs are in the UI."""

    experiment: str
    summary: str
    """Id of the summary run."""
    cells: Mapping[tuple[str, str], str]
    """Run id by (model, domain)."""

    def run(self, run_id: str, page: str = "") -> str:
        """The page of a run, or one of its artifacts' pages."""
        return f"#/experiments/{self.experiment}/runs/{run_id}{page}?workflowType=machine_learning"

    def cell(self, row: Row, page: str = "") -> str:
        """The same for the run of a row's model and domain."""
        return self.run(self.cells[row["model"], row["domain"]], page)

    def view(self, key: str) -> str:
        """The runs in one of the saved views."""
        return views.page(self.experiment, key).removeprefix("/")


def experiment(settings: Settings, headline: Sequence[Row], top_tokens: Sequence[Row], places: Places) -> str:
    """What stands above the runs: which domain came off worst and where to look, in one line; then more."""
    worst = _worst(headline)
    name = _link(f"{worst['model']} {worst['domain']}", places.cell(worst))
    first = [
        f"Worst: {name}, perplexity {_change(worst)}",
        _link("its tokens", places.cell(worst, TOKEN_TABLE)),
        _link("Summary", places.run(places.summary)),
        *(_link(view.name, places.view(key)) for key, view in views.views(settings).items() if key in FIRST),
    ]
    parts = [" · ".join(first), _views(settings, places), *_worst_by_model(headline, top_tokens, places)]
    while len("\n\n".join(parts)) > EXPERIMENT_TAG_LENGTH:
        parts.pop()
    return "\n\n".join(parts)


def summary(
    settings: Settings,
    headline: Sequence[Row],
    claims: Sequence[Row],
    top_tokens: Sequence[Row],
    figures: Collection[str],
    places: Places,
) -> str:
    """The summary run's description: the answer, links, verdicts, figures and the headline table.

    `figures` are paths of the run's artifacts, of which those in DRAWINGS are shown. Rows in the middle of
    the table, which is sorted by the change, give way if a tag has no room for all.
    """
    shown = [f"{DRAWINGS}/figure{place}_{model}.svg" for place in FIGURES for model in settings.models]
    head = [
        *_worst_by_model(headline, top_tokens, places),
        f"{_link('Report', places.run(places.summary, '/artifacts/report/report.html'))} · {_views(settings, places)}",
        "\n".join(_counts(headline)),
        "**The paper's claims here**",
        "\n".join(_verdicts(claims)),
        *(_image(path, places) for path in shown if path in figures),
        f"**Test perplexity before and after adaptation**, seed {settings.seed}. A change above 0: the domain got "
        f"worse; in brackets its {settings.claims.confidence:.0%} interval. MMD and FD: distance to the source corpus. "
        "The whole table is report/tables/headline.csv.",
    ]
    table = [
        f"|model|domain|{GAP}portion|{GAP}zero-shot|{GAP}adapted|{GAP}change|{GAP}MMD|{GAP}FD|",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [_table_row(row, places if place < LINKED else None) for place, row in enumerate(_ranked(headline))]
    return _fit("\n\n".join(head) + "\n\n" + "\n".join(table), rows)


def fluid(svg: str) -> str:
    """A drawing without a size of its own: in a description it then fills the column instead of bursting it."""
    head = re.search(r"<svg\b[^>]*>", svg)
    if head is None:
        return svg
    return svg[: head.start()] + re.sub(r'\s(?:width|height)="[^"]*"', "", head[0]) + svg[head.end() :]


def _ranked(headline: Sequence[Row]) -> list[Row]:
    """The worst change first, as in the views."""
    return sorted(headline, key=lambda row: -float(row["change"]))


def _worst(headline: Sequence[Row]) -> Row:
    """As in the report: of what got worse beyond noise, or else of all, the row with the largest change."""
    ranked = _ranked(headline)
    return next((row for row in ranked if row["outcome"] == WORSE), ranked[0])


def _worst_by_model(headline: Sequence[Row], top_tokens: Sequence[Row], places: Places) -> Iterator[str]:
    """For each model a line: its worst domain, and the tokens that raise its loss on test most."""
    for model in dict.fromkeys(row["model"] for row in headline):
        worst = _worst([row for row in headline if row["model"] == model])
        key = {"model": model, "domain": worst["domain"], "split": "test", "direction": "up"}
        tokens = [row["token"] for row in top_tokens if key.items() <= row.items()][:TOKENS]
        through = f", through {listed(map(_code, tokens))}" if tokens else ""
        table = _link("all its tokens", places.cell(worst, TOKEN_TABLE))
        noise = "" if worst["outcome"] == WORSE else f" ({worst['outcome']})"
        domain = _link(worst["domain"], places.cell(worst))
        yield f"**{plain(model)}** came off worst on {domain}: {_change(worst)}{noise}{through} ({table})."


def _change(row: Row) -> str:
    before, after = (number(float(row[key])) for key in ("zero_shot", "adapted"))
    return f"{before} → {after} ({signed(float(row['change']), None)})"


def _views(settings: Settings, places: Places) -> str:
    return "Views: " + " · ".join(_link(view.name, places.view(key)) for key, view in views.views(settings).items())


def _counts(headline: Sequence[Row]) -> Iterator[str]:
    """For each model a line: how many domains of each portion got worse."""
    for model in dict.fromkeys(row["model"] for row in headline):
        told = []
        for portion in dict.fromkeys(row["portion"] for row in headline):
            own = [row for row in headline if (row["model"], row["portion"]) == (model, portion)]
            told.append(f"{sum(row['outcome'] == WORSE for row in own)} of {len(own)} {plain(portion)} domains")
        yield f"- {plain(model)}: {listed(told)} got worse beyond noise"


def _verdicts(claims: Sequence[Row]) -> Iterator[str]:
    """A line for each claim with its verdict by model."""
    for claim in dict.fromkeys(row["claim"] for row in claims):
        own = [row for row in claims if row["claim"] == claim]
        told = "; ".join(f"{plain(row['model'])}: {row['verdict']}" for row in own)
        yield f"- {claim} {own[0]['statement']}: {told}"


def _table_row(row: Row, places: Places | None) -> str:
    domain = _link(row["domain"], places.cell(row)) if places else plain(row["domain"])
    ends = f",{BLANK}".join(_short(row[key], "+") for key in ("change_low", "change_high") if row[key])
    change = _short(row["change"], "+") + (f"{BLANK}[{ends}]" if ends else "")
    before, after, mmd, fd = (_short(row[key]) for key in ("zero_shot", "adapted", "mmd", "fd"))
    cells = "".join(f"{GAP}{text}|" for text in (plain(row["portion"]), before, after, change, mmd, fd))
    return f"|{plain(row['model'])}|{domain}|{cells}"


def _short(text: str, sign: str = "") -> str:
    """A number as the table has room for: to three digits or so."""
    value = float(text)
    size = abs(value)
    decimals = 3 if size < 1 else 2 if size < 10 else 1 if size < 1000 else 0
    shown = f"{value:{sign}.{decimals}f}" if size < 1e6 else number(value, sign)
    return shown.replace("-", "−")


def _fit(head: str, rows: list[str]) -> str:
    """Head and rows within TAG_LENGTH; of the rows as many as there is room for, from both ends."""
    left = list(rows)
    gap = ""
    while left and len("\n".join([head, *left, gap])) > TAG_LENGTH:
        left.pop(len(left) // 2)
        gap = f"||… {len(rows) - len(left)} more|||||||"
    middle = (len(left) + 1) // 2
    shown = "\n".join([head, *left[:middle], *([gap] if gap else []), *left[middle:]])
    return shown[:TAG_LENGTH]


def _image(path: str, places: Places) -> str:
    return f"![](get-artifact?path={path}&run_uuid={places.summary})"


def _link(text: str, address: str) -> str:
    return f"[{plain(text)}]({address})"


def _code(token: str) -> str:
    """A token, blanks visible, as code."""
    return code(token.replace(" ", "␣"))
