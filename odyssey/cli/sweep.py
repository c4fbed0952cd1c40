"""Commands for many cells: a sweep of what is missing, and what one of its jobs does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from odyssey import announce, processes
from odyssey.cli.common import inputs, main, stage_inputs
from odyssey.cli.completing import complete_domains, complete_gpus, complete_models
from odyssey.cli.terminal import harmless, say
from odyssey.cli.together import processes_option
from odyssey.cli.watched import live_watch
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.settings import Settings

if TYPE_CHECKING:
    from odyssey.science.packing import Job
    from odyssey.sweeping.executors import Executor
    from odyssey.sweeping.record import Record
    from odyssey.sweeping.sweep import Outcome

PLACES = {"local": "on this machine", "slurm": "by SLURM"}
NEXT = "next: dvc repro"
DAY = 24
"""Hours SLURM gives a job at most unless told otherwise: many partitions have no more, it is requeued then."""


@main.command(short_help="What is missing of a study, in jobs here or on SLURM.")
@click.option("--on", "place", type=click.Choice(list(PLACES)), default="local", show_default=True, help="Where.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Jobs at a time [default: one a GPU; SLURM: all; there of an array]."
)
@click.option(
    "--hours",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    show_default=True,
    help="Planned of a job, at most.",
)
@click.option(
    "--gpu", help="GPU that the hours are planned for [default: this machine's].", shell_complete=complete_gpus
)
@click.option(
    "--limit",
    type=click.FloatRange(0, min_open=True),
    help=f"Hours SLURM gives a job [default: twice what is planned, {DAY} at most].",
)
@click.option("--slurm", "options", multiple=True, metavar="KEY=VALUE", help="An option of sbatch; several.")
@click.option("--no-wait", is_flag=True, help="Submit to SLURM and leave.")
@click.option("--dry-run", is_flag=True, help="Show the jobs and submit none.")
@click.option("--status", is_flag=True, help="Show how far each cell is and submit none.")
@click.pass_context
def sweep(
    context: click.Context,
    place: str,
    workers: int | None,
    hours: float,
    gpu: str | None,
    limit: float | None,
    options: tuple[str, ...],
    no_wait: bool,
    dry_run: bool,
    status: bool,
) -> None:
    """Do what is missing of the study's cells: adapt, evaluate, tokens and joins, as jobs here or on SLURM.

    A job is one model on several domains. Finished cells are kept, interrupted ones go on from their
    checkpoints, and one that fails does not stop the others. Run it again to do what is left, or to see
    how far jobs are that run still. `dvc repro` afterwards finds all of it done.

    Example: odyssey sweep --on slurm --gpu A100-80GB --slurm partition=gpu --slurm gpus-per-node=1
    """
    if place != "slurm" and (no_wait or options or limit):
        raise click.UsageError("--no-wait, --limit and --slurm are for --on slurm")
    settings, layout = inputs(context)
    say(announce.sweep(settings, PLACES[place]))
    from odyssey.sweeping.jobs import describe
    from odyssey.sweeping.record import Record

    record = Record(layout)
    if status:
        _show(settings, layout, record)
    elif dry_run:
        jobs = _jobs(settings, layout, record, place, hours, gpu, workers, options)
        click.echo("\n".join(describe(jobs)) or f"all cells are done or in work; {NEXT}")
    else:
        with record.held():
            jobs = _jobs(settings, layout, record, place, hours, gpu, workers, options, tidy=True)
            minutes = math.ceil(60 * (limit or min(DAY, max([1, *(2 * job.seconds / 3600 for job in jobs)]))))
            executor = _executors(settings, record, workers, minutes, options)[place]
            _sweep(context, executor, record, jobs, no_wait)


def _sweep(context: click.Context, executor: Executor, record: Record, jobs: list[Job], no_wait: bool) -> None:
    from odyssey.sweeping.jobs import to_submit
    from odyssey.sweeping.progress import counted
    from odyssey.sweeping.sweep import Sweep

    running = record.jobs()
    work = Sweep(executor, record, _tell)
    work.take_up(running)
    known = context.obj
    planned = to_submit(jobs, record, known["params"], known["data"])
    count = sum(len(job.domains) for job in jobs)
    already = f", {counted(len(running), 'job')} run{'s' if len(running) == 1 else ''} already" if running else ""
    _tell(f"{counted(count, 'cell')} to do in {counted(len(jobs), 'job')}{already}")
    if no_wait:
        if left := list(work.hand_over(planned)):
            raise OdysseyError(f"{counted(len(left), 'job')} not submitted; run the same command again later")
        _tell("submitted; `odyssey sweep --status` shows how far they are")
        return
    known["goes_on"] = True
    known["kept"] = lambda: (
        "its jobs go on; the same command shows how far they are"
        if executor.name == "slurm"
        else "its jobs have ended and kept what was done; run the same command again to go on"
    )
    try:
        outcome = work.run(planned)
    except KeyboardInterrupt:
        work.stop()
        raise
    _sum_up(outcome)
    context.exit(1 if outcome.failures else 0)


def _sum_up(outcome: Outcome) -> None:
    from odyssey.sweeping.progress import counted

    for failure in outcome.failures:
        _tell(f"\n{failure.model} on {failure.domain} failed: {failure.why}")
        for line in failure.tail:
            _tell(f"    {line}")
        _tell(f"    (of {failure.log})")
    failed = f", {len(outcome.failures)} failed: mend that and run the same command again" if outcome.failures else ""
    _tell(f"{counted(outcome.done, 'cell')} done{failed or f'; {NEXT}'}")


def _jobs(
    settings: Settings,
    layout: Layout,
    record: Record,
    place: str,
    hours: float,
    gpu: str | None,
    workers: int | None,
    options: tuple[str, ...],
    *,
    tidy: bool = False,
) -> list[Job]:
    """Jobs of the cells that are missing and in no job now.

    With `tidy`, as before they are submitted, what failed in jobs that nobody waited for is told, and these are
    forgotten. Raises OdysseyError if `place` is not there, or if nobody says which device it has.
    """
    from odyssey.planning.cells import planned_seconds
    from odyssey.planning.plan import chosen
    from odyssey.sweeping import slurm
    from odyssey.sweeping.finished import missing
    from odyssey.sweeping.jobs import earlier, only_on, packed
    from odyssey.sweeping.local import gpus

    executors = _executors(settings, record, workers, options=options)
    if place == "slurm" and tidy:
        slurm.require()
    alive, ended = earlier(record, executors)
    only_on(alive, place)
    if tidy:
        for progress in ended:
            for domain, why in progress.whys.items():
                _tell(progress.line(domain, f"failed in an earlier sweep: {why}"))
        record.tidy(alive)
    cells = list(missing(settings, layout, {(job.model, domain) for job in alive for domain in job.domains}))
    if not cells:
        return []
    if place == "slurm" and gpu is None and not gpus():
        raise OdysseyError("which device the jobs get is not known here: name it, --gpu A100-80GB say, or --gpu cpu")
    seconds = planned_seconds(settings, *chosen(layout, gpu))
    return packed(cells, seconds, hours, executors[place].workers)


def _show(settings: Settings, layout: Layout, record: Record) -> None:
    from odyssey.sweeping.finished import missing
    from odyssey.sweeping.jobs import earlier, overview

    alive, ended = earlier(record, _executors(settings, record))
    busy = {(job.model, domain) for job in alive for domain in job.domains}
    cells = [(model, domain) for model in settings.models for domain in settings.adapt_to]
    for line in overview(cells, missing(settings, layout, busy), alive, ended, record):
        _tell(line)


def _executors(
    settings: Settings, record: Record, workers: int | None = None, minutes: int = 60, options: tuple[str, ...] = ()
) -> dict[str, Executor]:
    from odyssey.sweeping.local import Local
    from odyssey.sweeping.slurm import Slurm

    slurm = Slurm(record, settings.study, minutes=minutes, at_once=workers, options=options)
    return {"local": Local(record, workers), "slurm": slurm}


@main.command(short_help="All stages of one model's cells, in one process.")
@click.option("--model", required=True, help="A model of the study.", shell_complete=complete_models)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    help="A domain of the study; several [default: all].",
    shell_complete=complete_domains,
)
@click.option(
    "--journal", type=click.Path(path_type=Path), help="File to add a line of JSON to as a cell begins or ends."
)
@processes_option
@click.pass_context
def cells(context: click.Context, model: str, domains: tuple[str, ...], journal: Path | None) -> None:
    """Adapt, evaluate, tokens and joins of one model on some domains, cell by cell: a job of `odyssey sweep`.

    A cell that fails does not stop the others, but where several processes do them; exit status 1 if one did.
    Finished cells are kept.

    Example: odyssey cells --model tiny --domain pandas --domain torch
    """
    settings, layout = stage_inputs(context)
    chosen = list(dict.fromkeys(domains)) or list(settings.adapt_to)
    say(announce.cells(settings, model, chosen))
    from odyssey.sweeping import work
    from odyssey.sweeping.journal import Journal

    told = Journal(journal) if journal is not None and processes.is_first() else None
    watch = live_watch(settings)
    failed = work.run(settings, layout, model=model, domains=chosen, watch=watch, journal=told, tell=_tell)
    context.exit(1 if failed else 0)


def _tell(line: str) -> None:
    click.echo(harmless(line))
