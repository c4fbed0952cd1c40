"""Jobs on a SLURM cluster, by submitit: arrays of them, requeued when they are pre-empted or their time is over."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from odyssey.errors import OdysseyError
from odyssey.sweeping.executors import Planned, Told
from odyssey.sweeping.record import Record, Submitted

ARRAY = 1000
"""Jobs in an array, at most: SLURM's own limit (MaxArraySize) is 1001 unless a site has another one."""
GRACE = 300
"""Seconds before the end of a job's time at which it is to write its checkpoint; SLURM may be a minute early."""
TIMES = 1000
"""How often a job may be requeued because its time was over."""
PATIENCE = 60
"""Seconds for an answer of SLURM's."""
OURS = frozenset(
    ("array", "error", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "requeue", "signal")
)
"""Options of sbatch that are set here."""
WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING", "PREEMPTED"))
"""States of a job that will run; pre-empted ones are requeued."""
TURN = frozenset(("", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog"))
"""What jobs wait for that run sooner or later; others may wait for ever, PartitionTimeLimit say."""
RUNNING = frozenset(("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED", "RESIZING"))


class Slurm:
    """A SLURM cluster as an executor; `at_once` jobs of it run at a time, `minutes` each at most."""

    name = "slurm"
    intervals = (2.0, 30.0)
    workers = None

    def __init__(
        self, record: Record, study: str, *, minutes: int = 60, at_once: int | None = None, options: Sequence[str] = ()
    ) -> None:
        self._record = record
        self._name = f"odyssey-{study}"
        self._minutes = minutes
        self._at_once = at_once or ARRAY
        self._options = parse(options)

    def room(self, alive: int) -> int:
        """All jobs are handed over at once, an array at a time."""
        return ARRAY

    def submit(self, jobs: Sequence[Planned]) -> list[Submitted]:
        """Submit them as an array, or as a job if it is one."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        require()
        folder = self._record.logs(jobs[0].key)
        executor = SlurmExecutor(folder, max_num_timeout=TIMES)
        executor.update_parameters(
            job_name=self._name,
            time=self._minutes,
            nodes=1,
            ntasks_per_node=1,
            signal_delay_s=min(GRACE, 30 * self._minutes),
            stderr_to_stdout=True,
            array_parallelism=self._at_once,
            srun_args=["--open-mode=append"],  # a requeued job's log goes on
            additional_parameters={"requeue": True, **self._options},
        )
        try:
            submitted = executor.submit_array([job.task for job in jobs])
        except (FailedJobError, FailedSubmissionError) as error:
            told = str(error).strip().splitlines()
            raise OdysseyError(f"SLURM refuses the jobs: {told[-1] if told else 'it does not say why'}") from None
        return [
            Submitted(job.key, self.name, there.job_id, str(there.paths.stdout), job.model, job.domains)
            for job, there in zip(jobs, submitted, strict=True)
        ]

    def states(self, jobs: Sequence[Submitted]) -> Mapping[str, Told] | None:
        """What `squeue` says of these; it forgets ended jobs after some minutes (MinJobAge)."""
        if not jobs:
            return {}
        command = ("squeue", "--noheader", "--array", "--states=all", "--format=%i %T %r", f"--name={self._name}")
        try:
            said = subprocess.run(
                (*command, f"--user={os.getuid()}"), capture_output=True, text=True, check=True, timeout=PATIENCE
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        found = {
            number: rest for number, *rest in (line.split(maxsplit=2) for line in said.splitlines() if line.strip())
        }
        return {job.key: told(*found[job.id]) for job in jobs if job.id in found}

    def end(self, jobs: Sequence[Submitted]) -> Sequence[Submitted]:
        """They go on without the sweep."""
        return ()


def require() -> None:
    """Raises OdysseyError if SLURM's commands are not here."""
    if any(shutil.which(command) is None for command in ("sbatch", "srun", "squeue")):
        raise OdysseyError("there is no SLURM here: sbatch is not on the PATH; leave out --on slurm")


def told(state: str, reason: str = "") -> Told:
    """A state of SLURM's in the sweep's words, and what a job waits for, if that is not just its turn."""
    if state in WAITING:
        return Told("waiting", "" if reason.strip() in TURN else reason.strip())
    if state in RUNNING:
        return Told("running")
    return Told("ended", "" if state == "COMPLETED" else state.lower().replace("_", " "))


def parse(options: Sequence[str]) -> dict[str, Any]:
    """sbatch's long options from `key=value` or `key`; raises OdysseyError for those that are set here."""
    found: dict[str, Any] = {}
    for option in options:
        key, given, value = option.partition("=")
        key = key.strip().lstrip("-").replace("_", "-")
        if key == "time":
            raise OdysseyError(f"--slurm {option}: use --limit, in hours")
        if key in OURS or not key.replace("-", "").isalnum():
            raise OdysseyError(
                f"--slurm {option}: the sweep sets that itself, or sbatch has no such option; leave it out"
            )
        if not all(c.isprintable() for c in value):
            raise OdysseyError(f"--slurm {key}: its value has characters that do not show")
        found[key] = value if given else True
    return found
