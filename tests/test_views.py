"""What the saved views ask MLflow's UI to show: it has to be there, and to stay the same."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from results import write_results

from odyssey.layout import Layout
from odyssey.record import Record
from odyssey.records import cell_record
from odyssey.settings import Settings
from odyssey.tracking import landing, views
from odyssey.tracking.views import CURVES, LIVE, MAIN, SIMILARITY, colour, page, save_views

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG_LENGTH = 5000
"""Characters of an experiment's tag that MLflow keeps."""


class Client:
    """Of MLflow's client what seeds views: an experiment's tags, and what was written to them."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.written: list[str] = []

    def get_experiment(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(tags=dict(self.tags))

    def set_experiment_tag(self, _: str, key: str, value: str) -> None:
        self.tags[key] = value
        self.written.append(key)


@pytest.fixture(scope="module")
def study(settings: Settings) -> Settings:
    few = {name: settings.domains[name] for name in ("torch", "pandas", "mpmath", "networkx")}
    return settings.model_copy(update={"domains": few, "adapt_to": list(few)})


@pytest.fixture(scope="module")
def record(study: Settings, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A run of the study."""
    layout = Layout(tmp_path_factory.mktemp("results"))
    write_results(study, layout)
    return cell_record(study, layout, "small", "torch")


def seed(client: Client, settings: Settings) -> None:
    save_views(cast("MlflowClient", client), "7", settings)


