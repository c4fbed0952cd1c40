"""Stages that are killed, or asked to end, at random moments: run again, they come to the same, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from faults.conftest import Row
from faults.disturbed import STAGES, Study, count_steps

pytestmark = pytest.mark.slow

TRIES = 10
GRACE = 30
"""Seconds between SIGTERM and SIGKILL that SLURM gives unless told otherwise."""
RESUMABLE = ("pretrain", "adapt")
"""Stages that go on inside a model's training."""
UNITS = {"sample": "corpus", "pretrain": "model", "embed": "corpus"}
"""What a stage's work is counted in; in cells, if not here."""


@pytest.mark.parametrize("stage", STAGES)
def test_kill(study: Study, row: Row, stage: str) -> None:
    row.fault = f"kill -9, {stage}"
    seconds, steps = study.seconds(stage), study.steps()
    moments = random.Random(stage)
    most = 0
    while row.tries < TRIES:
        study.forget(stage)
        if not study.start(stage, count_steps).signal(signal.SIGKILL, moments.uniform(0, seconds)):
            continue  # it was faster than usual
        whole = study.whole(stage)
        status, said = study.run(stage, count_steps)
        assert "Traceback" not in said, said
        after = study.whole(stage)
        # The report is drawn whenever it is asked for, also where it was killed between that and its end.
        if stage != "report":
            assert {path: after[path] for path in whole} == whole, "a finished cell was made again"
        row.tries += 1
        row.survived += status == 0
        row.equal += study.same(stage)
        most = max(most, study.steps() - steps)
    if stage in RESUMABLE:
        # Checkpoints come after each step here: one that was in work, and one that was not yet written.
        assert most <= 2
        row.repeated = f"{most} optimiser steps of {steps}"
    else:
        count = len(study.whole(stage))
        unit = UNITS.get(stage, "cell")
        row.repeated = f"the {unit} in work, of {count}" if count > 1 else "all of it"


@pytest.mark.parametrize("stage", RESUMABLE)
def test_terminate(study: Study, row: Row, stage: str) -> None:
    row.fault = f"SIGTERM, {stage}"
    seconds, steps = study.seconds(stage), study.steps()
    moments = random.Random(stage)
    most, slowest = 0, 0.0
    while row.tries < TRIES:
        study.forget(stage)
        process = study.start(stage, count_steps)
        if not process.signal(signal.SIGTERM, moments.uniform(0.05 * seconds, seconds)):
            continue
        start = time.monotonic()
        status, said = process.end()
        slowest = max(slowest, time.monotonic() - start)
        if status == 0:
            continue  # it came when all was done
        assert "Traceback" not in said, said
        # Before the command listens for it, a signal does what it does to any process.
        row.survived += status == os.EX_TEMPFAIL or (status == -signal.SIGTERM and not study.steps())
        status, said = study.run(stage, count_steps)
        assert status == 0, said
        row.tries += 1
        row.equal += study.same(stage)
        most = max(most, study.steps() - steps)
    assert slowest < GRACE
    assert most <= 1  # 1: after the last step, when its checkpoint is not written any more
    row.repeated = f"{most or 'no'} optimiser step; ended in {slowest:.1f} s at most"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_dvc_repro(study: Study, row: Row, number: signal.Signals) -> None:
    """All processes of `dvc repro` at once, as when a job or a machine ends."""
    row.fault = f"{number.name}, dvc repro"
    row.repeated = "the cell in work"
    moments = random.Random(int(number))
    for _ in range(3):
        for stage in STAGES[4:]:
            study.forget(stage)
        command = ["dvc", "repro"]
        with subprocess.Popen(
            command,
            cwd=study.folder,
            env=study.project.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(moments.uniform(3, 25))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        row.tries += 1
        said = study.project.run(*command)
        row.survived += "Traceback" not in said
        row.equal += all(study.same(stage) for stage in STAGES)
