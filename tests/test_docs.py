"""The docs say what is so: commands, links, defaults, constants, messages. `test_docs_run` runs the commands."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
from functools import cache
from typing import Any

import doc_steps as docs
import pytest
import yaml
from conftest import PAPER_STUDIES
from doc_steps import ELLIPSIS, ELSEWHERE, ROOT, Command

import odyssey
from odyssey.cli import main
from odyssey.settings import load_settings

PLACEHOLDERS = {"STAGE": "adapt", "NAME": "mini", "COMMIT": "HEAD", "FOLDER": "then"}


# --- commands


def commands() -> list[Command]:
    return [step for file in docs.FILES for step in docs.steps(file) if isinstance(step, Command)]


@pytest.mark.parametrize(
    "command", [*commands(), *(s for f in docs.FILES for s in docs.spans(f))], ids=lambda c: c.text
)
def test_a_command_is_one_that_there_is(command: Command) -> None:
    if command.text.startswith("git clone <"):
        return
    for words in docs.parts_of(command.text):
        if complaint := _complaint([PLACEHOLDERS.get(word, word) for word in words]):
            pytest.fail(f"{command.place}: `{command.text}`: {complaint}")


def _complaint(words: list[str]) -> str | None:
    """What the program would say to these words, if it did not like them."""
    program, *rest = words
    if program == "odyssey":
        return _of_click(main, rest)
    if program == "mlflow":
        from mlflow.cli import cli

        return _of_click(cli, rest) or (_of_mlproject(rest) if rest[:2] == ["run", "."] else None)
    if program == "dvc":
        return _of_dvc(rest)
    if program == "make":
        targets = re.findall(r"(?m)^([a-z]+):.*## ", docs.read("Makefile"))
        wrong = [word for word in rest if word not in targets and not re.fullmatch(r"(PORT|PYTHON)=\S+", word)]
        return f"no such target: {wrong}" if wrong else None
    if program == "git":
        known = subprocess.run(["git", "--list-cmds=builtins"], check=True, capture_output=True, text=True).stdout
        return None if rest[0] in known.split() else f"no such command: {rest[0]}"
    if program == "pytest":
        return None if all((ROOT / word).is_file() for word in rest) else "no such file"
    return None if shutil.which(program) else "no such program"


def _of_dvc(words: list[str]) -> str | None:
    parser = importlib.import_module("dvc.cli.parser")

    def complain(_: object, message: str, *__: object) -> None:
        raise ValueError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser.DvcParser, "error", complain)
        try:
            parser.get_main_parser().parse_args(words)
        except ValueError as error:
            # Of a command that is only named, what it needs is not there.
            return None if "are required" in str(error) else str(error)
    return None


def _of_click(group: Any, words: list[str]) -> str | None:
    import click

    flags = {name for option in group.params if getattr(option, "is_flag", False) for name in option.opts}
    name, *rest = words[1:] if words[0] in flags else words
    command = group.commands.get(name)
    if command is None:
        return f"no such command: {name}"
    if isinstance(command, click.Group):
        return _of_click(command, rest) if rest else None
    try:
        command.make_context(name, rest, parent=click.Context(group, obj={}))
    except (click.MissingParameter, click.exceptions.Exit):
        return None  # a command that is only named, or its help
    except click.UsageError as error:
        return error.message
    return None


def _of_mlproject(words: list[str]) -> str | None:
    entries = yaml.safe_load(docs.read("MLproject"))["entry_points"]
    entry = entries.get(words[words.index("-e") + 1] if "-e" in words else "main")
    if entry is None:
        return "no such entry point"
    given = {words[k + 1].partition("=")[0] for k, word in enumerate(words) if word == "-P"}
    return f"no such parameter: {given - set(entry['parameters'])}" if given - set(entry["parameters"]) else None


def test_what_is_not_run_here_is_run_elsewhere() -> None:
    there = {command.text for command in commands()}
    assert set(ELSEWHERE) <= there, "ELSEWHERE names commands that the docs do not have"
    for command, where in ELSEWHERE.items():
        if where == ".ci/run":
            lines = docs.read(where).splitlines()
            made = {word for line in lines if line.startswith("make ") for word in line.split()}
            assert set(command.split()) <= made
        elif "::" in where:
            file, _, name = where.partition("::")
            source = docs.read(file)
            tests = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
            # A test that is run once for each of several has their names beside it.
            of_several = "parametrize" in "".join(map(ast.unparse, tests[name].decorator_list))
            looked_at = source if of_several else ast.get_source_segment(source, tests[name]) or ""
            assert command.split()[2] in looked_at, f"{where}: nothing of {command}"
    assert {command.split()[2] for command in ELSEWHERE if "--accept-licenses" in command} == set(PAPER_STUDIES)


@pytest.mark.parametrize("code", docs.blocks("docs/method.md", "python"))
def test_an_example_in_python_prints_what_it_says(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "docs/method.md", "exec"), {})
    said = re.search(r"# both near (\d+)", code)
    assert said is not None
    assert [float(word) for word in capsys.readouterr().out.split()] == pytest.approx([float(said[1])] * 2, abs=0.5)


# --- links


@pytest.mark.parametrize("file", docs.FILES)
def test_links_lead_to_what_is_there(file: str) -> None:
    for link in docs.links(file):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / file).parent / path).resolve() if path else ROOT / file
        assert target.exists(), f"{file}: {link}"
        if anchor:
            assert anchor in docs.anchors(str(target.relative_to(ROOT))), f"{file}: no heading for {link}"


def test_every_document_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in docs.links("README.md")}
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert here <= linked
    assert here <= set(docs.FILES)


# --- numbers


def _value(study: dict[str, Any], key: str) -> str:
    value: Any = study
    for part in key.split("."):
        value = value[part]
        if str(value).startswith("studies/engines/"):
            value = yaml.safe_load(docs.read(value))
    if isinstance(value, dict):
        return "a recipe"
    return '"\\n"' if value == "\n" else "null" if value is None else str(value).lower()


def test_the_table_of_defaults_is_what_the_studies_have() -> None:
    studies = {name: yaml.safe_load(docs.read(f"studies/{name}.yaml")) for name in ("mini", *PAPER_STUDIES)}
    rows = [row for row in docs.tables("docs/method.md") if len(row) == 5 and row[0].startswith("`")]
    keys = [row[0].strip("`") for row in rows]
    for key, row in zip(keys, rows, strict=True):
        paper = [_value(studies[name], key) for name in PAPER_STUDIES]
        shown = paper[0] if len(set(paper)) == 1 else ", ".join(paper)
        assert [row[1].lower(), row[2].lower()] == [_value(studies["mini"], key), shown], key
    sections = {key.partition(".")[0] for key in keys}
    assert sections == set(studies["mini"]) - {"domains", "adapt_to", "models"}


def test_the_table_of_defaults_names_each_setting() -> None:
    keys = {row[0].strip("`") for row in docs.tables("docs/method.md") if len(row) == 5}
    told = {"study", "seed", "source.corpus", "source.modules", "embed.revision", "embed.sha256"}  # in the text
    settings = load_settings(ROOT / "params.yaml", "mini").model_dump(exclude={"domains", "adapt_to", "models"})
    flat = {
        f"{name}.{key}" if isinstance(value, dict) else name for name, value in settings.items() for key in _flat(value)
    }
    missing = {key for key in flat if not key.startswith("pretrain.")} - keys - told
    assert not missing


def _flat(value: Any, key: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [found for name, inner in value.items() for found in _flat(inner, f"{key}.{name}" if key else name)]


@pytest.mark.parametrize("row", [row for row in docs.tables("docs/method.md") if row[0].startswith("`odyssey.")])
def test_a_constant_has_the_value_that_the_docs_say(row: list[str]) -> None:
    module, _, name = row[0].strip("`").rpartition(".")
    assert getattr(importlib.import_module(module), name) == float(row[1])


# --- messages


@cache
def _messages() -> list[str]:
    """Texts of the package's code, f-strings with a zero byte for what is filled in."""
    found = []
    for path in (ROOT / "odyssey").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def _quoted() -> list[str]:
    """What troubleshooting.md quotes: the first code span of a table's row."""
    rows = (row for row in docs.tables("docs/troubleshooting.md") if row[0].startswith("`"))
    return [row[0].split("`")[1] for row in rows]


@pytest.mark.parametrize("message", _quoted())
def test_a_message_of_the_docs_is_one_that_the_package_has(message: str) -> None:
    told = [part.strip("'") for part in message.split(ELLIPSIS)]
    pattern = re.compile(".*".join(map(re.escape, told)), re.DOTALL)
    assert any(map(pattern.search, _messages())), f"no such message: {message}"


def test_messages_of_the_docs_tell_something() -> None:
    assert len(_quoted()) > 40
    assert all(len(re.findall("[a-z]", message)) > 9 for message in _quoted())


# --- citation and licence


def test_the_citation_and_the_licence_are_the_packages() -> None:
    citation = yaml.safe_load(docs.read("CITATION.cff"))
    assert citation["version"] == odyssey.__version__
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert [author["family-names"] for author in citation["references"][0]["authors"]][:2] == ["Öncel", "Bethge"]
    assert docs.read("LICENSE").split("\n")[1].strip() == "Apache License"
