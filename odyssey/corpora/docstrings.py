"""The documentation strings of installed packages, as documents.

Real prose that every installation of the lock holds, so that the mini-study needs no
download. Files are parsed, never imported: nothing of the packages runs.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.progress import bar

_SKIPPED_FOLDERS = {"tests", "test", "_vendor", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """A text and what it is known by: of a documentation string `module:qualified.name`, else see `local`."""

    id: str
    text: str


def read_documents(modules: Sequence[str]) -> list[Document]:
    """Documents of the named packages or subpackages, sorted by id, each id once.

    Raises OdysseyError for a module that is not installed or has no Python source.
    """
    files = sorted({(name, path) for module in modules for name, path in _files(module)})
    with ProcessPoolExecutor(os.cpu_count(), initializer=_attend) as pool:
        try:
            parsed = bar(pool.map(_parse, files, chunksize=64), "read documentation", total=len(files), unit="files")
            found = [document for documents in parsed for document in documents]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    # An overloaded function or a property's setter repeats its name: the first one stands.
    return sorted({document.id: document for document in reversed(found)}.values(), key=lambda d: d.id)


def _attend() -> None:
    """What a worker does first: it ends when this process does, and by nothing else.

    A terminal's Ctrl-C reaches workers, too: it is this process that ends them, and says so. If it is
    killed, it cannot, and they would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[parent_process()], daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


def belongs(document: str, modules: Sequence[str]) -> bool:
    """Whether the document with this id is of one of the modules or of a subpackage."""
    module = document.partition(":")[0]
    return any(module == name or module.startswith(name + ".") for name in modules)


def _files(module: str) -> Iterator[tuple[str, Path]]:
    top, *rest = module.split(".")
    # find_spec on a dotted name would import its parent; on a top-level one it only looks.
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise OdysseyError(
            f"module '{module}' in the study is not installed; run `make test` again or correct the name"
        )
    if spec.submodule_search_locations is None:
        roots = [Path(spec.origin or "")]
    else:
        roots = [Path(location, *rest) for location in spec.submodule_search_locations]
        roots += [root.with_suffix(".py") for root in roots if rest]
    count = 0
    for root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            inside = path.relative_to(root).parts if root.is_dir() else ()
            if _SKIPPED_FOLDERS.isdisjoint(inside):
                parts = [part.removesuffix(".py") for part in inside if part != "__init__.py"]
                yield ".".join([module, *parts]), path
                count += 1
    if not count:
        raise OdysseyError(f"module '{module}' in the study has no Python source files; correct the name")


def _parse(named: tuple[str, Path]) -> list[Document]:
    module, path = named
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # templates that only look like Python
            return []
    return [Document(f"{module}:{name}", text) for name, text in _walk(tree, "")]


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Documentation strings of a module, its classes and functions, at any depth of statements."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield name, text
    for field in ("body", "orelse", "finalbody", "handlers"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _walk(child, f"{name}.{child.name}" if name else child.name)
            elif isinstance(child, ast.stmt | ast.ExceptHandler):
                yield from _walk(child, name)
