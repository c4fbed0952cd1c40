"""Commands of the pipeline: one for each stage, and the table at its end."""

from __future__ import annotations

import click

from odyssey import announce, processes
from odyssey.cli.common import accepting, inputs, main, stage_inputs
from odyssey.cli.completing import domain_option, model_option
from odyssey.cli.terminal import VERDICTS, paint, say
from odyssey.cli.together import processes_option
from odyssey.cli.watched import live_watch
from odyssey.layout import Layout
from odyssey.settings import Settings


@main.command(short_help="Draw the source corpus and every domain's splits.")
@accepting
@click.pass_context
def sample(context: click.Context, accept_licenses: bool) -> None:
    """Draw the source corpus and every domain's splits: rows of text, as Parquet.

    Sizes are in rows, row lengths in words. What is fetched stays in the hub's cache, and a
    killed run goes on where it was.

    Example: odyssey sample
    """
    settings, layout = stage_inputs(context, accept_licenses)
    say(announce.sample(settings))
    from odyssey.stages import sample as stage

    stage.run(settings, layout, root=context.obj["params"].parent)


@main.command(short_help="Fetch published base models, train the others.")
@model_option
@accepting
@processes_option
@click.pass_context
def pretrain(context: click.Context, model: str | None, accept_licenses: bool) -> None:
    """Fetch a published base model, or train one from scratch on the source corpus; loss in nats per token.

    Example: odyssey pretrain --model tiny
    """
    settings, layout = stage_inputs(context, accept_licenses)
    say(announce.pretrain(settings, model))
    from odyssey.stages import pretrain as stage

    stage.run(settings, layout, model=model)


@main.command(short_help="Embed rows of the source corpus and of every domain.")
@processes_option
@click.pass_context
def embed(context: click.Context) -> None:
    """Embed sampled rows of the source corpus and of every domain: unit vectors (n, d).

    Example: odyssey embed
    """
    settings, layout = stage_inputs(context)
    say(announce.embed(settings))
    from odyssey.stages import embed as stage

    stage.run(settings, layout)


@main.command(short_help="Distance of every domain to the source corpus.")
@click.pass_context
def similarity(context: click.Context) -> None:
    """Distance of every domain to the source corpus: MMD and FD (squared distances, no unit).

    Example: odyssey similarity
    """
    settings, layout = stage_inputs(context)
    say(announce.similarity(settings))
    from odyssey.stages import similarity as stage

    stage.run(settings, layout)


@main.command(short_help="Pretrain a model further on each domain.")
@model_option
@domain_option
@processes_option
@click.pass_context
def adapt(context: click.Context, model: str | None, domain: str | None) -> None:
    """Pretrain a model further on each domain, one checkpoint each; loss in nats per token.

    Finished cells are kept: a rerun does only what is missing or has changed.

    Example: odyssey adapt --model tiny --domain pandas
    """
    settings, layout = stage_inputs(context)
    say(announce.adapt(settings, model, domain))
    from odyssey.stages import adapt as stage

    stage.run(settings, layout, model=model, domain=domain, watch=live_watch(settings))
    _log_cell(settings, layout, model, domain)


@main.command(short_help="Test perplexity, zero-shot and adapted.")
@model_option
@domain_option
@processes_option
@click.pass_context
def evaluate(context: click.Context, model: str | None, domain: str | None) -> None:
    """Test perplexity (per token) and bits per byte, zero-shot and adapted.

    Example: odyssey evaluate --model tiny --domain pandas
    """
    settings, layout = stage_inputs(context)
    say(announce.evaluate(settings, model, domain))
    from odyssey.stages import evaluate as stage

    stage.run(settings, layout, model=model, domain=domain)
    _log_cell(settings, layout, model, domain)


@main.command(short_help="Loss before and after, by token.")
@model_option
@domain_option
@processes_option
@click.pass_context
def tokens(context: click.Context, model: str | None, domain: str | None) -> None:
    """NLL (nats) before and after, by the id of the predicted token.

    Example: odyssey tokens --model tiny --domain pandas
    """
    settings, layout = stage_inputs(context)
    say(announce.tokens(settings, model, domain))
    from odyssey.stages import tokens as stage

    stage.run(settings, layout, model=model, domain=domain)
    _log_cell(settings, layout, model, domain)


@main.command(short_help="Loss before and after, by how rows are joined.")
@model_option
@domain_option
@processes_option
@click.pass_context
def joins(context: click.Context, model: str | None, domain: str | None) -> None:
    """NLL (nats) before and after, by how rows are joined in training and in evaluation.

    Only for a study that asks for it (`joins`). Finished cells are kept.

    Example: odyssey joins --model small --domain pandas
    """
    settings, layout = stage_inputs(context)
    say(announce.joins(settings, model, domain))
    from odyssey.stages import joins as stage

    stage.run(settings, layout, model=model, domain=domain)
    _log_cell(settings, layout, model, domain)


def _log_cell(settings: Settings, layout: Layout, model: str | None, domain: str | None) -> None:
    """Log a single cell to the run of `mlflow run`, if it is in one."""
    if model is not None and domain is not None and processes.is_first():
        from odyssey.tracking.publication import log_entry_point

        log_entry_point(settings, layout, model, domain)


@main.command(short_help="Does each claim of the paper hold here?")
@click.option("--all-seeds", is_flag=True, help="Over every seed that was published to MLflow, and log that.")
@click.pass_context
def claims(context: click.Context, all_seeds: bool) -> None:
    """Does each claim of the paper hold here? Statistics, intervals, verdicts, and what they rest on.

    Changes are in nats per token, or in perplexity where it says so. A change within noise counts
    as none; noise is what other test documents, other domains, and with --all-seeds other seeds do.

    Example: odyssey claims
    """
    settings, layout = stage_inputs(context)
    say(announce.claims(settings, all_seeds))
    from odyssey.reporting.claims_text import details

    if all_seeds:
        from odyssey.seeds import combine, domain_text

        found, changes = combine(settings)
        click.echo(domain_text(changes) + "\n")
    else:
        from odyssey.stages import claims as stage

        found = stage.run(settings, layout)
    click.echo(paint(details(found), VERDICTS))


@main.command(short_help="Draw the figures, write the tables and the page.")
@click.pass_context
def report(context: click.Context) -> None:
    """Draw the figures, write the tables and the HTML page.

    Example: odyssey report
    """
    settings, layout = stage_inputs(context)
    say(announce.report(settings))
    from odyssey.stages import report as stage

    stage.run(settings, layout)


@main.command(short_help="Print the headline table and the verdicts.")
@click.pass_context
def headline(context: click.Context) -> None:
    """Print the study's headline table: perplexities, change, MMD and FD by domain.

    Example: odyssey headline
    """
    settings, layout = inputs(context)
    say(announce.headline(settings))
    from odyssey.stages import report as stage

    click.echo(paint(stage.headline(settings, layout), VERDICTS))
