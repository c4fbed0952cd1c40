"""What a result was made by: code, versions, commit."""

from __future__ import annotations

import ast
import hashlib
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_files(module: str) -> list[Path]:
    """Files of this package that `module` imports, itself included, at any depth.

    Imports inside functions count: they are made there only to start faster. Sorted
    paths, relative to the folder that holds the package.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting.extend(_imports(path))
    return sorted(path.relative_to(PACKAGE.parent) for path in found.values())


@cache
def code_digest(module: str) -> str:
    """sha256 over the files that `code_files` lists."""
    whole = hashlib.sha256()
    for path in code_files(module):
        whole.update(path.as_posix().encode() + b"\0" + (PACKAGE.parent / path).read_bytes() + b"\0")
    return whole.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of the named distributions; a local suffix (+cpu) is left out."""
    return {package: version(package).split("+")[0] for package in packages}


def git_state(folder: Path) -> tuple[str, bool]:
    """Commit and whether the tree differs from it; ("unknown", True) outside a checkout.

    dvc.lock does not count as a difference: it is what a run writes, not what it is made of.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        status = _git(folder, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return commit, bool(status.strip())


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def _source(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts[1:])
    if (base / "__init__.py").is_file():
        # Package markers hold a docstring and no code.
        return None if base == PACKAGE or not _imports(base / "__init__.py") else base / "__init__.py"
    return base.with_suffix(".py") if base.with_suffix(".py").is_file() else None


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
