"""The command line: one command per pipeline stage, and tools for anyone's files.

Thin on purpose: options in, one library call, output. What is heavy is imported where
it is used, so that --help is instant.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import click

from odyssey import __version__
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.settings import PARAMS_FILE, Settings, load_settings


class _Group(click.Group):
    """Shows an OdysseyError, or that the disk is full, as one line and exits with 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except OdysseyError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" at {error.filename}" if error.filename else ""
            raise click.ClickException(
                f"the disk is full{where}: free some space and run the command again; what was finished is kept"
            ) from None
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for --help
                raise
            raise click.ClickException(
                "the GPU's memory is full: lower adapt.engine.micro_batch_size, evaluate.batch_tokens or "
                "embed.batch_size in the study, or turn on adapt.engine.activation_checkpointing; "
                "what was finished is kept"
            ) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--params", default=PARAMS_FILE, show_default=True, help="The file that names the study.")
@click.option("--data", default="data", show_default=True, help="Folder of the results, one folder a study in it.")
@click.pass_context
def main(context: click.Context, params: str, data: str) -> None:
    """Why does additional pretraining sometimes fail to improve?

    `dvc repro` runs the stages in order; each is a command here too.
    """
    context.obj = {"params": Path(params), "data": Path(data)}


def _inputs(context: click.Context, study: str | None = None, accept_licenses: bool = False) -> tuple[Settings, Layout]:
    settings = load_settings(context.obj["params"], study)
    if accept_licenses:
        settings = settings.model_copy(update={"accept_licenses": True})
    return settings, Layout(context.obj["data"] / settings.study)


_accepting = click.option(
    "--accept-licenses", is_flag=True, help="You accept the non-commercial licences of what is fetched."
)


@main.command("study")
@click.argument("name", required=False)
@click.option("--accept-licenses", is_flag=True, help="Write that you accept non-commercial licences, too.")
@click.option("--consent", type=bool, default=False, hidden=True, help="The same with a value, for MLproject.")
@click.pass_context
def use_study(context: click.Context, name: str | None, accept_licenses: bool, consent: bool) -> None:
    """Switch to the study NAME: write its name into params.yaml. Without NAME, list the studies.

    Every study has results of its own, under data/NAME.

    Example: odyssey study gpt2-small
    """
    from odyssey.choice import listing, use

    if name or accept_licenses or consent:
        use(context.obj["params"], name or None, accept_licenses or consent)
    click.echo(listing(context.obj["params"]))


@main.command()
@click.argument("name")
@click.option("--by", type=click.Choice(["mmd", "fd", "change"]), required=True, help="What the domains are ranked by.")
@click.option("--model", help="Whose change in perplexity, for --by change.")
@click.option("--count", default=20, show_default=True, help="Domains, half from each end.")
@click.pass_context
def choose(context: click.Context, name: str, by: Any, model: str | None, count: int) -> None:
    """Write the domains at both ends of a measure to studies/selections/NAME.yaml, for `adapt_to` of a study.

    By mmd or fd (squared distances): nearest to and farthest from the source corpus. By change
    (perplexity, adapted - zero-shot): the most improved and the most degraded, the paper's
    "most extreme 20".

    Example: odyssey choose near-and-far --by mmd
    """
    from odyssey.choice import select

    settings, layout = _inputs(context)
    path = select(settings, layout, context.obj["params"].parent, name, by, count, model)
    click.echo(path.read_text(encoding="utf-8"), nl=False)
    click.echo(
        f"To adapt to these: `adapt_to: {path.relative_to(context.obj['params'].parent).as_posix()}` in a study."
    )


