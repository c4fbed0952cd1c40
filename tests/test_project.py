"""The lists that must not drift: pins, stages, their dependencies and parameters, ignore rules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from odyssey.cli import main
from odyssey.corpora.documents import modules
from odyssey.provenance import code_files
from odyssey.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
STAGES = [
    "sample",
    "pretrain",
    "embed",
    "similarity",
    "adapt",
    "evaluate",
    "tokens",
    "joins",
    "claims",
    "report",
    "track",
]
BUILD_TOOLS = {"pip", "setuptools", "wheel"}
COMMANDS = {"dvc"}
"""Packages that are run as commands and not imported."""


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): pin for name, pin in pins}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def required(*groups: str) -> list[Requirement]:
    extras = project()["project"]["optional-dependencies"]
    names = [*project()["project"]["dependencies"], *(r for group in groups or extras for r in extras[group])]
    return [Requirement(name) for name in names]


def conda() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
    return content


def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


# --- pins


def test_requirements_are_pinned_within_their_bounds() -> None:
    pins = pinned()
    for requirement in required():
        assert canonicalize_name(requirement.name) in pins, f"{requirement.name} is not in requirements.lock"
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)


def test_lock_holds_what_is_required_and_nothing_else() -> None:
    assert set(pinned()) == _closure(required()) | BUILD_TOOLS


def test_installed_versions_are_the_locks() -> None:
    # A CPU wheel of torch is the same release with a local suffix.
    installed = {name: version(name).split("+")[0] for name in pinned()}
    assert installed == pinned()


def test_conda_file_repeats_no_version_but_pythons() -> None:
    python, pip, packages = conda()["dependencies"]
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.lock"]})
    name, exact = python.split("=")
    # Exact, because MLflow takes a shorter one for "the newest there is" and compiles it.
    assert name == "python"
    assert re.fullmatch(r"3\.\d+\.\d+", exact)
    assert SpecifierSet(project()["project"]["requires-python"]).contains(exact)
    minor = exact.rpartition(".")[0]
    assert f"PYTHON ?= python{minor}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert project()["tool"]["mypy"]["python_version"] == minor
    assert project()["tool"]["ruff"]["target-version"] == "py" + minor.replace(".", "")


def test_requirements_are_what_is_imported_read_or_run() -> None:
    provider = {top: {canonicalize_name(d) for d in names} for top, names in packages_distributions().items()}
    settings = load_settings(ROOT / "params.yaml", "mini")
    read = {module.partition(".")[0] for module in modules([settings.source, *settings.domains.values()])}
    read.add(settings.embed.encoder.removeprefix("package:"))
    names = {canonicalize_name(requirement.name) for requirement in required("dev")} - _dev()
    used = {module for path in (ROOT / "odyssey").rglob("*.py") for module in _imported(path)} | read
    used -= set(sys.stdlib_module_names) | {"odyssey", "__future__"}
    lacking = {module for module in used if not provider.get(module, set()) & names}
    assert not lacking, f"not among pyproject.toml's dependencies: {sorted(lacking)}"
    idle = names - COMMANDS - set().union(*(provider[module] for module in used))
    assert not idle, f"required but neither imported, read nor run: {sorted(idle)}"


def _dev() -> set[str]:
    return {canonicalize_name(Requirement(r).name) for r in project()["project"]["optional-dependencies"]["dev"]}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _closure(roots: Iterable[Requirement]) -> set[str]:
    """Names of the distributions that the roots need here; torch's own exact pins (CUDA) are left to it."""
    waiting, seen = list(roots), set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        try:
            needs = [Requirement(text) for text in distribution(requirement.name).requires or []]
        except PackageNotFoundError:
            pytest.fail(f"{requirement.name} is required but not installed; run `make test`")
        seen.add(key)
        for need in needs:
            of_torch = key[0] == "torch" and str(need.specifier).startswith("==")
            marked = [{"extra": extra} for extra in ("", *requirement.extras)]
            if not of_torch and (need.marker is None or any(map(need.marker.evaluate, marked))):
                waiting.append(need)
    return {name for name, _ in seen}


# --- stages


