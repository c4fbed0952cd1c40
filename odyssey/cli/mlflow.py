"""Commands that write to MLflow and read from it."""

from __future__ import annotations

from pathlib import Path

import click

from odyssey import announce
from odyssey.cli.common import inputs, main, stage_inputs
from odyssey.cli.completing import complete_domains, complete_models
from odyssey.cli.terminal import harmless, say
from odyssey.tracking.connection import shown, uri


@main.command(short_help="Publish the study's results to MLflow.")
@click.pass_context
def track(context: click.Context) -> None:
    """Publish the study's results to MLflow; a second time changes nothing.

    Goes to MLFLOW_TRACKING_URI, or to mlflow.db in the project's folder.

    Example: odyssey track
    """
    settings, layout = stage_inputs(context)
    say(announce.track(settings, shown(uri())))
    from odyssey.stages import track as stage

    stage.run(settings, layout)


@main.command(short_help="Open the MLflow UI at the study's runs.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
@click.pass_context
def ui(context: click.Context, port: int) -> None:
    """Open the MLflow UI on 127.0.0.1, at the study's runs.

    Example: odyssey ui --port 5001
    """
    settings, _ = inputs(context)
    say(f"MLflow on port {port}, at the runs of study '{settings.study}' in {shown(uri())}")
    context.obj["kept"] = lambda: f"the server has ended, the runs stay in {shown(uri())}"
    from odyssey.tracking.serving import serve

    serve(settings, port)


@main.command(short_help="Register a model of the study in MLflow.")
@click.option("--model", required=True, help="A model of the study.", shell_complete=complete_models)
@click.option(
    "--domain", help="The domain it was adapted to; without it, the base model.", shell_complete=complete_domains
)
@click.option("--name", help="Name in the registry [default: one made of study, model and domain].")
@click.pass_context
def register(context: click.Context, model: str, domain: str | None, name: str | None) -> None:
    """Register a model of the study in MLflow's model registry, with signature, tokenizer and model card.

    Example: odyssey register --model small --domain pandas
    """
    settings, layout = inputs(context)
    say(announce.register(settings, model, domain, shown(uri())))
    from odyssey.tracking.registry import register as enter

    click.echo(enter(settings, layout, model, domain, name))


@main.command(short_help="Bring back the code and data of a run.")
@click.argument("run_id")
@click.option("--into", type=click.Path(path_type=Path), help="Run the commands, in this new folder.")
def restore(run_id: str, into: Path | None) -> None:
    """Print the git and dvc commands that bring back the code and data of the MLflow run RUN_ID.

    Example: odyssey restore 6cf5b25e1d0d4c34a1c9 --into /tmp/then
    """
    what = "the commands that bring back" if into is None else f"into {into},"
    say(f"{what} code and data of run {run_id} of {shown(uri())}")
    from odyssey.tracking.restore import commands, text
    from odyssey.tracking.restore import restore as bring_back

    if into is None:
        click.echo(text(commands(run_id)))
    else:
        # What git and DVC say holds names and messages of whoever wrote them.
        bring_back(run_id, into, lambda line: click.echo(harmless(line)))
