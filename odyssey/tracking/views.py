"""Saved views of an experiment in MLflow's UI: which runs, columns and charts it shows, and in which colours.

The format is MLflow's own and undocumented; a version that does not know it shows its defaults.
"""

from __future__ import annotations

import base64
import colorsys
import json
import time
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from odyssey.cell_results import ADAPTED, CHANGE, FD, MMD, ZERO_SHOT
from odyssey.portions import portion_order
from odyssey.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
"""Tag of an experiment with a saved view, before the view's key."""
CURRENT = "current"
"""Tag of a run: "yes" unless there are newer results of the same model, domain and seed."""
COLOR = "mlflow.runColor"
"""Tag of a run with its colour in tables and charts."""
MAIN, CURVES, LIVE, SIMILARITY = "odyssey", "curves", "live", "similarity"
"""Keys of the views that each study has. The first is the one that the UI opens with."""
CHARTS = (CURVES, LIVE, SIMILARITY)
"""Views of charts; the others are tables."""
COLUMNS = {
    "attributes.`Run Name`": 185,
    "runDateAndNestInfo": 106,
    "tags.`model`": 52,
    "tags.`domain`": 98,
    "tags.`portion`": 72,
    f"metrics.`{ZERO_SHOT}`": 97,
    f"metrics.`{ADAPTED}`": 90,
    f"metrics.`{CHANGE}`": 80,
    f"metrics.`{MMD}`": 88,
    f"metrics.`{FD}`": 84,
}
"""Columns of a table, by MLflow's ids, and their widths in pixels: a window of 1280 has room for all.

The first two, a run's name and when it was made, are always there."""
SECTIONS = (
    "Model metrics",
    "change",
    "bits_per_byte",
    "contribution",
    "nll",
    "nll_sum",
    "scored",
    "similarity",
    "token_analysis",
    "System metrics",
)
"""Sections that the UI makes of the metrics by what stands before their last "/". Kept shut: each metric not shown
would else be one more chart."""

HEIGHT = 300
"""Of a chart, in pixels: all of it is seen in a window of 720."""


@dataclass(frozen=True)
class View:
    """A saved view: its name in the menu, and what it is for MLflow."""

    name: str
    state: dict[str, Any]


def views(settings: Settings) -> dict[str, View]:
    """Every view of a study, by key: the table, the charts, and a table of each model where there are several."""
    runs = f"tags.{CURRENT} = 'yes' and tags.seed = '{settings.seed}'"
    table = _table(runs, list(COLUMNS))
    found = {
        MAIN: View("Perplexity and similarity", table),
        CURVES: View("Curves", table | _curves()),
        LIVE: View("Curves, newest runs", table | _curves() | {"orderByKey": "attributes.start_time"}),
        SIMILARITY: View("Change against similarity", table | _similarity()),
    }
    columns = [column for column in COLUMNS if column != "tags.`model`"]
    for model in settings.models if len(settings.models) > 1 else ():
        found[f"model-{model}"] = View(f"{model}: domains", _table(f"{runs} and tags.model = '{model}'", columns))
    return found


def page(experiment: str, view: str = MAIN) -> str:
    """Where in the UI an experiment's runs are, in one of its views."""
    mode = "&compareRunsMode=CHART" if view in CHARTS else ""
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning{mode}&viewStateShareKey={view}"


def save_views(client: MlflowClient, experiment: str, settings: Settings) -> None:
    """Seed an experiment with the study's views; one that is there as it should be is left alone."""
    held = client.get_experiment(experiment).tags
    now = int(time.time() * 1000)
    for key, view in views(settings).items():
        packed = pack(view.state)
        known = json.loads(held.get(TAG + key, "{}"))
        if (known.get("name"), known.get("state")) != (view.name, packed):
            about = {"name": view.name, "createdAt": now, "updatedAt": now, "state": packed}
            client.set_experiment_tag(experiment, TAG + key, json.dumps(about))


