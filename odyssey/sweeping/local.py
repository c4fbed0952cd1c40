"""Jobs on this machine, by submitit: so many at once, a GPU each where there are some."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.sweeping.executors import Planned, Told
from odyssey.sweeping.record import Record, Submitted

DEVICES = "CUDA_VISIBLE_DEVICES"
HOST = socket.gethostname()
FOREVER = 60 * 24 * 365
"""Minutes: no job is ended for the time it takes."""
AGAIN = 5.0
"""Seconds until a job that was asked to end is asked again: one that just starts may not have heard."""


class Local:
    """This machine as an executor. submitit starts what it is given at once: `room` bounds it."""

    name = "local"
    intervals = (0.5, 0.5)

    def __init__(self, record: Record, workers: int | None) -> None:
        self._record = record
        self._gpus = gpus()
        self.workers = workers or max(1, len(self._gpus))
        self._slots: dict[str, int] = {}
        """Of the jobs that run, by key."""

    def room(self, alive: int) -> int:
        """Workers that have nothing to do."""
        return self.workers - alive

    def submit(self, jobs: Sequence[Planned]) -> list[Submitted]:
        """Start these, each with a GPU and its share of the cores."""
        from submitit import LocalExecutor

        started = []
        for job in jobs:
            slot = min(set(range(self.workers)) - set(self._slots.values()), default=0)
            self._slots[job.key] = slot
            task = replace(job.task, environment={**job.task.environment, **self._environment(slot)})
            executor = LocalExecutor(self._record.logs(job.key))
            executor.update_parameters(timeout_min=FOREVER, stderr_to_stdout=True)
            with _left_alone():
                running = executor.submit(task)
            log = str(running.paths.stdout)
            started.append(Submitted(job.key, self.name, running.job_id, log, job.model, job.domains, HOST, slot))
        return started

    def _environment(self, slot: int) -> dict[str, str]:
        cores = len(os.sched_getaffinity(0)) // self.workers
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores)))
        gpu = {DEVICES: self._gpus[slot % len(self._gpus)]} if self._gpus else {}
        return {"OMP_NUM_THREADS": threads, **gpu}

    def states(self, jobs: Sequence[Submitted]) -> Mapping[str, Told]:
        """Of each of these whether it runs; raises OdysseyError of those of another machine."""
        for job in jobs:
            if job.host not in ("", HOST):
                raise OdysseyError(
                    f"a sweep on {job.host} has jobs there: look there; "
                    f"if that machine is gone, delete {self._record.file}"
                )
        told = {job.key: Told("running" if self._runs(job) else "ended") for job in jobs}
        self._slots = {job.key: job.slot for job in jobs if told[job.key] != Told("ended")}
        return told

    def end(self, jobs: Sequence[Submitted]) -> Sequence[Submitted]:
        """Have these write their checkpoints and end, all of them; returns when they have."""
        while running := [job for job in jobs if self._runs(job)]:
            for job in running:
                with suppress(ProcessLookupError):
                    os.kill(int(job.id), signal.SIGTERM)
            asked = time.monotonic()
            while time.monotonic() - asked < AGAIN and any(map(self._runs, running)):
                time.sleep(0.1)
        return jobs

    def _runs(self, job: Submitted) -> bool:
        """Whether there is a process of its number that is this job's; one that has ended and waits has no words."""
        try:
            words = Path(f"/proc/{job.id}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return str(self._record.logs(job.key)).encode() in words


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that are there for this process."""
    named = os.environ.get(DEVICES)
    if named is not None:
        return [name for name in named.split(",") if name]
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        return []
    import torch

    return [str(k) for k in range(torch.cuda.device_count())]


@contextmanager
def _left_alone() -> Iterator[None]:
    """What is started meanwhile does not hear Ctrl-C in the terminal, nor its end: the sweep sees to its jobs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
