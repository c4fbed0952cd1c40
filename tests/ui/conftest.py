"""A study in MLflow's UI, as `odyssey track` publishes it and `odyssey ui` serves it, and a browser to look at it with.

Without a Chromium the tests are skipped, or fail where ODYSSEY_NEEDS_BROWSER is set. The pictures that they take are
kept in the folder ODYSSEY_SCREENSHOTS, if set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from results import QUICK, put_in_use, write_results
from servers import free_port, started

from odyssey.layout import Layout
from odyssey.settings import Settings, load_settings
from odyssey.stages import report
from odyssey.tracking.landing import PATH

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"desktop": (1440, 900), "laptop": (1280, 720)}
NEAR, FAR = ("pandas", "torch", "sentence_transformers"), ("mpmath", "sympy.core", "networkx")


@dataclass(frozen=True)
class Shown:
    """A study that `odyssey ui` shows."""

    settings: Settings
    layout: Layout
    store: str
    """Where its runs are kept."""
    url: str
    """The page that `odyssey ui` names."""
    experiment: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if chromium is None:
        stop = pytest.fail if os.environ.get("ODYSSEY_NEEDS_BROWSER") else pytest.skip
        stop(f"no Chromium: none of {', '.join(CHROMIUMS)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Two models and six domains, of invented results: published, one run replaced, and served."""
    folder = tmp_path_factory.mktemp("project")
    settings = _study()
    layout = Layout(folder / "data" / settings.study)
    write_results(settings, layout)
    report.run(settings, layout)
    put_in_use(settings, folder)
    subprocess.run([sys.executable, "-m", "odyssey", "track"], cwd=folder, env=_environment(), check=True)
    store = f"sqlite:///{folder / 'mlflow.db'}"
    experiment = _add_replaced(store, settings)
    port = free_port()
    command = (sys.executable, "-m", "odyssey", "ui", "--port", str(port))
    with started(*command, folder=folder, environment=_environment()) as server:
        address = f"http://127.0.0.1:{port}"
        server.page(f"{address}/health")
        yield Shown(settings, layout, store, address + PATH, experiment)


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Browser, shown: Shown) -> Iterator[Page]:
    """A new visitor's browser, in which the page that `odyssey ui` names has just been opened."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(shown.url)
    page.locator(".ag-center-cols-container .ag-row").first.wait_for()
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def shoot(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Page], None]:
    """Takes a picture of a page, called like the test."""
    folder = Path(os.environ.get("ODYSSEY_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    name = request.node.name.removeprefix("test_").replace("[", "_").rstrip("]")

    def take(page: Page) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return take


def _study() -> Settings:
    settings = load_settings(ROOT / "params.yaml", "mini")
    domains = {name: settings.domains[name] for name in (*NEAR, *FAR)}
    changed = {"study": "shown", "seed": 0, "claims": QUICK, "domains": domains, "adapt_to": list(domains)}
    return settings.model_copy(update=changed)


def _environment() -> dict[str, str]:
    """Ours, with nothing of MLflow's or DVC's in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}


def _add_replaced(store: str, settings: Settings) -> str:
    """A run of older results, which no view should show, worse than any; returns the experiment's id."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(settings.study)
    assert experiment is not None
    tags = {"model": "tiny", "domain": NEAR[0], "portion": "software", "seed": "0", "current": "no"}
    run = client.create_run(experiment.experiment_id, run_name="tiny of old", tags=tags)
    client.log_metric(run.info.run_id, "Change", 999.0)
    client.set_terminated(run.info.run_id)
    return str(experiment.experiment_id)
