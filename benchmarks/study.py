"""The whole mini-study from nothing: `dvc repro` in a fresh clone, against the sum of its own useful work.

Useful is the time inside the functions of WORK, each of them a loop or a computation. All else is overhead: the start
of processes, imports, DVC, hashing, reading and writing, loading models, starting DeepSpeed, talking to
MLflow. The clone has the committed state of this checkout, and nothing is kept from an earlier run. Takes as
long as the study: about 13 minutes on two cores.

    python benchmarks/study.py [--study smoke] [--rounds 1]

`--study smoke` runs the tests' smallest study, to try this script: it is nearly all overhead.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORK = {
    "odyssey.corpora.documents": ("read",),
    "odyssey.stages.sample": ("_rows", "_deal", "_draw_source"),
    "odyssey.tokenization": ("train_tokenizer", "encode", "encode_by_row"),
    "odyssey.training": ("train",),
    "odyssey.scoring": ("token_nll",),
    "odyssey.encoder": ("encode", "count_truncated"),
    "odyssey.stages.similarity": ("read_moments",),
    "odyssey.science.distances": ("Moments.gaussian", "Gaussian.frechet_distance", "mmd_linear"),
    "odyssey.stages.tokens": ("count_tokens", "_write_vocabulary", "_analyse"),
    "odyssey.science.joins": ("joint_tokens", "by_group"),
    "odyssey.stages.claims": ("_tables",),
    "odyssey.stages.report": ("_tables", "_figures"),
    "odyssey.reporting.page": ("render",),
}
"""Functions that are useful work, by module."""
AROUND = {
    "odyssey.engine": ("start",),
    "odyssey.unfinished": ("Unfinished.save",),
    "odyssey.corpora.parquet": ("read_texts",),
    "odyssey.frames": ("read_frame",),
    "odyssey.store": ("read_json", "write_csv"),
    "odyssey.tracking.live": ("Curves.point", "Curves.step"),
}
"""Functions that are none, though useful ones call them; nor is an import."""
TOLD = "STUDY_TIMES"
"""Environment variable: the folder that each stage's process writes its times into."""
IN_FOLDER = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
HOOK = """
import importlib.util, sys
if sys.orig_argv[1:3] == ["-m", "odyssey"]:
    spec = importlib.util.spec_from_file_location("study_times", {file!r})
    module = sys.modules["study_times"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Clock().watch()
"""
"""sitecustomize.py, which Python runs when it starts."""


class Clock:
    """Times a process's useful work, by function; of calls inside each other the innermost one counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack = [""]
        self._since = time.perf_counter()

    def watch(self) -> None:
        """From now on to the process's end, when it says what it took."""
        sys.meta_path.insert(0, Finder(self))
        atexit.register(self._tell)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile under a name; the empty one is overhead."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def wrap(self, module: Any, path: str, name: str) -> None:
        """Have calls of a module's function, or a class's, counted under a name."""
        *parents, last = path.split(".")
        owner = functools.reduce(getattr, parents, module)
        function: Callable[..., Any] = getattr(owner, last)

        @functools.wraps(function)
        def timed(*args: Any, **more: Any) -> Any:
            with self.inside(name):
                return function(*args, **more)

        setattr(owner, last, timed)

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now

    def _tell(self) -> None:
        self._turn()
        started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        wall = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
        about = {"stage": sys.argv[1], "wall": wall, "work": {k: v for k, v in self.seconds.items() if k}}
        Path(os.environ[TOLD], f"{os.getpid()}.json").write_text(json.dumps(about), encoding="utf-8")


