"""Cells done one after the other in one process: what a job of a sweep runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from odyssey import models, processes
from odyssey.allocation import is_lost_device, is_out_of_memory
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.panics import is_panic, panic_text
from odyssey.settings import Settings
from odyssey.stages import adapt
from odyssey.sweeping.finished import stages
from odyssey.sweeping.journal import Event, Journal, Stopwatch
from odyssey.sweeping.progress import begins, cell, words
from odyssey.watching import Watch, nobody


def run(
    settings: Settings,
    layout: Layout,
    *,
    model: str,
    domains: Sequence[str],
    watch: Watch = nobody,
    journal: Journal | None = None,
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Do all stages of these cells, cell by cell; returns the domains that failed.

    A cell that fails is told of and does not stop the others. What is finished is kept. `tell` takes a line when a
    cell begins and one when it ends. Raises what ends the process: an interruption, the loss of its GPU, and
    any failure of one of several processes.
    """
    settings.model(model)
    for domain in domains:
        settings.domain(domain)
    failed = []
    for domain in domains:
        tell(begins(model, domain))
        if journal is not None:
            journal.begin(domain)
        seconds, why = Stopwatch(), ""
        lost: BaseException | None = None
        try:
            _do(settings, layout, model, domain, watch)
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            why = reason(error)
            # Others of several processes wait for this one in the middle of the cell: all end, and begin anew.
            lost = error if is_lost_device(error) or processes.count() > 1 else None
            failed.append(domain)
        event = Event(domain, "failed" if why else "done", seconds=round(seconds(), 1), why=why)
        tell(f"{cell(model, domain)}: {words(event)}")
        if journal is not None:
            journal.tell(event)
        if lost is not None:
            raise lost
        models.free_memory()
    return failed


def _do(settings: Settings, layout: Layout, model: str, domain: str, watch: Watch) -> None:
    for stage in stages(settings):
        watched = {"watch": watch} if stage is adapt else {}
        stage.run(settings, layout, model=model, domain=domain, **watched)


def reason(error: BaseException) -> str:
    """What went wrong, in a line; of what was not to be expected, where it did is printed as well."""
    told = " ".join(str(error).split())
    if isinstance(error, OdysseyError):
        return told
    if is_out_of_memory(error):
        return f"the memory is full: {told}"
    if is_panic(error):
        return panic_text(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {told}"
