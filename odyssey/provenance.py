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
    """Files of this package that `module` imports, itself included, at any depth, and the tables beside them.

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
    tables = (path.with_suffix(".csv") for path in found.values())
    files = [*found.values(), *(table for table in tables if table.is_file())]
    return sorted(path.relative_to(PACKAGE.parent) for path in files)


@cache
def code_digest(module: str) -> str:
    """sha256 over what the files that `code_files` lists do: comments, docstrings and layout do not count."""
    whole = hashlib.sha256()
    for path in code_files(module):
        content = (PACKAGE.parent / path).read_bytes()
        meaning = _meaning(content) if path.suffix == ".py" else content
        whole.update(path.as_posix().encode() + b"\0" + meaning + b"\0")
    return whole.hexdigest()


def _meaning(source: bytes) -> bytes:
    """A module's syntax tree without docstrings, as text: equal for code that does the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        # A bare string is a docstring, also after an assignment, as attributes have theirs.
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [part for part in body if not _is_docstring(part)]  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


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
