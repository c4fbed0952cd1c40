"""What computes: GPUs by name, and this machine's device, memory and free disk."""

from __future__ import annotations

import configparser
import math
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from odyssey.complaints import nearest
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.planning.amounts import gb
from odyssey.science import cost, memory
from odyssey.science.cost import GPUS, Gpu

CPU = "cpu"
"""Names this machine's processor where a GPU could be named."""


@dataclass(frozen=True)
class Device:
    """What computes: a GPU, or the processor at a measured rate."""

    name: str
    memory: int
    """Bytes."""
    gpu: Gpu | None
    """None for a processor, and for a GPU that is not in the table."""
    measured: float | None = None
    """Operations a second that a processor reached in large float32 products."""

    def rate(self, number: cost.Number) -> float | None:
        """Peak operations a second; None if not known."""
        return self.measured if self.gpu is None else self.gpu.rate(number)

    def needs(self, tensors: int) -> int:
        """Bytes of its memory that so many bytes of tensors take."""
        return tensors if self.measured is not None else memory.on_gpu(tensors)

    def describe(self) -> str:
        """Its name, memory and speed."""
        if self.measured is not None:
            return f"{self.name} ({self.measured / 1e9:.0f} GFLOP/s, measured just now)"
        if self.gpu is None:
            return f"{self.name} ({gb(self.memory)}; not in the table of GPUs, so hours are not known)"
        peak = self.gpu.bfloat16 or self.gpu.float32
        return f"{self.name} ({gb(self.memory)}, {peak:g} TFLOP/s bfloat16, {self.gpu.float32:g} float32)"


@dataclass(frozen=True)
class Machine:
    """The machine that a study would run on."""

    ram: int
    device: Device
    data_free: int
    """Bytes free where results are written."""
    cache_free: int
    """Bytes free where the hub's cache is."""
    one_disk: bool
    """Whether those are the same bytes."""


def find_gpu(name: str) -> Gpu:
    """The GPU of the table that is meant by a name or its unmistakable beginning; raises OdysseyError if none is."""
    plain = {_plain(known): gpu for known, gpu in GPUS.items()}
    found = [gpu for known, gpu in plain.items() if known == _plain(name)] or [
        gpu for known, gpu in plain.items() if known.startswith(_plain(name)) and name.strip()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise OdysseyError(f"GPU '{name}': which one, {' or '.join(gpu.name for gpu in found)}?")
    raise OdysseyError(f"GPU '{name}' is neither in the table nor {CPU}{nearest(name, GPUS, 3)}")


def is_cpu(name: str | None) -> bool:
    """Whether a name given for a GPU means this machine's processor."""
    return name is not None and name.strip().casefold() == CPU


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def look_around(layout: Layout, *, use_gpu: bool = True, measure: bool = True) -> Machine:
    """This machine: memory, GPU or processor, free disk; with `measure`, a processor is timed for a moment.

    Without `use_gpu` it is taken for a machine that has none.
    """
    from huggingface_hub import constants

    data, cache, ram = _existing(layout.data), _existing(Path(constants.HF_HUB_CACHE)), _ram()
    return Machine(
        ram,
        (_own_gpu() if use_gpu else None)
        or Device("this machine's processor", ram, None, _measure() if measure else 0.0),
        shutil.disk_usage(data).free,
        shutil.disk_usage(cache).free,
        data.stat().st_dev == cache.stat().st_dev,
    )


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _ram() -> int:
    """Bytes of memory, or of what a container may use of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else ""
    return min(total, int(allowed)) if allowed.isdigit() else total


def _own_gpu() -> Device | None:
    import torch

    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(0)
    gigabytes = about.total_memory / 1e9
    # "NVIDIA A100-SXM4-80GB": the table's entries of that kind, the one that is nearest in memory.
    kinds = [gpu for gpu in GPUS.values() if _plain(re.sub(r"-\d+GB$", "", gpu.name)) in _plain(about.name)]
    known = min(kinds, key=lambda gpu: abs(gpu.memory - gigabytes), default=None)
    return Device(about.name, about.total_memory, known)


def _measure(trials: int = 12) -> float:
    """Operations a second in float32 products of 768 x 768, the best of some trials, as others may be at work."""
    import torch

    x = torch.ones(768, 768)
    best = math.inf
    for _ in range(trials):
        start = time.perf_counter()
        x @ x
        best = min(best, time.perf_counter() - start)
    return 2 * 768**3 / best


def dvc_copies(root: Path) -> bool:
    """Whether DVC keeps results twice: always, unless `cache.type` in .dvc/config says links.

    Its default is to clone blocks where the file system can (XFS, Btrfs, APFS), which is not found out here.
    """
    config = configparser.ConfigParser(strict=False)
    for file in (root / ".dvc" / "config", root / ".dvc" / "config.local"):
        if file.is_file():
            # DVC indents keys, which configparser would take for the line before going on.
            config.read_string("\n".join(line.strip() for line in file.read_text(encoding="utf-8").splitlines()))
    kinds = config.get("cache", "type", fallback="copy")
    return not any(kind in kinds for kind in ("hardlink", "symlink"))