@main.command()
@click.option("--study", help="A study [default: the one in use].")
@click.option("--gpu", help="A GPU to plan for, such as A100-80GB, or cpu [default: this machine's].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def plan(context: click.Context, study: str | None, gpu: str | None, as_json: bool) -> None:
    """What a study takes, before anything is fetched: downloads, disk, memory (GB), FLOPs, hours.

    The arithmetic is shown, estimates are marked, and it says whether the study fits here.

    Example: odyssey plan --study gpt2-xl --gpu A100-80GB
    """
    from odyssey.planning.plan import plan as describe

    click.echo(describe(*_inputs(context, study), gpu, as_json, context.obj["params"].parent))


@main.command()
@_accepting
@click.pass_context
def sample(context: click.Context, accept_licenses: bool) -> None:
    """Draw the source corpus and every domain's splits: rows of text, as Parquet.

    Sizes are in rows, row lengths in words. What is fetched stays in the hub's cache, and a
    killed run goes on where it was.

    Example: odyssey sample
    """
    from odyssey.stages import sample as stage

    stage.run(*_inputs(context, accept_licenses=accept_licenses), root=context.obj["params"].parent)


@main.command()
@click.option("--model", help="One model of the study; without it, all of them.")
@_accepting
@click.pass_context
def pretrain(context: click.Context, model: str | None, accept_licenses: bool) -> None:
    """Fetch a published base model, or train one from scratch on the source corpus; loss in nats per token.

    Example: odyssey pretrain --model tiny
    """
    from odyssey.stages import pretrain as stage

    stage.run(*_inputs(context, accept_licenses=accept_licenses), model=model)


@main.command()
@click.pass_context
def embed(context: click.Context) -> None:
    """Embed sampled rows of the source corpus and of every domain: unit vectors (n, d).

    Example: odyssey embed
    """
    from odyssey.stages import embed as stage

    stage.run(*_inputs(context))


@main.command()
@click.pass_context
def similarity(context: click.Context) -> None:
    """Distance of every domain to the source corpus: MMD and FD (squared distances, no unit).

    Example: odyssey similarity
    """
    from odyssey.stages import similarity as stage

    stage.run(*_inputs(context))


def _cell_options(command: Any) -> Any:
    command = click.option("--domain", help="One domain of the study; without it, all of them.")(command)
    return click.option("--model", help="One model of the study; without it, all of them.")(command)


@main.command()
@_cell_options
@click.pass_context
def adapt(context: click.Context, model: str | None, domain: str | None) -> None:
    """Pretrain a model further on each domain, one checkpoint each; loss in nats per token.

    Finished cells are kept: a rerun does only what is missing or has changed.

    Example: odyssey adapt --model tiny --domain pandas
    """
    from odyssey.stages import adapt as stage

    _run_cells(stage, context, model, domain)


@main.command()
@_cell_options
@click.pass_context
def evaluate(context: click.Context, model: str | None, domain: str | None) -> None:
    """Test perplexity (per token) and bits per byte, zero-shot and adapted.

    Example: odyssey evaluate --model tiny --domain pandas
    """
    from odyssey.stages import evaluate as stage

    _run_cells(stage, context, model, domain)


@main.command()
@_cell_options
@click.pass_context
def tokens(context: click.Context, model: str | None, domain: str | None) -> None:
    """NLL (nats) before and after, by the id of the predicted token.

    Example: odyssey tokens --model tiny --domain pandas
    """
    from odyssey.stages import tokens as stage

    _run_cells(stage, context, model, domain)


@main.command()
@_cell_options
@click.pass_context
def joins(context: click.Context, model: str | None, domain: str | None) -> None:
    """NLL (nats) before and after, by how rows are joined in training and in evaluation.

    Only for a study that asks for it (`joins`). Finished cells are kept.

    Example: odyssey joins --model small --domain pandas
    """
    from odyssey.stages import joins as stage

    _run_cells(stage, context, model, domain)


def _run_cells(stage: Any, context: click.Context, model: str | None, domain: str | None) -> None:
    """Run a stage over one cell or all, and log a single one to the run of `mlflow run`, if it is in one."""
    settings, layout = _inputs(context)
    stage.run(settings, layout, model=model, domain=domain)
    if model is not None and domain is not None:
        from odyssey import tracking

        tracking.log_entry_point(settings, layout, model, domain)


@main.command()
@click.option("--all-seeds", is_flag=True, help="Over every seed that was published to MLflow, and log that.")
@click.pass_context
def claims(context: click.Context, all_seeds: bool) -> None:
    """Does each claim of the paper hold here? Statistics, intervals, verdicts, and what they rest on.

    Changes are in nats per token, or in perplexity where it says so. A change within noise counts
    as none; noise is what other test documents, other domains, and with --all-seeds other seeds do.

    Example: odyssey claims
    """
    from odyssey.reporting.claims_text import details

    settings, layout = _inputs(context)
    if all_seeds:
        from odyssey.seeds import combine, domain_text

        found, changes = combine(settings)
        click.echo(domain_text(changes) + "\n")
    else:
        from odyssey.stages import claims as stage

        found = stage.run(settings, layout)
    click.echo(details(found))


@main.command()
@click.pass_context
def report(context: click.Context) -> None:
    """Draw the figures, write the tables and the HTML page.

    Example: odyssey report
    """
    from odyssey.stages import report as stage

    stage.run(*_inputs(context))


@main.command()
@click.pass_context
def track(context: click.Context) -> None:
    """Publish the study's results to MLflow; a second time changes nothing.

    Goes to MLFLOW_TRACKING_URI, or to mlflow.db in the project's folder.

    Example: odyssey track
    """
    from odyssey.stages import track as stage

    stage.run(*_inputs(context))


@main.command()
@click.option("--port", default=5000, show_default=True, help="Port on 127.0.0.1.")
@click.pass_context
def ui(context: click.Context, port: int) -> None:
    """Open the MLflow UI on 127.0.0.1, at the study's runs.

    Example: odyssey ui --port 5001
    """
    from odyssey import tracking

    settings, _ = _inputs(context)
    tracking.serve(settings, port)


@main.command()
@click.pass_context
def headline(context: click.Context) -> None:
    """Print the study's headline table: perplexities, change, MMD and FD by domain.

    Example: odyssey headline
    """
    from odyssey.stages import report as stage

    click.echo(stage.headline(*_inputs(context)))


@main.command()
@click.option("--model", required=True, help="Folder or hub id of a causal language model.")
@click.option("--text", required=True, type=click.Path(path_type=Path), help="UTF-8 text, one row per line.")
@click.option("--context", "window", type=click.IntRange(min=2), help="Window, in tokens [default: the model's].")
@click.option("--separator", default="\\n", show_default=True, help="Joins the rows; escapes are understood.")
@_accepting
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def perplexity(
    model: str, text: Path, window: int | None, separator: str, accept_licenses: bool, as_json: bool
) -> None:
    """Perplexity (per token), bits per byte and summed NLL (nats) of a text.

    Blank lines are dropped, rows are joined with the separator and tokenised once without
    special tokens. Windows overlap by one token, so every token but the first is scored once.

    Example: odyssey perplexity --model data/mini/adapt/tiny/pandas --text notes.txt --json
    """
    from odyssey.tools import score_file

    joint = separator.encode().decode("unicode_escape")
    _show(score_file(model, text, window, joint, accept_licenses), as_json)


@main.command()
@click.option("--source", required=True, type=click.Path(path_type=Path), help="UTF-8 text, one row per line.")
@click.option("--target", required=True, type=click.Path(path_type=Path), help="UTF-8 text, one row per line.")
@click.option("--encoder", help="Folder or hub id of a sentence encoder [default: the pinned all-MiniLM-L6-v2].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def distance(source: Path, target: Path, encoder: str | None, as_json: bool) -> None:
    """MMD (linear kernel) and Frechet distance between two texts' sentence embeddings.

    Both are squared distances between unit vectors, and both shrink as n grows:
    compare only what has the same n.

    Example: odyssey distance --source web.txt --target mine.txt --json
    """
    from odyssey.tools import compare_files

    _show(compare_files(source, target, encoder), as_json)


@main.command()
@click.option("--model", required=True, help="Folder or hub id of a causal language model.")
@click.option("--source", required=True, help="What it was pretrained on: files, or openwebtext, dolma, redpajama.")
@click.option("--domain", required=True, type=click.Path(path_type=Path), help="The texts, a file or a folder.")
@click.option("--text", help="Column or key that holds the domain's text [default: text].")
@click.option(
    "--learning-rate", type=click.FloatRange(0, 1, min_open=True), help="[default: the paper's for its models]"
)
@click.option("--encoder", help="Folder or hub id of a sentence encoder [default: the pinned all-MiniLM-L6-v2].")
@click.option("--no-probe", is_flag=True, help="Measure similarity and zero-shot perplexity only.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every draw.")
@_accepting
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
@click.pass_context
def advise(context: click.Context, /, no_probe: bool, accept_licenses: bool, as_json: bool, **asked: Any) -> None:
    """Should this model be adapted to these texts? Adapt, do not adapt, or unclear, and why.

    Measures similarity to the source corpus, zero-shot perplexity and what a short probe adaptation
    does to documents that are held out; changes are in nats per token, below 0 is better. Texts
    are .txt, .jsonl, .csv or .parquet. Logged to MLflow, in the experiment "advice".

    Example: odyssey advise --model openai-community/gpt2 --source openwebtext --domain texts/ours
    """
    from odyssey.advisor import advice, publish

    request = advice.Request(
        **asked, probe=not no_probe, accept_licenses=accept_licenses, root=context.obj["params"].parent
    )
    made = advice.advise(request)
    click.echo(publish.shown(made, as_json))
    click.echo(f"logged to MLflow: {publish.log(made)}", err=True)


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json.dump(result, sys.stdout)
        click.echo()
        return
    width = max(map(len, result))
    for key, value in result.items():
        click.echo(f"{key:<{width}}  {value:.6g}" if isinstance(value, float) else f"{key:<{width}}  {value}")
