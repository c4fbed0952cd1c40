"""What a plan consists of: downloads, stages, checks, totals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from odyssey.planning.amounts import add

Origin = Literal["hub", "recorded", "bound", "estimate"]
"""Where a size comes from: the hub, this package, a limit of the study's, or a guess."""


@dataclass(frozen=True)
class Download:
    """Something that is fetched into the hub's cache."""

    what: str
    files: int
    bytes: int
    origin: Origin
    license: str
    non_commercial: bool | None
    gated: bool | None
    """None if not known."""


@dataclass(frozen=True)
class Stage:
    """What one stage takes; hours are on the plan's device."""

    name: str
    downloads: tuple[Download, ...] = ()
    disk: int = 0
    """Bytes of its result."""
    tokens: int = 0
    """Read by a language model or the encoder, all passes together."""
    flops: float = 0
    device_memory: int = 0
    """Bytes of tensors where it computes, at the highest."""
    host_memory: int = 0
    """Bytes of the machine's own memory, besides."""
    hours: float | None = 0
    """None where nothing is known of the device's speed."""
    spare: int = 0
    """Bytes on disk while it works, and not after."""
    how: tuple[str, ...] = ()
    """The arithmetic, a sentence each."""

    @property
    def fetched(self) -> int:
        """Bytes of the downloads."""
        return sum(download.bytes for download in self.downloads)


@dataclass(frozen=True)
class Check:
    """Something needed against what there is, in bytes."""

    what: str
    needed: int
    there: int
    fits: bool
    remark: str = ""


@dataclass(frozen=True)
class Plan:
    """All of it."""

    study: str
    summary: str
    sizes: str
    """Where sizes come from."""
    device: str
    stages: tuple[Stage, ...]
    dvc_copies: bool
    """Whether DVC's cache holds results a second time."""
    licenses: tuple[tuple[str, str, str, bool | None], ...]
    """What, licence, where it is stated, whether it excludes commercial use."""
    accepted: bool
    gpu_checks: tuple[Check, ...]
    """Of the named GPU; none if none is named."""
    checks: tuple[Check, ...]
    """Of this machine as it is."""
    remarks: tuple[str, ...]

    @property
    def disk(self) -> int:
        """Bytes of results and of DVC's copies of them, and of what the neediest stage has beside its own."""
        spare = max(stage.spare for stage in self.stages)
        return sum(stage.disk for stage in self.stages) * (2 if self.dvc_copies else 1) + spare

    @property
    def fetched(self) -> int:
        """Bytes that end in the hub's cache."""
        return sum(stage.fetched for stage in self.stages)

    @property
    def hours(self) -> float | None:
        """On the plan's device; None if any stage's are not known."""
        return add(*(stage.hours for stage in self.stages))

    @property
    def fits_gpu(self) -> bool | None:
        """Whether it fits the named GPU; None if none is named."""
        return all(check.fits for check in self.gpu_checks) if self.gpu_checks else None

    @property
    def fits_machine(self) -> bool:
        """Whether it fits this machine as it is."""
        return all(check.fits for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the totals and the two verdicts."""
        found = asdict(self)
        totals = {
            "fetched": self.fetched,
            "disk": self.disk,
            "flops": sum(stage.flops for stage in self.stages),
            "tokens": sum(stage.tokens for stage in self.stages),
            "hours": self.hours,
        }
        return {**found, "totals": totals, "fits_gpu": self.fits_gpu, "fits_machine": self.fits_machine}
