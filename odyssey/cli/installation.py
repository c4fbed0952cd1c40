"""Commands about this installation."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from odyssey.cli.common import Failure, main
from odyssey.cli.terminal import harmless, say

HOME = {
    "bash": "~/.local/share/bash-completion/completions/odyssey",
    "zsh": '"${fpath[1]}/_odyssey"',
    "fish": "~/.config/fish/completions/odyssey.fish",
}
"""Files in which shells look for it; of zsh the first folder of its search path."""


MARKS = {"ok": "green", "warn": "yellow", "fail": "red"}


@main.command(short_help="Check Python, packages, machine, study and stores.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check Python, packages, study, machine, hub, MLflow, DVC and git: a line each, with the remedy.

    Nothing is changed. Exits with 1 if a check failed; a warning is of what the study can run without.

    Example: odyssey doctor
    """
    from odyssey.doctor.check import Subject
    from odyssey.doctor.examination import CHECKS, examine

    subject = Subject(context.obj["params"], context.obj["data"])
    say(f"{len(CHECKS)} checks of this installation, its machine and what it reaches")
    made = []
    for check in examine(subject):
        made.append(check)
        if not as_json:
            mark = click.style(f"{check.status:<4}", fg=MARKS[check.status])
            told = harmless(f"{check.found}{f' -> {check.remedy}' if check.remedy else ''}")
            click.echo(f"{mark}  {check.name:<9}  {told}")
    if as_json:
        click.echo(json.dumps({"checks": [asdict(check) for check in made]}, indent=2))
    context.exit(any(check.status == "fail" for check in made))


@main.command(short_help="Print what completes commands and names in a shell.")
@click.argument("shell", type=click.Choice(list(HOME)))
def completion(shell: str) -> None:
    """Print a script by which SHELL completes commands, options, studies, models and domains.

    Example: odyssey completion bash > ~/.local/share/bash-completion/completions/odyssey
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # click has all three
        raise Failure(f"no completion for {shell}")
    click.echo(kind(main, {}, "odyssey", "_ODYSSEY_COMPLETE").source().strip())
    click.echo(f"# To install it: odyssey completion {shell} > {HOME[shell]}, then open a new shell.")
