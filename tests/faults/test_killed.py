"""Stages that are killed, or asked to end, at random moments: run again, they come to the same, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

from faults.conftest import Row
from faults.disturbed import STAGES, Study, count_steps

pytestmark = pytest.mark.slow

TRIES = 10
FEW = 3
"""Tries of what is the same in every stage."""
GRACE = 30
"""Seconds between SIGTERM and SIGKILL that SLURM gives unless told otherwise."""
RESUMABLE = ("pretrain", "adapt")
"""Stages that go on inside a model's training."""
UNITS = {"sample": "corpus", "pretrain": "model", "embed": "corpus"}
"""What a stage's work is counted in; in cells, if not here."""
ENDED = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
STATUS = {signal.SIGTERM: os.EX_TEMPFAIL, signal.SIGINT: 130}
"""What a stage exits with that is asked to end."""
ENDS = [*((signal.SIGTERM, stage) for stage in STAGES), (signal.SIGINT, "adapt"), (signal.SIGINT, "joins")]


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
        row.repeated = _in_work(study, stage)


def _in_work(study: Study, stage: str) -> str:
    """What of a stage is repeated where it does not go on inside of a cell."""
    count = len(study.whole(stage))
    return f"the {UNITS.get(stage, 'cell')} in work, of {count}" if count > 1 else "all of it"


@pytest.mark.parametrize(("number", "stage"), ENDS, ids=[f"{number.name}-{stage}" for number, stage in ENDS])
def test_terminate(study: Study, row: Row, number: signal.Signals, stage: str) -> None:
    row.fault = f"{ENDED[number]}, {stage}"
    seconds, steps = study.seconds(stage), study.steps()
    moments = random.Random(stage)
    most, slowest = 0, 0.0
    tries = TRIES if stage in RESUMABLE and number == signal.SIGTERM else FEW
    while row.tries < tries:
        study.forget(stage)
        process = study.start(stage, count_steps)
        process.heed()
        if not process.signal(number, moments.uniform(0, seconds)):
            continue
        start = time.monotonic()
        status, said = process.end()
        slowest = max(slowest, time.monotonic() - start)
        assert "Traceback" not in said, said
        if status == 0 or study.same(stage):
            continue  # it came when all was done
        assert f"{stage}: interrupted" in said, said
        row.survived += status == STATUS[number]
        whole = study.whole(stage)
        status, said = study.run(stage, count_steps)
        assert status == 0, said
        after = study.whole(stage)
        assert {path: after[path] for path in whole} == whole, "a finished cell was made again"
        row.tries += 1
        row.equal += study.same(stage)
        most = max(most, study.steps() - steps)
    assert slowest < GRACE
    if stage in RESUMABLE:
        assert most == 0
        row.repeated = f"no optimiser step; ended in {slowest:.1f} s at most"
    else:
        row.repeated = f"{_in_work(study, stage)}; ended in {slowest:.1f} s at most"


def _forget_cells(study: Study) -> None:
    for stage in STAGES[4:]:
        study.forget(stage)


@pytest.fixture(scope="module")
def repro_seconds(study: Study) -> float:
    """How long `dvc repro` takes for the stages from the first cells on, undisturbed."""
    _forget_cells(study)
    start = time.monotonic()
    study.project.run("dvc", "repro")
    return time.monotonic() - start


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_dvc_repro(study: Study, row: Row, repro_seconds: float, number: signal.Signals) -> None:
    """All processes of `dvc repro` at once, as when a job or a machine ends."""
    row.fault = f"{number.name}, dvc repro"
    row.repeated = "the cell in work"
    moments = random.Random(int(number))
    command = ["dvc", "repro"]
    while row.tries < FEW:
        _forget_cells(study)
        with subprocess.Popen(
            command,
            cwd=study.folder,
            env=study.project.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            # Some are faster than the one that was measured.
            time.sleep(moments.uniform(0.1, 0.75) * repro_seconds)
            if process.poll() is not None:
                continue  # it was faster than usual
            os.killpg(process.pid, number)
        row.tries += 1
        said = study.project.run(*command)
        row.survived += "Traceback" not in said
        row.equal += all(study.same(stage) for stage in STAGES)
