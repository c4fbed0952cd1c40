"""The group that all commands belong to, and what several of them share."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import IO, Any

import click

from odyssey import __version__, processes
from odyssey.allocation import is_lost_device, is_out_of_memory
from odyssey.cli import interrupts, terminal
from odyssey.cli.together import LOST, refuse_others
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.panics import is_panic, panic_text
from odyssey.settings import PARAMS_FILE, Settings, load_settings

SECTIONS = {
    "studies": "Studies",
    "stages": "Stages, in their order, and what they come to",
    "sweep": "Cells of the stages, in jobs",
    "mlflow": "MLflow",
    "tools": "Any model, any text",
    "installation": "This installation",
}
"""Modules that commands are in, and what they are listed under in the help."""


class Failure(click.ClickException):
    """An expected error, with its first word in red."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error."""
        start = click.style("Error:", fg="red", bold=True)
        told = terminal.harmless(self.format_message())
        click.echo(f"{start} {told}", file=file, err=file is None, color=self.show_color)


class Bereft(Failure):
    """Of one of several processes that has lost another one."""

    exit_code = LOST


class Group(click.Group):
    """Shows what can be expected to go wrong as one line and exits with 1, or as shells do after a signal."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return self._run(context)
        except KeyboardInterrupt as error:
            context.exit(interrupts.tell(context, error))
        except OdysseyError as error:
            raise Failure(str(error)) from None
        except OSError as error:
            told = _of_disk(error)
            if told is None:
                raise
            raise Failure(f"{told} and run the command again; what was finished is kept") from None
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                whose = "GPU" if type(error).__name__ == "OutOfMemoryError" else "machine"
                raise Failure(f"the {whose}'s memory is full: {_remedy(context.invoked_subcommand)}") from None
            if processes.is_lost(error):
                raise Bereft("another process of this run has ended, so this one cannot go on") from None
            if is_lost_device(error):
                told = str(error).partition("\n")[0]
                raise Failure(
                    f"the GPU no longer works ({told}): run the command again, on another one if that persists; "
                    "what was finished is kept, and training goes on from its last checkpoint"
                ) from None
            raise
        except BaseException as error:
            if not is_panic(error):
                raise
            raise Failure(f"{context.invoked_subcommand}: {panic_text(error)}") from None

    def _run(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except Exception as error:
            if (interrupt := interrupts.behind(error)) is None:
                raise
            raise interrupt from error

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in the order in which the files define them."""
        return list(self.commands)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are about."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for module, title in SECTIONS.items():
            own = [one for one in self.commands.values() if one.callback and one.callback.__module__.endswith(module)]
            with formatter.section(title):
                formatter.write_dl([(str(one.name), one.get_short_help_str(width)) for one in own])


def _of_disk(error: OSError) -> str | None:
    """What is wrong with a disk, and the remedy; None for errors that say something else."""
    where = f" at {error.filename}" if error.filename else ""
    # NumPy's own words, without a number, for what could not be written whole.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        return f"the disk is full{where}: free some space"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE):
        return f"the disk cannot be used{where} ({str(error.strerror).lower()}): mend that, or take another folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY):
        return f"something is in the way{where} ({str(error.strerror).lower()}): move it, or take another folder"
    if error.errno == errno.ENAMETOOLONG:
        return f"a name is too long for the disk{where}: take a folder with a shorter path, or give a shorter name"
    return None


def _remedy(command: str | None) -> str:
    """What makes a command take less of a GPU's memory."""
    if command in ("advise", "perplexity", "distance"):
        return "use one with more, or none: CUDA_VISIBLE_DEVICES= in front of the command"
    return (
        "lower adapt.engine.micro_batch_size, evaluate.batch_tokens or embed.batch_size in the study, or turn on "
        "adapt.engine.activation_checkpointing; what was finished is kept"
    )


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--params", default=PARAMS_FILE, show_default=True, help="The file that names the study.")
@click.option("--data", default="data", show_default=True, help="Folder of the results, one folder a study in it.")
@click.option("-v", "--verbose", is_flag=True, help="Let libraries show their own notices and bars, too.")
@click.pass_context
def main(context: click.Context, params: str, data: str, verbose: bool) -> None:
    """Why does additional pretraining sometimes fail to improve?

    `dvc repro` runs the stages in order; each is a command here too.
    """
    terminal.settle(context, verbose)
    interrupts.listen()
    context.obj = {"params": Path(params), "data": Path(data)}
    if Path(data).is_file():
        raise OdysseyError(f"--data {data}: a file; name the folder that the results are in, or a new one")


def inputs(context: click.Context, study: str | None = None, accept_licenses: bool = False) -> tuple[Settings, Layout]:
    """The study in use, or `study`, and where its results lie; raises OdysseyError for what is wrong with it."""
    settings = load_settings(context.obj["params"], study)
    if accept_licenses:
        settings = settings.model_copy(update={"accept_licenses": True})
    return settings, Layout(context.obj["data"] / settings.study)


def stage_inputs(context: click.Context, accept_licenses: bool = False) -> tuple[Settings, Layout]:
    """The same for a stage: from now on Ctrl-C says what of its results there is."""
    refuse_others(context)
    settings, layout = inputs(context, accept_licenses=accept_licenses)
    context.obj["goes_on"] = True
    context.obj["kept"] = interrupts.count_kept(str(context.info_name), settings, layout)
    return settings, layout


accepting = click.option(
    "--accept-licenses", is_flag=True, help="You accept the non-commercial licences of what is fetched."
)
