"""Studies on several GPUs: wall-clock time by a simulated schedule, with and without failures and stragglers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from odyssey.errors import OdysseyError
from odyssey.planning.cells import STAGES, planned_seconds
from odyssey.planning.machine import Machine
from odyssey.planning.parts import Plan
from odyssey.planning.plan import make_plan
from odyssey.planning.shapes import Planned, shape_of
from odyssey.planning.sizes import hub_answers
from odyssey.science import memory, schedule
from odyssey.science.cost import Gpu
from odyssey.science.schedule import Troubles
from odyssey.settings import Settings

FAILURES = 1e-4
"""Of a GPU an hour, where the user states no other rate. Llama 3's training had 419 unexpected interruptions in 54
days on 16,384 GPUs (Grattafiori et al. 2024, section 3.3.4), 2e-5; five times that, as clusters differ."""
WAIT = 600.0
"""Seconds until what a failure ended starts again. An estimate of ours."""
STRAGGLERS, SLOWDOWN = 0.05, 1.5
"""Share of cells that are slower than planned, and how many times. Estimates of ours."""
STARTING = 120.0
"""Seconds until a cell's process works: imports, weights, tokenising. An estimate of ours."""
TRIES = 200
"""Simulations with failures and stragglers."""
TOGETHER = 0.9
"""Share of so many times one GPU's rate that GPUs of one machine reach together in a run. An estimate of ours."""

CELLS = tuple(stage.__name__ for stage in STAGES)
"""Stages that are done cell by cell."""
AFTER = ("claims", "report")
"""Stages that need all cells; the others come before them."""


@dataclass(frozen=True)
class Study:
    """What one study takes."""

    name: str
    cells: int
    gpu_memory: int
    """Bytes of a GPU, CUDA's own included."""
    host_memory: int
    """Bytes of the machine, for each GPU that works."""
    fetched: int
    disk: int
    """Bytes of results, and of DVC's copies."""
    spare: int
    """Bytes on disk for each cell that trains."""
    hours: float
    longest: float
    """Hours of its longest cell."""


@dataclass(frozen=True)
class OnGpus:
    """What the studies come to on so many GPUs; hours are wall-clock unless said otherwise."""

    gpus: int
    hours: float
    """Undisturbed."""
    used: float
    """Share of the GPUs' time in which cells are worked on."""
    disturbed: tuple[float, float, float]
    """Hours with failures and stragglers: the median, and what 5 % and 95 % of the simulations stay below."""
    failures: float
    """On average."""
    lost: float
    """GPU hours that are done again, on average."""
    disk: int
    """Bytes at most: results and what cells that train at once hold besides."""
    together: float
    """Undisturbed, with one cell after the other and all GPUs in each."""
    gpu_memory: int
    """Bytes of each GPU then."""


@dataclass(frozen=True)
class Schedule:
    """Studies, and numbers of GPUs."""

    device: str
    studies: tuple[Study, ...]
    fetched: int
    """Bytes, what several studies need counted once."""
    troubles: Troubles
    rows: tuple[OnGpus, ...]

    @property
    def hours(self) -> float:
        """GPU hours of all."""
        return sum(study.hours for study in self.studies)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "totals": {"hours": self.hours, "disk": sum(study.disk for study in self.studies)}}


@dataclass(frozen=True)
class _Planned:
    """A study's plan, and the seconds of its cells."""

    settings: Settings
    plan: Plan
    models: tuple[Planned, ...]
    cells: tuple[float, ...]

    def seconds(self, *stages: str) -> float:
        """Of some of its stages."""
        return sum((stage.hours or 0) * 3600 for stage in self.plan.stages if stage.name in stages)

    @property
    def before(self) -> float:
        """Seconds of what must be there before any cell."""
        names = {stage.name for stage in self.plan.stages} - {*CELLS, *AFTER}
        return self.seconds(*names)

    @property
    def spare(self) -> int:
        """Bytes on disk for each cell that trains."""
        return max(stage.spare for stage in self.plan.stages)


