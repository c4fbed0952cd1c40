"""What the terminal is told and how: first lines, colour, and how much libraries may say."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Mapping
from types import MappingProxyType

import click

from odyssey import processes
from odyssey.progress import VERBOSE, verbose

HUSHED: Mapping[str, str] = MappingProxyType(
    {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_VERBOSITY": "error",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TRANSFORMERS_VERBOSITY": "error",
    }
)
"""Environment variables by which libraries, in this process and those it starts, keep their notices to themselves."""
VERDICTS: Mapping[str, str] = MappingProxyType(
    {"holds": "green", "does not hold": "red", "not testable here": "yellow"}
)
ADVICE: Mapping[str, str] = MappingProxyType({"ADAPT": "green", "DO NOT ADAPT": "red", "UNCLEAR": "yellow"})


def settle(context: click.Context, loud: bool) -> None:
    """Prepare this process: colour as the environment wants it, libraries quiet unless `loud`, lines at once."""
    if os.environ.get("NO_COLOR"):
        context.color = False
    elif os.environ.get("FORCE_COLOR"):
        context.color = True
    if loud:
        os.environ[VERBOSE] = "1"
    if not verbose():
        for name, value in HUSHED.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")
    # In a log, what goes to standard output stands where it was said among what goes to standard error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


# But for tab and newline: control characters, marks of direction, and halves of surrogate pairs.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def harmless(text: str) -> str:
    """A text that only shows: what a terminal would act on (escape sequences, a carriage return) is written out."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(what: str) -> None:
    """The first line of the command in hand, on standard error; nothing where there is nothing to say.

    Of several processes the first says it.
    """
    name = click.get_current_context().info_name
    if what and processes.is_first():
        click.echo(f"{click.style(name, bold=True)}: {harmless(what)}", err=True)


def paint(text: str, colours: Mapping[str, str]) -> str:
    """The text with certain phrases coloured, also where one goes on in the next line."""
    longest_first = sorted(colours, key=len, reverse=True)
    phrases = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in longest_first)

    def painted(found: re.Match[str]) -> str:
        return click.style(found[0], fg=colours[" ".join(found[0].split())])

    return re.sub(rf"(?<!\w)(?:{phrases})(?!\w)", painted, harmless(text))
