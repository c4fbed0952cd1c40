"""YAML files that people write: plain values only, no key twice, and nothing that unfolds without end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from odyssey.complaints import printable
from odyssey.errors import OdysseyError

LARGEST = 250_000
"""Bytes of a file that is read; a study has some thousand, and this many take seconds."""
MOST_VALUES = 50_000
"""Values in a file, aliases counted as what they stand for: a few lines of aliases can stand for billions."""

_ODD = (ValueError, KeyError, AttributeError, TypeError, IndexError, OverflowError)
"""What PyYAML raises for a value that its tag does not fit, such as the 99th of a month."""


def read(path: Path, remedy: str = "") -> Any:
    """The value in a YAML file: mappings, lists, text, numbers, dates, true, false and null.

    Raises OdysseyError naming the file, and the line where there is one: not there (then with the
    `remedy`), not readable, not YAML, too large, too deep, or a key that stands twice in a mapping.
    """
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise OdysseyError(f"{path}: larger than {LARGEST:,} bytes, so no file of settings; correct the path")
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file{remedy and '; '}{remedy}") from None
    except UnicodeDecodeError as error:
        raise OdysseyError(f"{path}: not readable as YAML: {error}; save it as UTF-8") from None
    except OSError as error:
        raise OdysseyError(f"{path}: cannot be read ({error.strerror}); correct the path or its permissions") from None


def parse(text: str, origin: str) -> Any:
    """The value of a text in YAML; raises OdysseyError naming `origin`, as `read` does."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)  # here already what cannot be in YAML is refused
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, origin, {}, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise OdysseyError(f"{origin}: not readable as YAML: {printable(str(error))}") from None
    except RecursionError:
        raise OdysseyError(f"{origin}: not readable as YAML: nested too deeply; write it flatter") from None
    except _ODD as error:
        raise OdysseyError(
            f"{origin}: not readable as YAML: a value that its kind cannot have ({_first(error)})"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _first(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)


def _count(node: yaml.Node, origin: str, known: dict[int, int], above: set[int]) -> int:
    """Values in a node, itself included, aliases unfolded; `known` are those counted, `above` those it is inside of."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        return known[id(node)]
    line = node.start_mark.line + 1
    if id(node) in above:
        raise OdysseyError(f"{origin}: line {line}: holds itself, by an alias; write out what is meant")
    above.add(id(node))
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        _refuse_twice(node, origin)
        parts = [part for pair in node.value for part in pair]
    total = 1
    for part in parts:
        total += _count(part, origin, known, above)
        if total > MOST_VALUES:
            raise OdysseyError(f"{origin}: line {line}: more than {MOST_VALUES:,} values, aliases unfolded; shorten it")
    above.remove(id(node))
    known[id(node)] = total
    return total


def _refuse_twice(node: yaml.MappingNode, origin: str) -> None:
    """Raises OdysseyError for a key that a mapping has twice: YAML's readers silently take the last."""
    found: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in found:
                place = f"line {key.start_mark.line + 1}"
                raise OdysseyError(f"{origin}: {place}: key '{printable(key.value)}' stands there twice; delete one")
            found.add((key.tag, key.value))
