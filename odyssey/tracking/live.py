"""A cell's run in MLflow while its model trains: the curves grow, and `publish` completes the run later."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from odyssey.cell_results import TRAINED, curve_point, loss_point, trained
from odyssey.record import Metric
from odyssey.records import new_record
from odyssey.settings import Settings
from odyssey.state import state
from odyssey.tracking import runs
from odyssey.tracking.connection import experiment_id, handed_down, limits, reason, root, store
from odyssey.tracking.views import COLOR, CURRENT, colour

if TYPE_CHECKING:
    from mlflow import MlflowClient

INTERVAL = 5.0
"""Seconds between two requests of a run, at least."""
PATIENCE = 3.0
"""Seconds that training stands still for another process that holds the store, and for an answer of the store."""
PAUSE = 600.0
"""Seconds for which a store that failed is left alone; then the next cell tries it again. So a store that hangs
costs at most twice PATIENCE in so many."""


class Live:
    """Watches the adaptations of a study; what `stages.adapt` calls `watch`.

    A store that fails is no reason to stop training: it is reported, and the cell's curves come
    with the publication.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next_try = -PAUSE

    @contextmanager
    def __call__(self, model: str, domain: str, made_from: Mapping[str, Any]) -> Iterator[Curves]:
        """A run for as long as the block lasts; FINISHED, FAILED or KILLED by how it ends."""
        curves = Curves(self._failed, lost=time.monotonic() < self._next_try)
        curves.attempt(lambda: self._start(curves, model, domain, made_from))
        try:
            yield curves
        except BaseException as error:
            curves.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        curves.end("FINISHED")

    def _failed(self, error: Exception) -> None:
        self._next_try = time.monotonic() + PAUSE
        told = "MLflow gets no live curves, but all at the end (`odyssey track`)"
        print(f"{told}: {reason(error)}", file=sys.stderr)

    def _start(self, curves: Curves, model: str, domain: str, made_from: Mapping[str, Any]) -> None:
        record = new_record(self._settings, model, domain)
        record.tags[TRAINED] = trained(model, domain, made_from)
        with store(PATIENCE) as client:
            curves.client = client
            if run_id := handed_down():
                curves.run_id, curves.held = run_id, runs.points(client, run_id)
                return
            experiment = experiment_id(client, self._settings.study)
            same = f"tags.`{TRAINED}` = '{record.tags[TRAINED]}'"
            for run in client.search_runs([experiment], same):
                # Of a training that was killed, or whose result was lost before it was published. One that
                # goes on where it was interrupted tells all of its curves again.
                if runs.DIGEST not in run.data.tags:
                    client.delete_run(run.info.run_id)
            tags = record.tags | runs.state_tags(state(root(), self._settings.study))
            tags |= {CURRENT: "yes", COLOR: colour(self._settings, model, domain)}
            curves.run_id = str(client.create_run(experiment, run_name=record.name, tags=tags).info.run_id)
            curves.owned = True
            runs.log(client, curves.run_id, params=record.params)


class Curves:
    """A cell's curves on their way to its run. After a request that failed there are no more: the run stays RUNNING."""

    def __init__(self, failed: Callable[[Exception], None], lost: bool = False) -> None:
        self._failed = failed
        self._lost = lost
        self._waiting: list[Metric] = []
        self._sent = -INTERVAL
        self.client: MlflowClient | None = None
        self.run_id = ""
        self.owned = False
        """Whether the run is ended here; that of `mlflow run` is not."""
        self.held: set[tuple[str, int]] = set()
        """Metrics, by name and step, that the run has already: that of `mlflow run`, of a training that goes on."""

    def attempt(self, request: Callable[[], None]) -> None:
        """Make a request, unless one failed before."""
        if self._lost:
            return
        try:
            with limits(PATIENCE):
                request()
        except Exception as error:
            self._lost = True
            self._waiting.clear()
            self._failed(error)

    def point(self, step: int, nll: Sequence[float]) -> None:
        """A point of the curves: NLL (nats per token) of train_start, valid and test after so many steps."""
        self._tell(curve_point(step, nll))

    def step(self, step: int, nll: float, learning_rate: float) -> None:
        """A training step's NLL (nats per token) and learning rate."""
        self._tell(loss_point(step, nll, learning_rate))

    def end(self, status: str) -> None:
        """Send what is left, and say how it ended."""
        self.attempt(lambda: self._end(status))

    def _end(self, status: str) -> None:
        self._send()
        if self.owned and self.client is not None:
            self.client.set_terminated(self.run_id, status)

    def _tell(self, metrics: list[Metric]) -> None:
        if self._lost:
            return
        self._waiting += [metric for metric in metrics if (metric.key, metric.step) not in self.held]
        if time.monotonic() - self._sent >= INTERVAL:
            self.attempt(self._send)

    def _send(self) -> None:
        if self.client is not None:
            runs.log(self.client, self.run_id, metrics=self._waiting)
        self._waiting.clear()
        self._sent = time.monotonic()