def make_schedule(
    studies: Sequence[Settings],
    gpu: Gpu | None,
    machine: Machine,
    gpus: Sequence[int],
    failures: float = FAILURES,
    *,
    ask_hub: bool = True,
) -> Schedule:
    """Plan studies for some numbers of GPUs, named or the machine's own.

    Raises OdysseyError where nothing is known of the GPU's speed.
    """
    online = ask_hub and hub_answers()
    made = []
    for settings in studies:
        plan = make_plan(settings, gpu, machine, ask_hub=online)
        if plan.hours is None or (gpu is None and machine.device.measured is not None):
            raise OdysseyError("hours on several GPUs are planned for a GPU that is known: name one, --gpu A100-80GB")
        seconds = planned_seconds(settings, gpu, machine, ask_hub=online)
        models = tuple(Planned(name, model, shape_of(name, model, online)) for name, model in settings.models.items())
        made.append(_Planned(settings, plan, models, tuple(each + STARTING for each in seconds.values())))
    downloads = {one.what: one.bytes for each in made for stage in each.plan.stages for one in stage.downloads}
    troubles = Troubles(failures, _interval(studies), WAIT, STRAGGLERS, SLOWDOWN)
    try:
        rows = tuple(_on_gpus(made, number, troubles) for number in gpus)
    except ValueError as error:
        raise OdysseyError(f"--failures {failures:g}: {error}; lower adapt.engine.checkpoint_minutes") from None
    return Schedule(made[0].plan.device, tuple(map(_study, made)), sum(downloads.values()), troubles, rows)


def _interval(studies: Sequence[Settings]) -> float:
    """Seconds between two checkpoints: of several studies the longest."""
    return 60 * max(settings.adapt.engine.checkpoint_minutes for settings in studies)


def _study(one: _Planned) -> Study:
    plan = one.plan
    return Study(
        plan.study,
        len(one.cells),
        (plan.gpu_checks or plan.checks)[0].needed,
        max(stage.host_memory for stage in plan.stages),
        plan.fetched,
        plan.disk - one.spare,
        one.spare,
        plan.hours or 0,
        max(one.cells) / 3600,
    )


def _on_gpus(made: Sequence[_Planned], gpus: int, troubles: Troubles) -> OnGpus:
    cells = [seconds for one in made for seconds in one.cells]
    # All studies' texts first, then all cells, then all reports: a little longer than need be.
    around = sum(
        schedule.simulate(jobs, gpus).makespan
        for jobs in ([one.before for one in made], [one.seconds(*AFTER) for one in made])
    )
    calm = schedule.simulate(cells, gpus)
    tries = [schedule.simulate(cells, gpus, troubles, seed) for seed in range(TRIES)]
    low, median, high = np.percentile([one.makespan for one in tries], [5, 50, 95]) + around
    spare = sorted((one.spare for one in made for _ in one.cells), reverse=True)[:gpus]
    alone = [_together(one, gpus) for one in made]
    return OnGpus(
        gpus,
        (calm.makespan + around) / 3600,
        calm.busy / (calm.makespan * gpus),
        (median / 3600, low / 3600, high / 3600),
        math.fsum(one.failures for one in tries) / TRIES,
        math.fsum(one.lost for one in tries) / TRIES / 3600,
        sum(one.plan.disk - one.spare for one in made) + sum(spare),
        (around + sum(seconds for seconds, _ in alone)) / 3600,
        max(size for _, size in alone),
    )


def _together(one: _Planned, gpus: int) -> tuple[float, int]:
    """Seconds of a study's cells, one after the other and all GPUs in each, and bytes of each GPU in training."""
    recipe = one.settings.adapt
    shared, faster = min(gpus, recipe.batch_size), 1.0 if gpus == 1 else TOGETHER
    training = one.seconds("adapt", "joins") / (shared * faster)
    scoring = one.seconds("evaluate", "tokens") / (gpus * faster)
    tensors = max(model.training_memory(recipe, shared).peak for model in one.models)
    return training + scoring + STARTING * len(one.cells), memory.on_gpu(tensors)
