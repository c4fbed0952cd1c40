"""Commands about studies: which one is in use, which domains it adapts to, what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from odyssey import announce
from odyssey.cli.common import inputs, main
from odyssey.cli.completing import complete_gpus, complete_models, complete_studies
from odyssey.cli.terminal import paint, say
from odyssey.progress import doing


@main.command("study", short_help="Switch to a study, or list them.")
@click.argument("name", required=False, shell_complete=complete_studies)
@click.option("--accept-licenses", is_flag=True, help="Write that you accept non-commercial licences, too.")
@click.option("--consent", type=bool, default=False, hidden=True, help="The same with a value, for MLproject.")
@click.pass_context
def use_study(context: click.Context, name: str | None, accept_licenses: bool, consent: bool) -> None:
    """Switch to the study NAME: write its name into params.yaml. Without NAME, list the studies.

    Every study has results of its own, under data/NAME.

    Example: odyssey study gpt2-small
    """
    say(f"use '{name}' from now on" if name else "those that there are, the one in use marked *")
    from odyssey.choice import listing, use

    if name or accept_licenses or consent:
        use(context.obj["params"], name or None, accept_licenses or consent)
    click.echo(listing(context.obj["params"]))


@main.command(short_help="Write a list of the most extreme domains.")
@click.argument("name")
@click.option("--by", type=click.Choice(["mmd", "fd", "change"]), required=True, help="What the domains are ranked by.")
@click.option("--model", help="Whose change in perplexity, for --by change.", shell_complete=complete_models)
@click.option("--count", default=20, show_default=True, help="Domains, half from each end.")
@click.pass_context
def choose(context: click.Context, name: str, by: Any, model: str | None, count: int) -> None:
    """Write the domains at both ends of a measure to studies/selections/NAME.yaml, for `adapt_to` of a study.

    By mmd or fd (squared distances): nearest to and farthest from the source corpus. By change
    (perplexity, adapted - zero-shot): the most improved and the most degraded, the paper's
    "most extreme 20".

    Example: odyssey choose near-and-far --by mmd
    """
    settings, layout = inputs(context)
    say(f"{count} of {len(settings.domains)} domains of study '{settings.study}', by {by}")
    from odyssey.choice import select

    path = select(settings, layout, context.obj["params"].parent, name, by, count, model)
    click.echo(path.read_text(encoding="utf-8"), nl=False)
    click.echo(
        f"To adapt to these: `adapt_to: {path.relative_to(context.obj['params'].parent).as_posix()}` in a study."
    )


@main.command(short_help="What a study takes, before anything is fetched.")
@click.option(
    "--study",
    "names",
    multiple=True,
    help="A study [default: the one in use]; several.",
    shell_complete=complete_studies,
)
@click.option(
    "--gpu",
    help="A GPU to plan for, such as A100-80GB, or cpu [default: this machine's].",
    shell_complete=complete_gpus,
)
@click.option(
    "--gpus", multiple=True, type=click.IntRange(1, 100_000), help="Wall-clock on so many GPUs, too; several."
)
@click.option("--failures", type=click.FloatRange(0, 10), help="Of a GPU an hour, with --gpus [default: 0.0001].")
@click.option("--engine", type=click.Path(path_type=Path), help="A file of studies/engines, in place of the study's.")
@click.option("--all-domains", is_flag=True, help="As if it adapted to every domain that it measures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def plan(
    context: click.Context,
    names: tuple[str, ...],
    gpu: str | None,
    gpus: tuple[int, ...],
    failures: float | None,
    engine: Path | None,
    all_domains: bool,
    as_json: bool,
) -> None:
    """What a study takes, before anything is fetched: downloads, disk, memory (GB), FLOPs, hours.

    The arithmetic is shown, estimates are marked, and it says whether the study fits here. With
    --gpus a schedule is simulated, a cell on each GPU, with failures and stragglers; several studies
    are put into one.

    Example: odyssey plan --study gpt2-xl --gpu A100-80GB --gpus 8 --gpus 64
    """
    loaded = [inputs(context, name) for name in dict.fromkeys(names) or (None,)]
    from odyssey.planning.schedule import FAILURES
    from odyssey.planning.studies import changed, describe

    studies = [changed(settings, engine=engine, all_domains=all_domains) for settings, _ in loaded]
    say(announce.plan(studies, gpu))
    rate = FAILURES if failures is None else failures
    with doing("looking at the hub and at this machine"):
        root = context.obj["params"].parent
        text = describe(studies, loaded[0][1], gpu, gpus=gpus, failures=rate, as_json=as_json, root=root)
    click.echo(text)


@main.command(short_help="Compare the results with those recorded.")
@click.option("--record", is_flag=True, help="Record the results as those to be compared with.")
@click.pass_context
def verify(context: click.Context, record: bool) -> None:
    """Compare a finished study's numbers with those that were recorded of it, within stated tolerances.

    Prints by quantity how many are the same bits, the greatest difference and its tolerance, then
    each number beyond. Exit status 1 if there is one. The reference is studies/reference/STUDY.json.

    Example: odyssey verify
    """
    settings, layout = inputs(context)
    root = context.obj["params"].parent
    from odyssey import verification

    file = verification.reference_file(settings, root)
    say(f"{'record' if record else 'compare'} study '{settings.study}', seed {settings.seed}, {file}")
    if record:
        click.echo(f"recorded in {verification.record(settings, layout, root)}")
        return
    outcome = verification.verify(settings, layout, root)
    click.echo(paint(outcome.text, {"BEYOND": "red", "same": "green", "within": "green"}))
    context.exit(0 if outcome.holds else 1)
