"""The jobs of a study's sweeps that are not known to have ended: a file that outlives the sweep."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.store import write_text
from odyssey.sweeping.journal import Journal


class Submitted(NamedTuple):
    """A job that somebody runs."""

    key: str
    """Its name in the sweep's folder."""
    on: str
    """Who runs it: slurm or local."""
    id: str
    """Its number there."""
    log: str
    """File of all that it says."""
    model: str
    domains: tuple[str, ...]
    host: str = ""
    """The machine, where it is one that only itself can be asked of."""
    slot: int = 0
    """Which of the machine's GPUs it has."""


class Record:
    """The sweep's folder of a study: its jobs, their journals and logs."""

    def __init__(self, layout: Layout) -> None:
        self.folder = (layout.data / "sweep").absolute()
        self.file = self.folder / "jobs.jsonl"
        """Of the jobs that are not known to have ended."""

    def journal(self, key: str) -> Journal:
        """What a job says of its cells."""
        return Journal(self.folder / "journals" / f"{key}.jsonl")

    def logs(self, key: str) -> Path:
        """Folder for what submitit keeps of jobs."""
        return self.folder / "submitit" / key

    def jobs(self) -> list[Submitted]:
        """Jobs that were submitted and of which no end was noted, in their order; raises OdysseyError if damaged."""
        jobs: dict[str, Submitted] = {}
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        for line in lines:
            if not line.endswith("}"):  # broken off with the machine
                continue
            try:
                known: dict[str, Any] = json.loads(line)
                if "ended" in known:
                    jobs.pop(known["ended"], None)
                else:
                    job = Submitted(**{**known, "domains": tuple(known["domains"])})
                    jobs[job.key] = job
            except (ValueError, TypeError, KeyError):
                raise OdysseyError(
                    f"{self.file}: damaged; end the sweep's jobs if some run still, and delete it"
                ) from None
        return list(jobs.values())

    def add(self, jobs: Sequence[Submitted]) -> None:
        """Note that these were submitted."""
        self._append([json.dumps(job._asdict()) for job in jobs])

    def end(self, key: str) -> None:
        """Note that a job has ended."""
        self._append([json.dumps({"ended": key})])

    def tidy(self, alive: Sequence[Submitted]) -> None:
        """Keep what is alive; where nothing is, delete logs and journals too."""
        if not alive:
            for place in (self.folder / "journals", self.folder / "submitit"):
                shutil.rmtree(place, ignore_errors=True)
        write_text(self.file, "".join(json.dumps(job._asdict()) + "\n" for job in alive))

    @contextmanager
    def held(self) -> Iterator[None]:
        """For as long as the block lasts no other sweep submits cells of the study.

        Raises OdysseyError if one does, or if the file system does not say whether one does.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OdysseyError(
                    f"{self.folder}: another sweep of this study runs now; `odyssey sweep --status` shows how far it is"
                ) from None
            except OSError as error:  # Lustre without -o flock, NFS without its lock daemon
                raise OdysseyError(
                    f"{self.folder}: files cannot be locked on this file system ({error.strerror}), so that two sweeps "
                    "could do the same cells; have it mounted with locks (flock), or put the results on another one "
                    "with --data"
                ) from None
            yield

    def _append(self, lines: Sequence[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
