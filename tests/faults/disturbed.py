"""A finished tiny study, and its stages in processes of their own, to be disturbed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import pytest
from project import Project

from odyssey.store import MANIFEST, sha256

STUDY = "smoke"
STAGES = ("sample", "pretrain", "embed", "similarity", "adapt", "evaluate", "tokens", "joins", "claims", "report")
PATIENCE = 300
"""Seconds within which any stage of the tiny study is done, however busy the machine is."""
STEPS = "steps"
"""File that gets a byte for each optimiser step that is begun."""
_LOADED = ["torch", "transformers", "sentence_transformers", "deepspeed", "mlflow", "odyssey.cli", "odyssey.training"]

# A process for each try, without what importing takes: a server that has imported all is forked. How many threads
# there are is settled where torch is imported, so the server has the one thread that all else has here.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_LOADED)
THREADS = "1"


class Disturbed:
    """A stage at work, in a process group of its own."""

    def __init__(self, study: Study, stage: str, prepare: Callable[[], None] | None) -> None:
        self.log = study.folder.with_name(f"{stage}.log")
        self.log.unlink(missing_ok=True)
        arguments = (study.folder, study.project.environment, self.log, [stage], prepare)
        self._folder = study.folder
        self._process = _server.Process(target=_work, args=arguments)
        self._process.start()

    def heed(self) -> None:
        """Wait until it has said what it does: from then on a request to end is one to a stage."""
        deadline = time.monotonic() + PATIENCE
        while self._process.is_alive() and not (self.log.exists() and self.log.stat().st_size):
            assert time.monotonic() < deadline, f"silent for {PATIENCE} s"
            time.sleep(0.005)

    def signal(self, number: int, after: float) -> bool:
        """Send a signal after so many seconds, unless it is done before; whether it was sent."""
        self._process.join(after)
        if self._process.exitcode is not None:
            return False
        assert self._process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.join()  # as long as it is there, what it wrote is left alone
            _all_gone(self._folder)
        return True

    def end(self) -> tuple[int, str]:
        """Its exit status, of a signal negative, and what it said."""
        self._process.join(PATIENCE)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            raise AssertionError(f"not done after {PATIENCE} s: {self.log.read_text(encoding='utf-8')}")
        return status, self.log.read_text(encoding="utf-8", errors="replace")


class Study:
    """A copy of the project with the tiny study finished; the tests disturb one stage of it after the other."""

    def __init__(self, folder: Path, study: Path | dict[str, object]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", THREADS)
            ensure_running()
        self.project = Project(folder, STUDY, {STUDY: study}, HF_HUB_OFFLINE="1", OMP_NUM_THREADS=THREADS)
        self.folder = folder
        self.data = folder / "data" / STUDY
        self.project.run("dvc", "repro")
        self.expected = {stage: self.hashes(stage) for stage in STAGES}

    def hashes(self, stage: str) -> dict[str, str]:
        """sha256 of each file of a stage's output."""
        folder = self.data / stage
        return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}

    def same(self, stage: str) -> bool:
        """Whether a stage's output is that of the undisturbed run, bit for bit, and nothing else is left."""
        unfinished = self.data / "unfinished"
        left = list(unfinished.iterdir()) if unfinished.exists() else []
        return self.hashes(stage) == self.expected[stage] and not left

    def whole(self, stage: str) -> dict[Path, int]:
        """When the cells of a stage that are there were finished, in ns."""
        found = (self.data / stage).rglob(MANIFEST)
        hidden = (path for path in found if not any(p.startswith(".") for p in path.relative_to(self.data).parts))
        return {path: path.stat().st_mtime_ns for path in hidden}

    def forget(self, stage: str) -> None:
        """Remove all that a stage made."""
        for name in (stage, "unfinished"):
            shutil.rmtree(self.data / name, ignore_errors=True)
        self.steps_file.unlink(missing_ok=True)

    def start(self, stage: str, prepare: Callable[[], None] | None = None) -> Disturbed:
        """A stage in a process of its own, in which `prepare`, a module's function, is called first."""
        return Disturbed(self, stage, prepare)

    def run(self, stage: str, prepare: Callable[[], None] | None = None) -> tuple[int, str]:
        """The same to its end."""
        return self.start(stage, prepare).end()

    def seconds(self, stage: str) -> float:
        """How long a stage takes by itself from nothing."""
        self.forget(stage)
        start = time.monotonic()
        status, said = self.run(stage, count_steps)
        assert status == 0, said
        assert self.same(stage), f"{stage}: not the same when it is run again"
        return time.monotonic() - start

    @property
    def steps_file(self) -> Path:
        return self.folder / STEPS

    def steps(self) -> int:
        """How many optimiser steps were begun since a stage was forgotten."""
        return self.steps_file.stat().st_size if self.steps_file.exists() else 0


def _all_gone(folder: Path) -> None:
    """Wait until no process works in a folder: what a killed one had started ends, too."""
    deadline = time.monotonic() + 20
    while left := [process for process in Path("/proc").glob("[0-9]*") if _works_in(process, folder)]:
        assert time.monotonic() < deadline, f"left running: {[(path / 'cmdline').read_text() for path in left]}"
        time.sleep(0.05)


def _works_in(process: Path, folder: Path) -> bool:
    with suppress(OSError):
        return (process / "cwd").readlink() == folder
    return False


def count_steps() -> None:
    """Have each optimiser step leave a byte in a file, which survives the process."""
    from odyssey import training

    usual = training._Run._update

    def counted(self: Any, batch: Any) -> float:
        with Path(STEPS).open("ab") as file:
            file.write(b".")
        return usual(self, batch)

    training._Run._update = counted  # type: ignore[method-assign]


def _work(
    folder: Path, environment: Mapping[str, str], log: Path, command: list[str], prepare: Callable[[], None] | None
) -> None:
    # As in any other process: pools of workers are forked of it, and not of a server of its own.
    multiprocessing.set_start_method("fork", force=True)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if prepare is not None:
        prepare()
    from odyssey.cli import main

    main(command)
