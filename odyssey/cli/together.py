"""Stages that several processes do together, a GPU each: started here, or by `torchrun` or `deepspeed`."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from odyssey import processes
from odyssey.cli import interrupts
from odyssey.errors import OdysseyError
from odyssey.signals import ENDING

GPUS = ("/dev/nvidia[0-9]*", "/dev/kfd")
"""What is there if there may be a GPU: asking torch takes seconds."""
GRACE = 600
"""Seconds that processes have for their checkpoint before they are killed; a scheduler may give them less."""
AT_ONCE = 10
"""The same, once they are asked a second time."""
LOST = os.EX_OSERR
"""Exit status of a process that cannot go on as another one has ended."""
PDEATHSIG = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""
TAIL = 20
"""Lines that are shown of what a process that failed has said."""


def processes_option(command: Any) -> Any:
    """--processes of a stage: it is started again as so many, or meets those that a launcher started with it."""
    return click.option(
        "--processes",
        type=click.IntRange(min=1),
        help="Processes that share the work, with the same numbers up to rounding [default: one a GPU].",
        expose_value=False,
        is_eager=True,
        callback=_join,
    )(command)


def _join(context: click.Context, param: click.Parameter, asked: int | None) -> None:
    if context.resilient_parsing:
        return
    if processes.started_together() > 1:
        if asked not in (None, processes.started_together()):
            raise click.UsageError(
                f"--processes {asked}: a launcher has started {processes.started_together()}; leave the option out"
            )
        if processes.MEETING in os.environ:
            _end_with_parent()
        processes.join()
        context.find_root().obj["together"] = True
        return
    there = _gpus()
    if asked is not None and 0 < there < asked:
        raise click.UsageError(f"--processes {asked}: each has a GPU of its own, and there are {there}")
    count = there if asked is None else asked
    if count > 1:
        context.exit(launch(count, sys.argv[1:]))


def _end_with_parent() -> None:
    """Have this process be asked to end when the one that started it is killed, where the system can do that."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGTERM)


def refuse_others(context: click.Context) -> None:
    """Raises OdysseyError where a launcher has started several processes of a command that one does."""
    if processes.started_together() > 1 and not context.find_root().obj.get("together"):
        raise OdysseyError(
            f"{context.info_name}: one process does it; start it as `odyssey {context.info_name}`, without a launcher"
        )


def _gpus() -> int:
    """GPUs that this process may use."""
    if not any(any(Path("/").glob(pattern.lstrip("/"))) for pattern in GPUS):
        return 0
    import torch

    return torch.cuda.device_count()


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run an odyssey command as so many processes of this machine, and return its exit status.

    The first one's output is shown; another one's, if that has failed and the first has not said why.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std, start_processes

    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    logging.disable()  # torch tells at length of what is told here in a line
    with tempfile.TemporaryDirectory() as folder:
        shared = {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": threads, processes.MEETING: f"{folder}/meeting"}
        ignored = [number for number in ENDING if signal.getsignal(number) is signal.SIG_IGN]
        workers = start_processes(
            name="odyssey",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(count), ("-m", "odyssey", *arguments)),
            envs={k: {**shared, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(count)},
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=dict.fromkeys(range(1, count), Std.ALL)),
        )
        for number in ignored:  # under nohup, or in a shell's background: torch hears them all the same
            signal.signal(number, signal.SIG_IGN)
        try:
            ended = workers.wait()
        except SignalException as error:
            _end(workers, error.sigval)
            return interrupts.status_of(error.sigval, goes_on=True)
        return _told(ended.failures, count) if ended and ended.failures else 0


def _end(workers: Any, number: int) -> None:
    """Ask processes to end as by a signal, and wait for their checkpoints; at a second signal they end at once."""
    from torch.distributed.elastic.multiprocessing import SignalException

    try:
        workers.close(number, GRACE)
    except SignalException as error:
        workers.close(error.sigval, AT_ONCE)


def _told(failures: dict[int, Any], count: int) -> int:
    """The exit status of processes that have failed; says which it was, unless the first has told itself."""
    statuses = {rank: int(failure.exitcode) for rank, failure in sorted(failures.items())}
    if interrupts.RUN_AGAIN in statuses.values():  # asked to end, which the first has told
        return interrupts.RUN_AGAIN
    # Not one that has lost another, or was ended for it.
    ended_for_it = (LOST, -signal.SIGTERM)
    # One that does not hear of it is killed, later than the first failed.
    rank = min(statuses, key=lambda k: (statuses[k] in ended_for_it, int(failures[k].timestamp), k))
    status = statuses[rank]
    if status < 0:
        click.echo(
            f"process {rank + 1} of {count} was ended by {signal.Signals(-status).name}; what was finished is kept, "
            "run the same command again to go on",
            err=True,
        )
    elif rank > 0:
        said = Path(failures[rank].error_file).with_name("stderr.log")
        lines = said.read_text(encoding="utf-8", errors="replace").splitlines() if said.is_file() else []
        click.echo("\n".join((f"process {rank + 1} of {count}:", *lines[-TAIL:])), err=True)
    return 128 - status if status < 0 else status
