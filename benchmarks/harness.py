"""What the benchmarks share: ours and a peer in turn, the same numbers first, ratios with their spread, a record.

A ratio is taken round by round, ours beside the peer that ran next to it, and its median is what
counts: a machine whose speed drifts moves both. Times are seconds of wall clock, memory is the
peak resident size of a whole process.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("BENCH_RESULTS") or Path(__file__).with_name("results.json"))
ROUNDS = 5
"""At least as many times is each way measured."""
PEERS = ("lm-eval", "evaluate", "accelerate", "pytorch-fid", "torchmetrics")
"""Packages that only the benchmarks need; their versions are those of benchmarks/requirements.txt."""
PACKAGES = (
    *("torch", "transformers", "numpy", "scipy", "pandas", "datasets", "sentence-transformers", "mlflow", "dvc"),
    *PEERS,
)
OURS = "odyssey"
PYTHON = str(ROOT / ".venv" / "bin" / "python")
"""What runs `odyssey` as a process of its own: the environment that its users have, without the peers' packages."""
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
child = os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    json.dump([time.perf_counter() - start, status, usage.ru_maxrss], file)
"""
"""Starts a command and measures it: what a process has taken before its exec counts, and this one takes little."""


@dataclass(frozen=True)
class Run:
    """One run of one way."""

    seconds: float
    peak_mb: float | None = None
    """Peak resident memory of the process, 10^6 bytes; None where it was not one of its own."""
    value: Any = None
    """What it computed."""


@dataclass
class Result:
    """A measure: what each way took, and ours against each peer."""

    measure: str
    """One line for a reader: what was done, with which sizes."""
    reach: str
    """What was aimed at, as it is to be read beside the ratio."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_mb: dict[str, list[float]] = field(default_factory=dict)
    agreement: str = ""
    """How far the ways' numbers are the same."""
    note: str = ""

    def speedup(self, peer: str) -> tuple[float, float, float]:
        """How many times faster than the peer: median, least and most over rounds."""
        return _spread([theirs / ours for ours, theirs in zip(self.seconds[OURS], self.seconds[peer], strict=True)])

    def memory(self, peer: str) -> tuple[float, float, float]:
        """Our peak memory over the peer's: median, least and most over rounds."""
        return _spread([ours / theirs for ours, theirs in zip(self.peak_mb[OURS], self.peak_mb[peer], strict=True)])

    @property
    def peers(self) -> list[str]:
        """All ways but ours."""
        return [name for name in self.seconds if name != OURS]


def alternate(
    measure: str,
    reach: str,
    ways: Mapping[str, Callable[[], Run]],
    same: Callable[[Mapping[str, Any]], str],
    rounds: int = ROUNDS,
) -> Result:
    """Run all ways in turn, `rounds` times after one that is not counted, in which `same` looks at their values.

    `same` raises AssertionError if they are not the same numbers, and says how far they are.
    """
    result = Result(measure, reach)
    first = {name: way() for name, way in ways.items()}
    result.agreement = same({name: run.value for name, run in first.items()})
    for _ in range(rounds):
        for name, way in ways.items():
            run = way()
            result.seconds.setdefault(name, []).append(run.seconds)
            if run.peak_mb is not None:
                result.peak_mb.setdefault(name, []).append(run.peak_mb)
    print(line(result), flush=True)
    return result


def timed(function: Callable[[], Any]) -> Run:
    """A call in this process."""
    start = time.perf_counter()
    value = function()
    return Run(time.perf_counter() - start, value=value)


def process(command: Sequence[str | Path], **environment: str) -> Run:
    """A process from its start to its end; the value is its last line of output, read as JSON where it is.

    Raises RuntimeError with what it said if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "usage")
        launcher = [sys.executable, "-S", "-c", LAUNCHER, told, *command]
        done = subprocess.run(
            [str(word) for word in launcher],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        seconds, status, peak = json.loads(told.read_text())
    if status:
        raise RuntimeError(f"{command}: status {os.waitstatus_to_exitcode(status)}: {done.stderr[-2000:]}")
    lines = done.stdout.strip().splitlines()
    value: Any = lines[-1] if lines else None
    with suppress(TypeError, ValueError):
        value = json.loads(value)
    return Run(seconds, peak * 1024 / 1e6, value)


def record(name: str, results: Sequence[Result], **more: Any) -> None:
    """Append a benchmark's results to results.json, with date, hardware and versions; `more` is kept beside them."""
    held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    entry = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {package: found for package in PACKAGES if (found := _version(package))},
        "results": [asdict(result) for result in results],
        **more,
    }
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps([*held, entry], indent=1) + "\n", encoding="utf-8")
    new.replace(RESULTS)


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GB, GPU."""
    import torch

    names = [row.split(":")[1].strip() for row in _lines("/proc/cpuinfo") if row.startswith("model name")]
    memory = next(int(row.split()[1]) for row in _lines("/proc/meminfo") if row.startswith("MemTotal"))
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory * 1024 / 1e9),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
    }


def mend_torchvision() -> None:
    """Give torchvision, which peers import, operators that it lacks beside a torch for CPUs; none is called here."""
    import torch

    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        pass
    except RuntimeError:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")


def line(result: Result) -> str:
    """A result in a line: the ratio to each peer, with its spread."""
    told = []
    for peer in result.peers:
        median, low, high = result.speedup(peer)
        text = f"{median:.2f}x as fast as {peer} [{low:.2f}, {high:.2f}]"
        if result.peak_mb.get(peer):
            text += f", {result.memory(peer)[0]:.2f} of its memory"
        told.append(text)
    ours = statistics.median(result.seconds[OURS])
    return f"{result.measure}: {ours:.3g} s; {'; '.join(told)}; {result.agreement} (reach: {result.reach})"


def _spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(ratios), min(ratios), max(ratios)


def _lines(file: str) -> list[str]:
    return Path(file).read_text(encoding="utf-8").splitlines()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
