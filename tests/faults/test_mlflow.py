"""MLflow's store fails while a model trains, or while results are published: nothing waits for long, nothing is lost.

Real processes, on the finished tiny study. Results stay the same bytes, and what is published in the end is complete,
each metric step once.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from project import Project
from servers import free_port, started

from faults.conftest import Row
from faults.disturbed import STUDY, Study
from odyssey.cell_results import CURVE_METRICS
from odyssey.layout import CURVES, Layout
from odyssey.record import read_rows
from odyssey.settings import load_settings
from odyssey.store import content_digest, sha256
from odyssey.tracking.live import PATIENCE
from odyssey.tracking.publication import publish

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

pytestmark = pytest.mark.slow

CELL = ("two", "click")
SLACK = 2.0
"""Seconds that a busy machine may add to what training stands still."""
TRAIN = """
import pathlib, sys, time
import mlflow
from odyssey.cli import main
from odyssey.tracking import live

gate, still = pathlib.Path(sys.argv.pop(1)), [0.0]
told, attempt = live.Curves.step, live.Curves.attempt

def step(self, number, *what):
    told(self, number, *what)
    if number == 3:
        gate.with_suffix(".reached").touch()
        while not gate.exists():
            time.sleep(0.02)
        still[0] = 0.0

def timed(self, request):
    begun = time.monotonic()
    try:
        attempt(self, request)
    finally:
        still[0] += time.monotonic() - begun

live.INTERVAL, live.Curves.step, live.Curves.attempt = 0.0, step, timed
try:
    main(standalone_mode=False)
finally:
    print(f"stood still {still[0]:.2f} s")
"""
"""`odyssey` where each step of training speaks to MLflow, and the third waits for a file; how long it stood still after
that is said at the end."""
WEAK = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: from exec on
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command that file permissions hold for, also where the tests run as root."""


@pytest.fixture
def project(study: Study) -> Project:
    """The copy of the project in which the study is finished; it is left as it is."""
    return study.project


