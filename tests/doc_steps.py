"""The docs as tests read them: commands with what they print, edits of study files, code spans, links, anchors.

A command is a line of a fenced `sh` block, a line of a `console` block that begins with `$ `, or what stands
in a table's cell that holds nothing but commands. A `yaml` block that begins with `# studies/<file>, ` says what to
write into that file: beside what a section has, or in place of it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILES = (
    *("docs/extending.md", "README.md", "docs/results.md", "docs/findings.md", "docs/paper.md", "docs/method.md"),
    *("docs/scale.md", "docs/troubleshooting.md", "docs/benchmarks.md", "CONTRIBUTING.md", "data/README.md"),
    *("texts/README.md", "docs/sharing.md"),
)
"""In the order in which their commands are run: extending.md makes the texts that README.md speaks of."""
PROGRAMS = ("odyssey", "dvc", "mlflow", "make", "git", "pytest", "python", "torchrun", "deepspeed")
ELLIPSIS = "..."
PAPER = "tests/test_paper.py::test_"
TOGETHER = "tests/test_processes.py::test_"
CONSENTING = "odyssey study {} --accept-licenses && dvc repro"
ON_S3 = "tests/test_remotes.py, with a server of its own"
ELSEWHERE = {
    "git clone <this repository> odyssey && cd odyssey": "the copy of the project is such a clone",
    "mlflow run . --env-manager virtualenv": "needs pyenv, and makes an environment from PyPI",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make smoke": ".ci/run",
    "make faults": ".ci/run",
    "make fuzz": ".ci/run",
    "make audit": "needs PyPI's data on vulnerabilities; tests/test_security.py tests what comes of what is said",
    "torchrun --nproc-per-node 2 -m odyssey evaluate --model small": f"{TOGETHER}a_study_by_two_processes",
    "deepspeed --num_gpus 2 --no_local_rank --module odyssey adapt --model small --domain torch": (
        f"{TOGETHER}deepspeeds_launcher_does_as_well"
    ),
    "odyssey sweep --on slurm --gpu A100-80GB --slurm partition=gpu --slurm gpus-per-node=1 --slurm mem=200G": (
        "tests/test_sweep_slurm.py::test_jobs_go_on_without_the_sweep"
    ),
    "odyssey verify": "tests/test_verify.py: what is recorded is of the mini-study, which a tiny one is not",
    "make bench": "takes an hour and a quiet machine; tests/test_benchmarks.py tests what its scripts share",
    "dvc remote add --default shared s3://BUCKET/odyssey": ON_S3,
    "dvc remote modify shared endpointurl https://s3.example.org": ON_S3,
    "dvc remote modify --local shared access_key_id KEY": ON_S3,
    "dvc remote modify --local shared secret_access_key SECRET": ON_S3,
    "dvc cache dir --local /shared/odyssey-cache": "tests/test_remotes.py, with a folder of its own",
    "git add dvc.lock .dvc/config": "the tests take all that they change into git",
    'git commit -m "The study, made"': "likewise, under a name that git may not have here",
    CONSENTING.format("gpt2-small"): f"{PAPER}gpt2_on_openwebtext_by_dvc_repro",
    CONSENTING.format("gpt2-large"): f"{PAPER}larger_gpt2_on_openwebtext",
    CONSENTING.format("gpt2-xl"): f"{PAPER}larger_gpt2_on_openwebtext",
    CONSENTING.format("olmo-1b"): f"{PAPER}olmo_on_dolma_by_dvc_exp_run",
    CONSENTING.format("llama-7b"): f"{PAPER}llama_on_redpajama_by_mlflow_run",
}
"""Commands that are not run here: the test that runs them (of the paper's, in small), or why none does."""


@dataclass(frozen=True)
class Command:
    """A command, and what is said to be printed by it; None where the docs do not say."""

    place: str
    text: str
    printed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Edit:
    """What is to be written into a study's file."""

    place: str
    file: str
    content: dict[str, Any]
    beside: bool
    """Whether a section's keys are added to, rather than replaced."""

    def apply(self, folder: Path) -> None:
        """Edit the file in a copy of the project."""
        path = folder / self.file
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in self.content.items():
            study[key] = {**study[key], **value} if self.beside else value
        path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def read(file: str) -> str:
    """A document's text."""
    return (ROOT / file).read_text(encoding="utf-8")


def steps(file: str) -> list[Command | Edit]:
    """Commands and edits, in the document's order."""
    found: list[Command | Edit] = []
    for number, kind, lines in _parts(file):
        place = f"{file}:{number}"
        if kind == "sh":
            found += [Command(place, command) for command in _script(lines)]
        elif kind == "console":
            found += _session(place, lines)
        elif kind == "yaml" and (edit := _edit(place, lines)):
            found.append(edit)
        elif kind == "row":
            found += [Command(place, command) for cell in _cells(lines[0]) for command in _commands_of(cell)]
    return found


def spans(file: str) -> list[Command]:
    """Code spans in prose and tables that are commands; checked for being valid, and not run."""
    found = []
    for number, kind, lines in _parts(file):
        if kind in ("row", "prose"):
            codes = re.findall(r"`([^`]+)`", "\n".join(lines))
            found += [Command(f"{file}:{number}", code.replace("\n", " ")) for code in codes if is_command(code)]
    return found


def is_command(code: str) -> bool:
    """Whether a code span is a command rather than a name: it begins with a program and goes on."""
    words = code.split()
    return len(words) > 1 and words[0] in PROGRAMS


def blocks(file: str, kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return ["\n".join(lines) for _, found, lines in _parts(file) if found == kind]


def tables(file: str) -> list[list[str]]:
    """Rows of all tables, as cells."""
    return [_cells(lines[0]) for _, kind, lines in _parts(file) if kind == "row"]


def links(file: str) -> list[str]:
    """Targets of links, of prose and tables."""
    text = "\n".join("\n".join(lines) for _, kind, lines in _parts(file) if kind in ("row", "prose"))
    return re.findall(r"(?<!`)\[[^\]]+\]\(([^)\s]+)\)", text)


def anchors(file: str) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    headings = [line for _, kind, lines in _parts(file) if kind == "prose" for line in lines if line.startswith("#")]
    plain = (re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def shape(line: str) -> str:
    """A printed line without its numbers and its widths."""
    return " ".join(re.sub(r"[-+−]?\d[\d,.]*(e[-+]?\d+)?", "#", line).split())


def parts_of(command: str) -> list[list[str]]:
    """The words of each of the commands that `&&`, `;` and pipes join; comments are left out."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars="&;|<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&;|"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def _parts(file: str) -> Iterator[tuple[int, str, list[str]]]:
    """(first line, kind, lines) of fenced blocks (kind: their language), table rows ("row") and the rest ("prose")."""
    lines = read(file).split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            end = lines.index("```", at + 1)
            yield at + 2, line.removeprefix("```"), lines[at + 1 : end]
            at = end + 1
        elif line.startswith("|"):
            yield at + 1, "row", [line]
            at += 1
        else:
            end = at + 1
            while end < len(lines) and lines[end].strip() and not lines[end].startswith(("```", "|")):
                end += 1
            yield at + 1, "prose", lines[at:end]
            at = end


def _cells(row: str) -> list[str]:
    """A row's cells; a bar inside of a code span is none of the table's."""
    kept = re.sub(r"`[^`]*`", lambda code: code.group().replace("|", "\0"), row.strip().strip("|"))
    return [cell.strip().replace("\0", "|") for cell in kept.split("|")]


def _commands_of(cell: str) -> list[str]:
    codes = re.findall(r"`([^`]+)`", cell)
    only = not re.sub(r"`[^`]+`|[,;\s]", "", cell)
    return codes if codes and only and all(map(is_command, codes)) else []


def _script(lines: list[str]) -> Iterator[str]:
    """Commands of a script; one goes on where a quote is open or a line ends with a backslash."""
    held = ""
    for line in lines:
        held = f"{held}\n{line}" if held else line
        try:
            shlex.split(held, comments=True)
        except ValueError:
            continue
        if held.endswith("\\"):
            continue
        if held.strip():
            yield held
        held = ""
    assert not held, f"a quote is never closed: {held}"


def _session(place: str, lines: list[str]) -> list[Command]:
    found: list[Command] = []
    at = 0
    while at < len(lines):
        assert lines[at].startswith("$ "), f"{place}: a console block begins with a command"
        command = lines[at].removeprefix("$ ")
        while command.endswith("\\"):
            at += 1
            command = f"{command}\n{lines[at]}"
        end = next((k for k in range(at + 1, len(lines)) if lines[k].startswith("$ ")), len(lines))
        found.append(Command(place, command, tuple(lines[at + 1 : end])))
        at = end
    return found


def _edit(place: str, lines: list[str]) -> Edit | None:
    told = re.fullmatch(r"# (studies/[\w.-]+\.yaml), (beside the other domains|in place of its own)", lines[0])
    if told is None:
        return None
    content = yaml.safe_load("\n".join(lines))
    return Edit(place, told.group(1), content, beside=told.group(2).startswith("beside"))