def charts(settings: Settings, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = views.views(settings)[key].state["compareRunCharts"]
    return found


def test_a_table_has_the_studys_columns_and_runs_have_them(study: Settings, record: Record) -> None:
    state = views.views(study)[MAIN].state
    shown = [column.split("`")[1] for column in state["selectedColumns"]]
    assert shown == ["model", "domain", "portion", "PPL zero-shot", "PPL adapted", "Change", "MMD", "FD"]
    assert set(shown[:3]) <= record.tags.keys()
    assert set(shown[3:]) <= {metric.key for metric in record.metrics}
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`Change`", False)
    assert state["runsHiddenMode"] == "SHOW_ALL"
    assert state["searchFilter"] == "tags.current = 'yes' and tags.seed = '0'"
    # In a window of 1280 there are 951 pixels for them, beside the menu and the boxes to tick.
    assert sum(state["columnWidths"].values()) <= 952


def test_charts_draw_what_runs_have(study: Settings, record: Record) -> None:
    steps = {key: {metric.step for metric in record.metrics if metric.key == key} for key in ("nll/test", "Change")}
    assert len(steps["nll/test"]) > 1
    known = {metric.key for metric in record.metrics}
    assert charts(study, CURVES)[0]["selectedMetricKeys"] == ["nll/train_start", "nll/valid", "nll/test"]
    for chart in charts(study, CURVES):
        assert set(chart["selectedMetricKeys"]) <= known
    *scatters, parallel = charts(study, SIMILARITY)
    assert [(chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in scatters] == [
        ("FD", "Change"),
        ("MMD", "Change"),
    ]
    assert {"FD", "MMD", "Change", *parallel["selectedMetrics"]} <= known
    assert set(parallel["selectedParams"]) <= record.params.keys()


def test_no_other_chart_is_open(study: Settings, record: Record) -> None:
    """The UI adds a chart of each metric, in a section by its name's first part: open, unless we have it shut."""
    prefixes = {metric.key.rpartition("/")[0] or "Model metrics" for metric in record.metrics}
    for key in (CURVES, LIVE, SIMILARITY):
        state = views.views(study)[key].state
        shut = {section["name"] for section in state["compareRunSections"] if not section["display"]}
        assert prefixes <= shut
        shown = {section["uuid"] for section in state["compareRunSections"] if section["display"]}
        assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == shown
        ids = [part["uuid"] for part in (*state["compareRunCharts"], *state["compareRunSections"])]
        assert len(set(ids)) == len(ids)


def test_live_runs_come_first_among_the_newest(study: Settings) -> None:
    """A run that is not finished has no change yet, and would be the last."""
    state = views.views(study)[LIVE].state
    assert (state["orderByKey"], state["orderByAsc"]) == ("attributes.start_time", False)
    assert state["autoRefreshEnabled"]


def test_each_of_several_models_has_a_view(study: Settings) -> None:
    found = views.views(study)
    assert [view.name for view in found.values()][-2:] == ["tiny: domains", "small: domains"]
    state = found["model-small"].state
    assert state["searchFilter"].endswith(" and tags.model = 'small'")
    assert "tags.`model`" not in state["selectedColumns"]
    one = study.model_copy(update={"models": {"small": study.models["small"]}})
    assert list(views.views(one)) == [MAIN, CURVES, LIVE, SIMILARITY]


def test_a_views_page_says_how_it_is_shown() -> None:
    assert page("7") == "/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=odyssey"
    assert "&compareRunsMode=CHART&viewStateShareKey=curves" in page("7", CURVES)
    assert "compareRunsMode" not in page("7", "model-small")


def test_seeding_twice_changes_nothing(study: Settings) -> None:
    client = Client()
    seed(client, study)
    before = dict(client.tags)
    assert len(client.written) == len(views.views(study))
    seed(client, study)
    assert client.tags == before
    assert len(client.written) == len(before)
    seed(client, study.model_copy(update={"seed": 1}))
    assert sorted(client.written[len(before) :]) == sorted(before)


def test_what_is_seeded_is_what_mlflow_reads(study: Settings) -> None:
    client = Client()
    seed(client, study)
    for key, view in views.views(study).items():
        tag = client.tags[f"mlflow.sharedViewState.{key}"]
        assert len(tag) <= TAG_LENGTH
        held = json.loads(tag)
        assert held["name"] == view.name
        assert isinstance(held["createdAt"], int)
        method, _, packed = held["state"].partition(";")
        assert method == "deflate"
        assert json.loads(zlib.decompress(base64.b64decode(packed))) == view.state


def test_colours_tell_portions_models_and_domains_apart(settings: Settings) -> None:
    cells = [(model, domain) for model in settings.models for domain in settings.adapted]
    found = {cell: colour(settings, *cell) for cell in cells}
    assert len(set(found.values())) == len(cells)
    assert all(re.fullmatch("#[0-9a-f]{6}", value) for value in found.values())
    for (_, domain), value in found.items():
        red, _, blue = (int(value[place : place + 2], 16) for place in (1, 3, 5))
        assert (blue > red) == (settings.domain(domain).portion == "software")
    for domain in settings.adapted:
        tiny, small = (sum(bytes.fromhex(found[model, domain][1:])) for model in ("tiny", "small"))
        assert tiny > small
    alone = settings.model_copy(update={"models": {"small": settings.models["small"]}})
    assert len({colour(alone, "small", domain) for domain in settings.adapted}) == len(settings.adapted)


def test_the_landing_page_sets_what_the_ui_remembers_and_goes_on() -> None:
    html = landing.html("/#/experiments/7/runs?a=1&b='</script>'\"")
    assert html.count("</script>") == 1
    script = html.split("<script>")[1].split("</script>")[0]
    lines = script.strip().split("\n")
    assert lines[0] == r"""localStorage.setItem("mlflow.workflowType_v1", "\"machine_learning\"")"""
    assert lines[1] == 'localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")'
    target = lines[2].removeprefix("location.replace(").removesuffix(")")
    assert json.loads(target) == "/#/experiments/7/runs?a=1&b='</script>'\""


def test_the_landing_page_is_where_the_entry_point_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import entry_points

    (found,) = {point.value for point in entry_points(group="mlflow.app", name=landing.NAME)}
    assert found == f"{landing.__name__}:{landing.app.__name__}"


def test_the_bundled_ui_still_has_the_names_that_the_views_use() -> None:
    """They are MLflow's own, and it may change them: then the views are to be looked at again."""
    import mlflow.server

    script = "".join(
        path.read_text(encoding="utf-8")
        for path in (Path(mlflow.server.__file__).parent / "js" / "build" / "static" / "js").glob("*.js")
    )
    names = [
        "mlflow.sharedViewState.",
        "compareRunSections",
        "selectedMetricKeys",
        "runDateAndNestInfo",
        "mlflow.runColor",
    ]
    names += ["FIRST_10_RUNS", "autoOpenedOnFirstLoad", "mlflow.workflowType", "viewStateShareKey", "compareRunsMode"]
    assert [name for name in names if name not in script] == []
