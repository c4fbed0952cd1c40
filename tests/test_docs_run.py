"""Each command of the docs, run in their order in a copy of the project whose mini-study is a tiny one.

Run by `make smoke`. Those of ELSEWHERE are run by other tests, or by none, as it says there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doc_steps as docs
import pytest
import yaml
from doc_steps import ELLIPSIS, ELSEWHERE, Command, Edit
from project import Project
from servers import free_port, started

from odyssey.tracking import views

pytestmark = pytest.mark.slow

SERVERS = ("make ui", "odyssey ui")
"""Commands that go on until they are ended."""
VARYING = ("dvc metrics diff", "dvc exp show", "head ")
"""Commands of whose output a tiny study has other lines and columns; only how it begins is looked at."""
FROM_EXAMPLE = "cp studies/mine.yaml studies/ours.yaml"
"""Leaves it to the reader to edit the copy: here it becomes the study of that name that extending.md led to."""


def tiny() -> dict[str, Any]:
    """The mini-study's models and some of its domains' names, with what takes seconds behind them."""
    study: dict[str, Any] = yaml.safe_load((docs.ROOT / "tests" / "smoke.yaml").read_text(encoding="utf-8"))
    modules = {"pandas": "click", "torch": "jinja2", "sympy.core": "sympy.logic"}
    study["source"] |= {"modules": ["click", "jinja2", "flask", "werkzeug"], "rows": 160}
    study["domains"] = {
        name: {"corpus": "docstrings", "portion": "science" if "sympy" in name else "software", "modules": [module]}
        for name, module in modules.items()
    }
    study["models"] = dict(zip(("tiny", "small"), study["models"].values(), strict=True))
    for model in study["models"].values():
        model["architecture"]["context"] = 128  # what the docs say of the mini-study's
    study["sample"]["rows"] = {"train": 80, "valid": 5, "test": 10}
    return study | {"joins": None}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The copy after `make reproduce`, committed, with the environment that `make` looks for."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    newline = tiny() | {"joins": ["newline", "space", "end_of_text"], "adapt_to": ["torch"]}
    made = Project(folder, "mini", {"mini": tiny(), "newline": newline}, HF_HUB_OFFLINE="1", COLUMNS="200")
    environment = folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix, name))
    asked = "include Makefile\nstamp:\n\t@echo $(STAMP)\n"
    stamp = subprocess.run(
        ["make", "--silent", "--file=-", "stamp"], input=asked, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
    (folder / stamp).touch()
    yield made
    shutil.rmtree(folder.parent, ignore_errors=True)


def test_make_reproduce_ends_with_what_the_readme_shows(copy: Project) -> None:
    said = copy.run("make", "reproduce")
    copy.commit("--all")
    shown = docs.blocks("README.md", "text")[0].splitlines()
    statements = [line.rpartition(":")[0] for line in shown if re.match(r"  \d", line)]
    assert len(statements) == 12
    assert all(statement in said for statement in statements)
    assert {line.split(":")[0] for line in shown if line.startswith("model ")} <= {
        line.split(":")[0] for line in said.splitlines()
    }
    # Under `make smoke` the inner make says where it was.
    assert [line for line in said.splitlines() if not line.startswith("make")][-1] == "next: make ui"


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Commands that have been run: once is enough, unless there is something to compare."""
    return {"make reproduce"}


@pytest.mark.parametrize("file", docs.FILES)
def test_the_commands_of_a_document_run(copy: Project, done: set[str], file: str) -> None:
    place = ""
    # How DVC keeps its copies, which one document chooses for its reader, is not the next one's: a plan counts it.
    shutil.copy(docs.ROOT / ".dvc" / "config", copy.folder / ".dvc" / "config")
    (copy.folder / ".dvc" / "config.local").unlink(missing_ok=True)
    if copy.changed():
        copy.commit("--all")
    for step in docs.steps(file):
        if isinstance(step, Edit):
            step.apply(copy.folder)
            continue
        key = next((server for server in SERVERS if step.text.startswith(server)), step.text)
        if key in ELSEWHERE or (key in done and step.printed is None):
            continue
        if step.place != place:
            start(copy)
        place, begun = step.place, time.monotonic()
        run(copy, step)
        print(f"# {time.monotonic() - begun:.1f} s")
        done.add(key)
        if "dvc exp run" in step.text:
            back(copy)


def start(copy: Project) -> None:
    """A new section of a document: the mini-study is in use."""
    if "study: mini" not in (copy.folder / "params.yaml").read_text(encoding="utf-8"):
        copy.run("odyssey", "study", "mini")


def back(copy: Project) -> None:
    """What was committed, as `dvc exp run` leaves its own settings and results behind."""
    copy.run("git", "checkout", "--quiet", "--", "params.yaml", "dvc.lock", "studies")
    copy.run("dvc", "checkout", "--quiet", "--allow-missing", "--force")
    copy.run("odyssey", "track")  # or MLflow holds the experiment's results for those of now


def run(copy: Project, command: Command) -> None:
    """Run a command and compare what it prints with what the docs say that it does."""
    if command.text.startswith(SERVERS):
        serve(copy, command.text)
        return
    text = command.text.replace("STAGE", "adapt")
    if "RUN_ID" in text:
        text = text.replace("RUN_ID", next(run.info.run_id for run in copy.runs("mini")))
    ours = copy.folder / "studies" / "ours.yaml"
    edited = ours.read_bytes() if text.startswith(FROM_EXAMPLE) else None
    said = copy.run("bash", "-c", text)
    if edited is not None:
        ours.write_bytes(edited)
    if command.printed is not None:
        compare(command, said)


def compare(command: Command, said: str) -> None:
    """The lines shown are printed, in their order, but for numbers."""
    wanted = [line for line in command.printed or () if line.strip() and line.strip() != ELLIPSIS]
    if command.text.startswith("odyssey advise"):
        # "From" names the calibration, which does not hold for a model as tiny as this.
        wanted = [line[:16].strip() for line in wanted if re.match(r"(?!From)[A-Z][a-z].{14}\S", line)]
        printed = [line[:16].strip() for line in said.splitlines()]
    else:
        wanted, printed = list(map(docs.shape, wanted)), list(map(docs.shape, said.splitlines()))
    if command.text.startswith(VARYING):
        wanted, printed = [" ".join(wanted[0].split()[:2])], [" ".join(line.split()[:2]) for line in printed]
    lines = iter(printed)
    for line in wanted:
        assert line in lines, f"{command.place}: `{command.text}` does not print, or not there: {line}"


def serve(copy: Project, text: str) -> None:
    """Start a server, ask for its page, and end it."""
    port = str(free_port())
    words = [*re.sub(r"(PORT=|--port )\d+", "", text).split(), *(("--port", port) if "--port" in text else ())]
    words += [f"PORT={port}"] if words[0] == "make" else []
    print("\n$", *words, flush=True)
    with started(*words, folder=copy.folder, environment=copy.environment) as server:
        assert "<title>MLflow</title>" in server.page(f"http://127.0.0.1:{port}/")
        (address,) = re.findall(r"http://\S+", server.said())
        assert address.startswith(f"http://127.0.0.1:{port}/")
        wanted = rf"/#/experiments/\d+/runs\?workflowType=machine_learning&viewStateShareKey={views.MAIN}"
        assert re.search(wanted, server.page(address))
