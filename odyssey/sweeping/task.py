"""A job as submitit keeps and runs it: a child process that does cells, ended and begun again as SLURM wants it.

On a node this module is all of the project that the job's own process imports: the child has the rest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING

from odyssey.sweeping.journal import Event, Journal, under_way, unfinished

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

EXECUTOR = "SUBMITIT_EXECUTOR"
"""Where submitit says in which of the next two a job runs."""
LOCAL, SLURM = "local", "slurm"
STOPPED = os.EX_TEMPFAIL
"""Exit status of a job that was asked to end: its cells go on from their checkpoints."""

NOTICE = 3600
"""Seconds for which a job of SLURM's waits to be killed. One that ended by itself within a pre-emption's grace
time would count as failed, and not be requeued; no site's grace is as long."""


@dataclass
class Task:
    """A job: `command` and `--domain` for each domain that is not finished, in `folder`.

    Nothing but text in it, as submitit writes it to disk and reads it on another machine.
    """

    command: Sequence[str]
    domains: Sequence[str]
    journal: str
    folder: str
    environment: Mapping[str, str]
    """Beside what the job finds there."""
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False, compare=False)
    _asked: bool = field(default=False, init=False, repr=False, compare=False)
    """To end."""
    _told: bool = field(default=False, init=False, repr=False, compare=False)
    """Whether the child has been asked, too."""

    def __call__(self) -> int:
        """Do the cells; returns how many have failed.

        A child that dies is told of as the failure of the cell that it was at, and a new one does the rest.
        After SIGTERM the process ends with STOPPED, which submitit does not take for a result, or is killed by SLURM.
        """
        signal.signal(signal.SIGTERM, self._end)
        journal = Journal(self.journal)
        while waiting := unfinished(self.domains, journal.all()):
            status = self._run(waiting)
            if self._asked:
                if os.environ.get(EXECUTOR) == SLURM:
                    time.sleep(NOTICE)
                raise SystemExit(STOPPED)
            events = journal.all()
            left = unfinished(self.domains, events)
            at = under_way(events)
            if at is not None:
                journal.tell(Event(at, "failed", why=ending(status)))
            elif left == waiting:  # it did not come as far as the first one
                for domain in left:
                    journal.tell(Event(domain, "failed", why=ending(status)))
        return sum(event.state == "failed" for event in journal.all())

    def checkpoint(self) -> DelayedSubmission:
        """End the child, which writes a checkpoint, and return what SLURM is to run later: the same again."""
        from submitit.helpers import DelayedSubmission

        self._end()
        if self._child is not None:
            # Called by a signal's handler, as which Popen.wait would wait for itself.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(replace(self))

    def _run(self, domains: Sequence[str]) -> int:
        """Have a child do these; returns its exit status."""
        if self._asked:
            return 0
        self._child = None
        self._child = subprocess.Popen(
            [*self.command, *(word for domain in domains for word in ("--domain", domain))],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            # Ctrl-C in a terminal is for the sweep, which ends its jobs; SLURM is to see one group of processes.
            start_new_session=os.environ.get(EXECUTOR) == LOCAL,
            preexec_fn=_hear_only_this_one,
        )
        if self._asked:  # while there was no child yet
            self._end()
        return self._child.wait()

    def _end(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask the child to end, once: a second signal would end the writing of its checkpoint."""
        self._asked = True
        if self._child is not None and not self._told:
            self._told = True
            self._child.send_signal(signal.SIGINT)


def _hear_only_this_one() -> None:
    """In the child: what SLURM sends to every process of a job is for its parent alone, which sends SIGINT."""
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTERM, signal.SIGUSR2))


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status == -signal.SIGKILL:
        return "its process was killed (SIGKILL), perhaps for want of memory"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended with exit status {status}"
