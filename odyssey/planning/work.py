"""What the stages' costs are computed from, and the sum of a stage's over models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from odyssey.planning.amounts import add
from odyssey.planning.machine import Device
from odyssey.planning.parts import Download, Stage
from odyssey.planning.shapes import Planned
from odyssey.planning.sizes import Sizes
from odyssey.science import cost
from odyssey.settings import Settings

PROCESSOR_SHARE = 0.5
"""Of the rate that a processor was measured at in large products. An estimate of ours."""


@dataclass(frozen=True)
class Work:
    """A study, the sizes of its texts, and what computes."""

    settings: Settings
    sizes: Sizes
    device: Device
    models: Mapping[str, Planned]

    def hours(self, flops: float, number: cost.Number, kind: str) -> float | None:
        """Of so many operations on the device; None if its rate is not known."""
        rate = self.device.rate(number)
        share = cost.UTILISATION[kind] if self.device.measured is None else PROCESSOR_SHARE
        return cost.seconds(flops, rate, share) / 3600 if rate else None


@dataclass
class Tally:
    """What a stage takes, summed model by model; of memory the highest counts."""

    downloads: list[Download] = field(default_factory=list)
    disk: int = 0
    spare: int = 0
    """Bytes on disk for as long as a model trains."""
    tokens: int = 0
    flops: float = 0.0
    device_memory: int = 0
    host_memory: int = 0
    hours: float | None = 0.0
    how: list[str] = field(default_factory=list)

    def compute(self, tokens: int, flops: float, *hours: float | None) -> None:
        """Count tokens read, the operations on them, and the time that takes."""
        self.tokens, self.flops = self.tokens + tokens, self.flops + flops
        self.hours = add(self.hours, *hours)

    def hold(self, device: int, host: int) -> None:
        """Count bytes held at once, on the device and in the machine's memory."""
        self.device_memory, self.host_memory = max(self.device_memory, device), max(self.host_memory, host)

    def stage(self, name: str, default: Iterable[str] = ()) -> Stage:
        """The stage that this sums up to."""
        return Stage(
            name,
            tuple(self.downloads),
            self.disk,
            self.tokens,
            self.flops,
            self.device_memory,
            self.host_memory,
            self.hours,
            self.spare,
            tuple(self.how or default),
        )
