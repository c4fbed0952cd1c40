"""What the shell is told of names that options can take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from odyssey.errors import OdysseyError
from odyssey.settings import Settings, load_settings, studies


def complete_studies(context: click.Context, param: click.Parameter, start: str) -> list[str]:
    """Studies beside the params file."""
    return _beginning(studies(_params(context).parent), start)


def complete_models(context: click.Context, param: click.Parameter, start: str) -> list[str]:
    """Models of the study in use."""
    settings = _settings(context)
    return _beginning(settings.models, start) if settings else []


def complete_domains(context: click.Context, param: click.Parameter, start: str) -> list[str]:
    """Domains that the study in use adapts to."""
    settings = _settings(context)
    return _beginning(settings.adapt_to, start) if settings else []


def complete_gpus(context: click.Context, param: click.Parameter, start: str) -> list[str]:
    """GPUs that are in the table, and what stands for none."""
    from odyssey.planning.machine import CPU
    from odyssey.science.cost import GPUS

    return [name for name in (*GPUS, CPU) if name.casefold().startswith(start.casefold())]


def model_option(command: Any) -> Any:
    """--model of a stage."""
    told = "One model of the study; without it, all of them."
    return click.option("--model", help=told, shell_complete=complete_models)(command)


def domain_option(command: Any) -> Any:
    """--domain of a stage."""
    told = "One domain of the study; without it, all of them."
    return click.option("--domain", help=told, shell_complete=complete_domains)(command)


def _params(context: click.Context) -> Path:
    # The group has not run: its options were read, and nothing else.
    return Path(context.find_root().params["params"])


def _settings(context: click.Context) -> Settings | None:
    """The study in use; None if it cannot be read, as the command line is no place for an error."""
    try:
        return load_settings(_params(context))
    except OdysseyError:
        return None


def _beginning(names: Iterable[str], start: str) -> list[str]:
    return [name for name in names if name.startswith(start)]