def test_a_stage_is_a_command_and_a_module() -> None:
    assert list(stages()) == STAGES
    files = (ROOT / "odyssey" / "stages").glob("*.py")
    assert {path.stem for path in files if "\ndef run(" in path.read_text(encoding="utf-8")} == set(STAGES)
    assert set(STAGES) <= set(main.commands)
    for name, stage in stages().items():
        assert stage["cmd"] == f"python -m odyssey {name}"
        assert stage["matrix"] == {"study": ["${study}"]}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(stage: str) -> None:
    expected = [path.as_posix() for path in code_files(f"odyssey.stages.{stage}")]
    if stage == "report":
        expected = sorted(expected + _package_data())
    listed = [dependency for dependency in stages()[stage]["deps"] if dependency.startswith("odyssey/")]
    lines = "\n".join(f"      - {path}" for path in expected)
    assert listed == expected, f"the code among the deps of stage '{stage}' in dvc.yaml should be:\n{lines}"


def _package_data() -> list[str]:
    """Files of the package that are neither code nor tables of a module; all of them serve the report."""
    files = (path for path in (ROOT / "odyssey").rglob("*") if path.suffix not in (".py", ".pyc", ".csv", ""))
    return [path.relative_to(ROOT).as_posix() for path in files]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_settings_that_it_reads(stage: str) -> None:
    *choice, study = stages()[stage]["params"]
    sections = study["studies/${study}.yaml"]
    if sections is None:  # all of it
        return
    sections = {*choice, *(entry.partition(".")[0] for entry in sections)}
    # Every stage checks the whole study first; that is not what its results depend on.
    files = (
        path for path in code_files(f"odyssey.stages.{stage}") if path.suffix == ".py" and path.name != "settings.py"
    )
    read = {name for path in files for name in _settings_read(ROOT / path)}
    assert read <= sections, f"stage '{stage}' reads {sorted(read - sections)}, not among its params in dvc.yaml"


def _settings_read(path: Path) -> set[str]:
    """Fields that are taken from a variable called `settings`."""
    through = {"model": "models", "domain": "domains", "adapted": "adapt_to"}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings":
            found.add(through.get(node.attr, node.attr))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "settings.model_dump":
            included = next(keyword.value for keyword in node.keywords if keyword.arg == "include")
            found |= {str(constant.value) for constant in ast.walk(included) if isinstance(constant, ast.Constant)}
    # The study's name is in the outputs' paths, and consent to licences changes no result.
    return found & set(Settings.model_fields) - {"study", "accept_licenses"}


def test_every_stage_depends_on_the_pins() -> None:
    assert all("requirements.lock" in stage["deps"] for stage in stages().values())


def test_every_result_read_is_one_that_an_earlier_stage_writes() -> None:
    written: list[str] = []
    for name, stage in stages().items():
        for dependency in stage["deps"]:
            known = [out for out in written if _overlap(dependency, out)]
            assert known or not dependency.startswith("data/"), f"stage '{name}' reads {dependency}: no stage makes it"
            assert known or (ROOT / dependency).exists(), f"stage '{name}' depends on {dependency}, which is not there"
        outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
        assert all(out.startswith("data/${study}/") for out in outs), f"stage '{name}' mixes studies"
        written += outs


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


# --- git and DVC


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("data/mini/sample/source/rows.parquet", True),
        ("data/other/track/published.json", True),
        ("texts/mine/a.txt", True),
        ("texts/README.md", False),
        ("studies/selections/mine.yaml", False),
        (".dvc/config.local", True),  # may hold a remote's password
        ("data/README.md", False),
        ("data/.gitignore", False),
        ("dvc.lock", False),
        ("mlflow.db", True),
        ("mlflow.lock", True),
        ("mlartifacts/x", True),
        (".venv/bin", True),
        (".dvc/remote/files", True),
        (".dvc/config", False),
    ],
)
def test_git_ignores_outputs_and_nothing_else(path: str, ignored: bool) -> None:
    found = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode
    if found == 128:
        pytest.skip("not a git checkout")
    assert (found == 0) == ignored


def test_compiled_python_does_not_change_a_stage() -> None:
    assert "__pycache__" in (ROOT / ".dvcignore").read_text(encoding="utf-8").split()
