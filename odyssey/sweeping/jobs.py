"""A sweep's jobs: which cells are still to be done, how they are packed, and what became of earlier ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.planning.amounts import duration
from odyssey.science.packing import Cell, Job, pack
from odyssey.sweeping.executors import Executor, Planned, Told
from odyssey.sweeping.progress import Progress, counted
from odyssey.sweeping.record import Record, Submitted
from odyssey.sweeping.sweep import UNKNOWN
from odyssey.sweeping.task import Task


def packed(
    cells: Iterable[tuple[str, str]], seconds: Mapping[tuple[str, str], float], hours: float, workers: int | None
) -> list[Job]:
    """Jobs of cells (model, domain) with so many planned `hours` at most, the longest first.

    Where so many workers do all of them, none gets more than its share: else some would have nothing to do.
    """
    planned = [Cell(*cell, seconds[cell]) for cell in cells]
    share = sum(cell.seconds for cell in planned) / workers if workers else 3600 * hours
    return pack(planned, min(3600 * hours, share))


def describe(jobs: Sequence[Job]) -> Iterator[str]:
    """A line for each job."""
    for k, job in enumerate(jobs, 1):
        yield f"job {k}: {job.model} on {', '.join(job.domains)}, {duration(job.seconds / 3600)}"


def to_submit(jobs: Iterable[Job], record: Record, params: Path, data: Path) -> Iterator[Planned]:
    """The jobs with what they run: `odyssey cells`, in the current folder and by this Python."""
    start = time.strftime("%Y%m%d-%H%M%S")
    odyssey = (sys.executable, "-m", "odyssey", "--params", str(params), "--data", str(data))
    for k, job in enumerate(jobs, 1):
        key = f"{start}-{k:05d}"
        journal = str(record.journal(key).path)
        command = [*odyssey, "cells", "--model", job.model, "--journal", journal]
        yield Planned(key, job.model, job.domains, Task(command, job.domains, journal, str(Path.cwd()), {}))


def earlier(record: Record, executors: Mapping[str, Executor]) -> tuple[list[Submitted], list[Progress]]:
    """Jobs of earlier sweeps that have not ended, and how far those are that have.

    Raises OdysseyError if that cannot be found out now.
    """
    jobs = record.jobs()
    states: dict[str, Told] = {}
    for name, executor in executors.items():
        found = executor.states([job for job in jobs if job.on == name])
        if found is None:
            raise OdysseyError(
                "squeue is not here or does not answer, so it is not known which jobs run still: try again, where the "
                f"cluster can be asked; if there is none any more, delete {record.file}"
            )
        states |= found
    alive, ended = [], []
    for job in jobs:
        told = states.get(job.key, Told("ended", UNKNOWN))
        if told.state == "ended":
            ended.append(_last_seen(record, job))
            list(ended[-1].end(told.why))
        else:
            alive.append(job)
    return alive, ended


def only_on(jobs: Sequence[Submitted], name: str) -> None:
    """Raises OdysseyError if jobs run elsewhere: their cells would be done twice."""
    others = [job for job in jobs if job.on != name]
    if others:
        raise OdysseyError(
            f"{counted(len(others), 'job')} of an earlier sweep not done: "
            f"`odyssey sweep --on {others[0].on}` waits for that"
        )


def overview(
    cells: Sequence[tuple[str, str]],
    lacking: Iterable[tuple[str, str]],
    alive: Sequence[Submitted],
    ended: Sequence[Progress],
    record: Record,
) -> Iterator[str]:
    """A line for each cell: done, to do, failed, or what its job says."""
    told: dict[tuple[str, str], str] = dict.fromkeys(cells, "done")
    told |= dict.fromkeys(lacking, "to do")
    for progress in ended:
        told |= {
            (progress.job.model, domain): f"failed: {why}"
            for domain, why in progress.whys.items()
            if told.get((progress.job.model, domain)) == "to do"
        }
    for job in alive:
        states = _last_seen(record, job).states
        told |= {(job.model, domain): f"{state} in job {job.id}" for domain, state in states.items()}
    yield from (f"{model} on {domain}: {state}" for (model, domain), state in told.items())


def _last_seen(record: Record, job: Submitted) -> Progress:
    progress = Progress(job)
    list(progress.hear(record.journal(job.key).all()))
    return progress
