"""How long each cell of a study is planned to take: what `odyssey sweep` packs jobs by."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from odyssey.errors import OdysseyError
from odyssey.planning import model_stages
from odyssey.planning.amounts import add
from odyssey.planning.machine import Device, Machine
from odyssey.planning.parts import Stage
from odyssey.planning.shapes import Planned, shape_of
from odyssey.planning.sizes import Sizes, Text, hub_answers
from odyssey.planning.work import Work
from odyssey.science.cost import Gpu
from odyssey.sections import SplitName
from odyssey.settings import Settings

STAGES: tuple[Callable[[Work], Stage], ...] = (
    model_stages.adapt,
    model_stages.evaluate,
    model_stages.tokens,
    model_stages.joins,
)
"""What is done cell by cell, in its order."""
UNKNOWN = 3600.0
"""Seconds that each cell is taken to take where nothing is known of its device or model."""


def planned_seconds(
    settings: Settings, gpu: Gpu | None, machine: Machine, *, ask_hub: bool = True
) -> dict[tuple[str, str], float]:
    """Seconds of adapt, evaluate, tokens and joins by (model, domain), on a GPU or the machine's own device.

    As `plan` has them, cell by cell: their sum is the sum of those stages' hours, but for steps that are
    rounded up for each cell. Reading, loading and starting come on top. Where one of them is not known,
    because the device is a GPU that is not in the table or the hub cannot be asked for a model's shape, all
    are taken to be equally long: UNKNOWN.
    """
    device = machine.device if gpu is None else Device(gpu.name, round(gpu.memory * 1e9), gpu)
    sizes = _Remembered(settings, online=ask_hub and hub_answers())
    hours: dict[tuple[str, str], float | None] = {}
    for name, model in settings.models.items():
        try:
            planned = Planned(name, model, shape_of(name, model, sizes.online))
        except OdysseyError:
            return _equal(settings)
        for domain in settings.adapt_to:
            alone = settings.model_copy(update={"models": {name: model}, "adapt_to": [domain]})
            work = Work(alone, sizes, device, {name: planned})
            hours[name, domain] = add(*(stage(work).hours for stage in STAGES))
    known = {cell: 3600 * each for cell, each in hours.items() if each is not None}
    return known if len(known) == len(hours) else _equal(settings)


def _equal(settings: Settings) -> dict[tuple[str, str], float]:
    return {(model, domain): UNKNOWN for model in settings.models for domain in settings.adapt_to}


class _Remembered(Sizes):
    """Sizes that are looked up once: of a user's own texts, every file is asked for its size."""

    def __init__(self, settings: Settings, online: bool) -> None:
        super().__init__(settings, online)
        self._split = cache(super().split)

    def split(self, name: str, split: SplitName) -> Text:
        """Size of one split of a domain, as `sample` would write it."""
        return self._split(name, split)