class Finder:
    """Finds what the others find, and has each module executed under the clock and its functions wrapped."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """As importlib asks for it."""
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        # Classes load what is built in: these are neither slow nor ours.
        loader: Any = None if spec is None else spec.loader
        if hasattr(loader, "exec_module") and not isinstance(loader, type):
            run = loader.exec_module
            loader.exec_module = lambda module: self._execute(run, module)
        return spec

    def _execute(self, run: Callable[[Any], None], module: Any) -> None:
        with self._clock.inside(""):
            run(module)
        for path in WORK.get(module.__name__, ()):
            self._clock.wrap(module, path, f"{module.__name__}.{path}")
        for path in AROUND.get(module.__name__, ()):
            self._clock.wrap(module, path, "")


def main() -> None:
    """Run the study as often as asked, and record."""
    import click

    @click.command()
    @click.option("--study", default="mini", help="A study of studies/, or `smoke`, the tests' smallest.")
    @click.option("--rounds", default=1, help="How often.")
    def command(study: str, rounds: int) -> None:
        measure(study, rounds)

    command()


def measure(study: str, rounds: int) -> None:
    """The study's wall clock and each stage's, beside their useful work."""
    import harness

    whole = harness.Result(f"the {study} study from nothing, by `dvc repro`", "at least 0.8: overhead at most 20 %")
    results = {"": whole}
    for _ in range(rounds):
        wall, stages = run(study)
        for stage, (seconds, work) in {"": (wall, sum(work for _, work in stages.values())), **stages}.items():
            result = results.setdefault(stage, harness.Result(f"its stage `{stage}`", ""))
            result.seconds.setdefault(harness.OURS, []).append(seconds)
            result.seconds.setdefault("its useful work", []).append(work)
        show(wall, stages)
    whole.note = (
        "beside is the time inside loops and computations; above it come processes' starts, imports, DVC, hashing, "
        "files, loading models, starting DeepSpeed, MLflow"
    )
    harness.record("study", list(results.values()))


def run(study: str) -> tuple[float, dict[str, tuple[float, float]]]:
    """Seconds of one run in a fresh clone, and of each stage: its processes' wall clock and useful work."""
    import harness

    with tempfile.TemporaryDirectory() as parent:
        folder, times, hooks = Path(parent, "clone"), Path(parent, "times"), Path(parent, "hooks")
        subprocess.run(["git", "clone", "--quiet", harness.ROOT, folder], check=True)
        lost = [module for module in WORK | AROUND if not (folder / f"{module.replace('.', '/')}.py").is_file()]
        assert not lost, f"the committed state has no {lost}"
        if study == "smoke":
            shutil.copy2(folder / "tests" / "smoke.yaml", folder / "studies" / "smoke.yaml")
        asked = f"study: {study}\nseed: 0\naccept_licenses: false\n"
        (folder / "params.yaml").write_text(asked, encoding="utf-8")
        times.mkdir()
        hooks.mkdir()
        (hooks / "sitecustomize.py").write_text(HOOK.format(file=str(Path(__file__).resolve())), encoding="utf-8")
        binaries = Path(harness.PYTHON).parent
        done = harness.process(
            [sys.executable, "-c", IN_FOLDER, folder, binaries / "dvc", "repro"],
            PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}",
            PYTHONPATH=str(hooks),
            DVC_SITE_CACHE_DIR=str(Path(parent, "site")),
            DVC_NO_ANALYTICS="1",
            HF_HUB_OFFLINE="1",
            MLFLOW_DISABLE_TELEMETRY="true",
            **{TOLD: str(times)},
        )
        told = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(times.glob("*.json"))]
    stages: dict[str, tuple[float, float]] = {}
    for one in told:
        wall, work = stages.get(one["stage"], (0.0, 0.0))
        stages[one["stage"]] = (wall + one["wall"], work + sum(one["work"].values()))
        for name, seconds in sorted(one["work"].items(), key=lambda item: -item[1]):
            print(f"  {one['stage']}: {seconds:8.2f} s in {name}")
    return done.seconds, stages


def show(wall: float, stages: dict[str, tuple[float, float]]) -> None:
    """A line for each stage, and DVC's share, which is what no stage's process took."""
    print(f"{'':12}{'seconds':>10}{'useful':>10}{'share':>8}")
    rows = {**stages, "DVC": (wall - sum(seconds for seconds, _ in stages.values()), 0.0)}
    for name, (seconds, work) in {**rows, "all": (wall, sum(work for _, work in stages.values()))}.items():
        print(f"{name:12}{seconds:10.2f}{work:10.2f}{work / seconds:8.1%}", flush=True)


if __name__ == "__main__":
    main()