def pack(state: dict[str, Any]) -> str:
    """A view's state as MLflow keeps it."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()


def colour(settings: Settings, model: str, domain: str) -> str:
    """A run's colour: of its portion's part of the colour wheel, a domain's own there, darker from model to model."""
    portions = portion_order(settings)
    portion = settings.domain(domain).portion
    own = [name for name, about in settings.adapted.items() if about.portion == portion]
    part = 360 / len(portions)
    # Blue first, then orange, as in the figures; the parts are kept apart by some of the wheel.
    middle = 215 + part * portions.index(portion)
    # Neighbours in the study are far apart in it: steps of the golden ratio.
    hue = middle + 0.6 * part * (own.index(domain) * 0.618034 % 1 - 0.5)
    darker = list(settings.models).index(model) / max(len(settings.models) - 1, 1)
    red, green, blue = colorsys.hls_to_rgb(hue % 360 / 360, 0.58 - 0.22 * darker, 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _table(runs: str, columns: list[str]) -> dict[str, Any]:
    """The runs that the filter `runs` leaves, the worst change first."""
    return {
        "selectedColumns": [column for column in columns if not column.startswith(("attributes.", "runDate"))],
        "columnOrder": columns,
        "columnWidths": {column: COLUMNS[column] for column in columns},
        "searchFilter": runs,
        "orderByKey": f"metrics.`{CHANGE}`",
        "orderByAsc": False,
        "runsHiddenMode": "SHOW_ALL",
    }


def _charts(*sections: tuple[dict[str, Any], list[dict[str, Any]]]) -> dict[str, Any]:
    """Sections with their charts, and those of all other metrics below them, shut."""
    placed = [
        {**chart, "metricSectionId": section["uuid"], "deleted": False, "isGenerated": False}
        for section, charts in sections
        for chart in charts
    ]
    shut = [_section(name, display=False) for name in SECTIONS]
    return {
        "compareRunCharts": placed,
        "compareRunSections": [*(section for section, _ in sections), *shut],
        "isAccordionReordered": True,
        "autoRefreshEnabled": True,
    }


def _curves() -> dict[str, Any]:
    """Losses by optimiser step, of the first runs: three in one chart, and each in one of its own."""
    start, valid, test = "nll/train_start", "nll/valid", "nll/test"
    together = (_section("Loss by step (nats per token)", columns=1), [_line([start, valid, test])])
    each = (_section("One by one", columns=2), [_line([metric]) for metric in (test, valid, start, "nll/train")])
    return _charts(together, each) | {"runsHiddenMode": "FIRST_10_RUNS"}


def _line(metrics: list[str]) -> dict[str, Any]:
    return {
        "uuid": _id("line", *metrics),
        "type": "LINE",
        "metricKey": metrics[0],
        "selectedMetricKeys": metrics,
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
    }


def _similarity() -> dict[str, Any]:
    """The change of perplexity against both distances, and all of them side by side."""
    scatters = [
        {
            "uuid": _id("scatter", distance),
            "type": "SCATTER",
            "xaxis": {"key": distance, "type": "METRIC"},
            "yaxis": {"key": CHANGE, "type": "METRIC"},
        }
        for distance in (FD, MMD)
    ]
    parallel = {
        "uuid": _id("parallel"),
        "type": "PARALLEL",
        "selectedParams": ["Portion"],
        "selectedMetrics": [MMD, FD, ZERO_SHOT, CHANGE],
        "showAllRuns": True,
    }
    return _charts(
        (_section("Change against distance", columns=2), scatters),
        (_section("Side by side", columns=1), [parallel]),
    )


def _section(name: str, columns: int = 3, display: bool = True) -> dict[str, Any]:
    about = {"uuid": _id("section", name), "name": name, "display": display, "isReordered": True}
    return about | {"columns": columns, "cardHeight": HEIGHT}


def _id(*parts: str) -> str:
    """The same id whenever a view is seeded."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "odyssey/" + "/".join(parts)))
