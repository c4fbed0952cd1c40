"""Commands for anyone's models and texts; they need no pipeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from odyssey import announce
from odyssey.cli.common import accepting, main
from odyssey.cli.terminal import ADVICE, harmless, paint, say
from odyssey.errors import OdysseyError
from odyssey.progress import doing
from odyssey.sections import Precision


@main.command(short_help="Perplexity of a text.")
@click.option("--model", required=True, help="Folder or hub id of a causal language model.")
@click.option("--text", required=True, type=click.Path(path_type=Path), help="UTF-8 text, one row per line.")
@click.option("--context", "window", type=click.IntRange(min=2), help="Window, in tokens [default: the model's].")
@click.option("--separator", default="\\n", show_default=True, help="Joins the rows; escapes are understood.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of weights and activations; bfloat16 is faster on GPUs and on CPUs that multiply it.",
)
@accepting
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def perplexity(
    model: str,
    text: Path,
    window: int | None,
    separator: str,
    precision: Precision,
    accept_licenses: bool,
    as_json: bool,
) -> None:
    """Perplexity (per token), bits per byte and summed NLL (nats) of a text.

    Blank lines are dropped, rows are joined with the separator and tokenised once without
    special tokens. Windows overlap by one token, so every token but the first is scored once.

    Example: odyssey perplexity --model data/mini/adapt/tiny/pandas --text notes.txt --json
    """
    say(announce.perplexity(model, text))
    from odyssey.tools import score_file

    _show(score_file(model, text, window, unescaped(separator), accept_licenses, precision), as_json)


@main.command(short_help="MMD and FD between two texts.")
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
    say(announce.distance(source, target))
    from odyssey.tools import compare_files

    _show(compare_files(source, target, encoder), as_json)


@main.command(short_help="Should this model be adapted to these texts?")
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
@accepting
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
@click.pass_context
def advise(context: click.Context, /, no_probe: bool, accept_licenses: bool, as_json: bool, **asked: Any) -> None:
    """Should this model be adapted to these texts? Adapt, do not adapt, or unclear, and why.

    Measures similarity to the source corpus, zero-shot perplexity and what a short probe adaptation
    does to documents that are held out; changes are in nats per token, below 0 is better. Texts
    are .txt, .jsonl, .csv or .parquet. Logged to MLflow, in the experiment "advice".

    Example: odyssey advise --model openai-community/gpt2 --source openwebtext --domain texts/ours
    """
    say(announce.advise(asked["model"], asked["domain"], not no_probe))
    from odyssey.advisor import advice, publish

    request = advice.Request(
        **asked, probe=not no_probe, accept_licenses=accept_licenses, root=context.obj["params"].parent
    )
    made = advice.advise(request)
    shown = publish.shown(made, as_json)
    click.echo(shown if as_json else paint(shown, ADVICE))
    with doing("logging to MLflow"):
        where = publish.log(made)
    click.echo(harmless(f"logged to MLflow: {where}"), err=True)


def unescaped(separator: str) -> str:
    """What `\\n`, `\\t`, `\\u2014` and the like stand for; other characters stand for themselves."""
    try:
        # Characters that are no Latin-1 become escapes, too: the codec reads bytes as Latin-1.
        return separator.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError as error:
        raise OdysseyError(f"--separator '{separator}': {error.reason}; a backslash itself is written \\\\") from None


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json.dump(result, sys.stdout)
        click.echo()
        return
    width = max(map(len, result))
    for key, value in result.items():
        shown = f"{value:.6g}" if isinstance(value, float) else harmless(str(value))
        click.echo(f"{key:<{width}}  {shown}")