@pytest.fixture
def data(project: Project, tmp_path: Path) -> Path:
    """A copy of the study's results without one adapted model."""
    shutil.copytree(project.folder / "data" / STUDY, tmp_path / "data" / STUDY)
    shutil.rmtree(adapted(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published by the test itself is published from the project."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(project.folder)


def adapted(data: Path) -> Path:
    return Layout(data / STUDY).adapted(*CELL)


def published(address: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish, and see that the store has each cell and the summary once and whole."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    layout = Layout(data / STUDY)
    publish(load_settings("params.yaml"), layout)
    whole(address, layout)


def whole(address: str, layout: Layout) -> None:
    """Each cell has one run, finished, with the curves of its files: each step once."""
    from mlflow import MlflowClient

    client = MlflowClient(address)
    runs = runs_of(client)
    assert {run.info.status for run in runs} == {"FINISHED"}
    found = {(run.data.tags["model"], run.data.tags["domain"]): run for run in runs if "domain" in run.data.tags}
    settings = load_settings("params.yaml")
    assert set(found) == set(product(settings.models, settings.adapted))
    assert len(runs) == len(found) + 1
    for cell, run in found.items():
        assert {"Change", "FD", "token_analysis/test_tokens"} <= run.data.metrics.keys(), cell
        assert run.data.tags["mlflow.loggedArtifacts"]
        points, losses = (read_rows(layout.adapted(*cell) / f"{name}.csv") for name in ("curves", "loss"))
        told = {f"nll/{name}": [(int(row["step"]), float(row[name])) for row in points] for name in CURVES}
        told["nll/train"] = [(int(row["step"]), float(row["nll"])) for row in losses]
        told["learning_rate"] = [(int(row["step"]), float(row["learning_rate"])) for row in losses]
        assert set(told) == set(CURVE_METRICS)
        for key, values in told.items():
            history = client.get_metric_history(run.info.run_id, key)
            assert sorted((point.step, point.value) for point in history) == values, (cell, key)


def runs_of(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name(STUDY)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


# --- while a model trains


Fault = Callable[[Path], AbstractContextManager[tuple[str, Callable[[], AbstractContextManager[None]]]]]
"""folder -> (address of a store, what happens to it from the third step until training has ended)"""


@contextmanager
def lasting(*_: object) -> Iterator[None]:
    """Nothing happens to it: it is so from the start."""
    yield


@contextmanager
def locked(folder: Path) -> Iterator[tuple[str, Callable[[], AbstractContextManager[None]]]]:
    """Another program holds the database."""

    @contextmanager
    def hold() -> Iterator[None]:
        with closing(sqlite3.connect(folder / "runs.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield

    yield f"sqlite:///{folder / 'runs.db'}", hold


@contextmanager
def read_only(folder: Path) -> Iterator[tuple[str, Callable[[], AbstractContextManager[None]]]]:
    """The database and its folder may no longer be written."""

    @contextmanager
    def forbid() -> Iterator[None]:
        (folder / "runs.db").chmod(0o444)
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        (folder / "runs.db").chmod(0o644)

    yield f"sqlite:///{folder / 'runs.db'}", forbid


@contextmanager
def read_only_from_the_start(folder: Path) -> Iterator[tuple[str, Callable[[], AbstractContextManager[None]]]]:
    """No database can be made."""
    folder.chmod(0o555)
    yield f"sqlite:///{folder / 'runs.db'}", lasting
    folder.chmod(0o755)


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server of a database in the folder."""
    places = ("--backend-store-uri", f"sqlite:///{folder / 'runs.db'}", "--artifacts-destination", str(folder / "kept"))
    command = (sys.executable, "-m", "mlflow", "server", *places, "--port", str(port), "--workers", "1")
    with started(*command, folder=folder, environment={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}) as running:
        running.page(f"http://127.0.0.1:{port}/health")
        yield running.process


@contextmanager
def killed(folder: Path) -> Iterator[tuple[str, Callable[[], AbstractContextManager[None]]]]:
    """The server is killed, and is another one afterwards."""
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(serving(folder, port))

        @contextmanager
        def kill() -> Iterator[None]:
            os.killpg(first.pid, signal.SIGKILL)
            yield
            stack.enter_context(serving(folder, port))

        yield f"http://127.0.0.1:{port}", kill


@contextmanager
def hanging(folder: Path) -> Iterator[tuple[str, Callable[[], AbstractContextManager[None]]]]:
    """The server accepts and does not answer; then it goes on."""
    port = free_port()
    with serving(folder, port) as process:

        @contextmanager
        def stop() -> Iterator[None]:
            os.killpg(process.pid, signal.SIGSTOP)
            try:
                yield
            finally:
                os.killpg(process.pid, signal.SIGCONT)

        yield f"http://127.0.0.1:{port}", stop


FAULTS: Mapping[str, Fault] = {
    "store locked by another program": locked,
    "store read-only": read_only,
    "store read-only from the start": read_only_from_the_start,
    "server killed": killed,
    "server hangs": hanging,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_training_goes_on_without_its_store(
    project: Project, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, fault: str
) -> None:
    row.fault, row.tries = f"training, {fault}", 1
    (folder := tmp_path / "store").mkdir()
    gate = tmp_path / "gate"
    with FAULTS[fault](folder) as (address, happens):
        environment = {**project.environment, "MLFLOW_TRACKING_URI": address}
        words = (sys.executable, "-c", TRAIN, str(gate), "--data", str(data), "adapt")
        cell = ("--model", CELL[0], "--domain", CELL[1])
        command = (sys.executable, "-c", WEAK, *words, *cell)
        with started(*command, folder=project.folder, environment=environment) as training:
            until(lambda: gate.with_suffix(".reached").exists(), training.process, training.said)
            with happens():
                gate.touch()
                assert training.process.wait(120) == 0, training.said()
            said = training.said()
        assert "Traceback" not in said
        assert said.count("MLflow gets no live curves") == 1
        assert float(re.findall(r"stood still ([\d.]+) s", said)[0]) < PATIENCE + SLACK
        row.survived = 1
        assert content_digest(adapted(data)) == content_digest(adapted(project.folder / "data"))
        published(address, data, monkeypatch)
        row.equal = 1


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], said: Callable[[], str]) -> None:
    """Wait for something that a process does."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, said()
        assert time.monotonic() < end, said()
        time.sleep(0.02)


def test_a_server_that_never_answers_is_left_alone(project: Project, data: Path, tmp_path: Path, row: Row) -> None:
    row.fault, row.tries = "training, server never answers", 1
    (gate := tmp_path / "gate").touch()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        shutil.rmtree(Layout(data / STUDY).adapted(CELL[0], "jinja2"))
        words = (sys.executable, "-c", TRAIN.replace("still[0] = 0.0\n", "pass\n"), str(gate), "--data", str(data))
        said = subprocess.run(
            (*words, "adapt", "--model", CELL[0]),
            cwd=project.folder,
            env={**project.environment, "MLFLOW_TRACKING_URI": address},
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
    row.survived = 1
    assert said.stderr.count("MLflow gets no live curves") == 1  # of two cells
    assert float(re.findall(r"stood still ([\d.]+) s", said.stdout)[0]) < PATIENCE + SLACK
    assert content_digest(adapted(data)) == content_digest(adapted(project.folder / "data"))
    row.equal = 1


# --- while results are published


def test_eight_publishers_at_once(project: Project, tmp_path: Path, row: Row) -> None:
    row.fault, row.tries = "eight publishers at once", 8
    data = tmp_path / "data"
    shutil.copytree(project.folder / "data" / STUDY, data / STUDY)
    address = f"sqlite:///{tmp_path / 'runs.db'}"
    environment = {**project.environment, "MLFLOW_TRACKING_URI": address}
    command = (sys.executable, "-m", "odyssey", "--data", str(data), "track")
    ends = [subprocess.PIPE, subprocess.STDOUT]
    processes = [
        subprocess.Popen(command, cwd=project.folder, env=environment, stdout=ends[0], stderr=ends[1], text=True)
        for _ in range(row.tries)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    row.survived = [process.returncode for process in processes].count(0)
    assert row.survived == row.tries, said
    counts = [re.findall(r"(\d+) runs published, (\d+) kept", text)[0] for text in said]
    assert sorted(counts) == [("0", "9")] * 7 + [("9", "0")]
    whole(address, Layout(data / STUDY))
    row.equal = row.tries


PUBLISH = """
import os, random, shutil, signal, sys
import mlflow, mlflow.store.tracking.sqlalchemy_store
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from odyssey.layout import Layout
from odyssey.record import read_rows
from odyssey.settings import load_settings
from odyssey.store import MANIFEST, read_json
from odyssey.tracking.live import Live
from odyssey.tracking.publication import publish

settings, layout, folder = load_settings("params.yaml"), Layout(Path(sys.argv[1])), Path(sys.argv[2])

def use(name):
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / name}"

def child(work):
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    try:
        status = work() or 0
    finally:
        sys.stdout.flush()
        os._exit(status)

def live():
    use("begun.db")
    watch = Live(settings)
    for model in settings.models:
        for domain in settings.adapted:
            place = layout.adapted(model, domain)
            with watch(model, domain, read_json(place / MANIFEST)["made_from"]) as curves:
                for row in read_rows(place / "loss.csv"):
                    curves.step(int(row["step"]), float(row["nll"]), float(row["learning_rate"]))
                for row in read_rows(place / "curves.csv"):
                    curves.point(int(row["step"]), [float(row[name]) for name in ("train_start", "valid", "test")])

def count(moment):
    seen = [0]
    @event.listens_for(Engine, "before_cursor_execute")
    def before(*_):
        seen[0] += 1
        if seen[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    publish(settings, layout)
    (folder / "statements").write_text(str(seen[0]))

assert child(live) == 0
shutil.copy(folder / "begun.db", folder / "undisturbed.db")
use("undisturbed.db")
assert child(lambda: count(0)) == 0
moments = sorted(random.Random(0).sample(range(1, int((folder / "statements").read_text())), int(sys.argv[3])))
for number, moment in enumerate(moments):
    shutil.copy(folder / "begun.db", folder / f"{number}.db")
    use(f"{number}.db")
    print("killed", child(lambda: count(moment)), flush=True)
    print("again", child(lambda: publish(settings, layout) and None), flush=True)
"""
"""Publishes a study whose models were live, killed before a statement of the database; then again. Each publisher is a
process of its own, forked where all that it needs is imported."""


def test_a_publisher_killed_anywhere_is_healed(project: Project, tmp_path: Path, row: Row) -> None:
    row.fault, row.tries = "publisher killed, then run again", 10
    layout = Layout(project.folder / "data" / STUDY)
    command = (sys.executable, "-c", PUBLISH, str(layout.data), str(tmp_path), str(row.tries))
    said = subprocess.run(
        command, cwd=project.folder, env=project.environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.split().count("-9") == row.tries
    row.survived = said.stdout.split().count("0")
    for number in range(row.tries):
        whole(f"sqlite:///{tmp_path / f'{number}.db'}", layout)
        row.equal += 1


# --- DVC


def test_two_repros_at_once(project: Project, tmp_path: Path, row: Row) -> None:
    row.fault, row.tries = "two `dvc repro` at once", 2
    folder = tmp_path / "project"
    shutil.copytree(project.folder, folder, symlinks=True)
    for name in ("adapt", "report"):
        shutil.rmtree(folder / "data" / STUDY / name)
    shutil.rmtree(folder / ".dvc" / "cache")
    environment = {**project.environment, "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    said: list[tuple[int, str]] = []

    def repro() -> None:
        done = subprocess.run(
            ("dvc", "repro"), cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        said.append((done.returncode, done.stdout + done.stderr))

    threads = [threading.Thread(target=repro) for _ in range(row.tries)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 in [status for status, _ in said], said
    clear = [status == 0 or "is busy" in text or "Unable to acquire lock" in text for status, text in said]
    row.survived = clear.count(True)
    assert row.survived == row.tries, said
    assert hashes(folder) == hashes(project.folder)
    row.equal = row.tries


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of the results in a copy of the project, and of dvc.lock."""
    files = [path for path in (folder / "data" / STUDY).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in [*files, folder / "dvc.lock"]}
