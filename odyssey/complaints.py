"""What is wrong with a file of settings, in one line that names the key and the nearest valid one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Tag, ValidationError

from odyssey.errors import OdysseyError
from odyssey.sections import LINE, MODULE, NAME, PLACE, REVISION, SHA256

S = TypeVar("S", bound=BaseModel)

SHOWN = 20
"""Valid names that an error lists at most."""

LONGEST = 200
"""Characters of a text that an error quotes."""

PATTERNS = {
    NAME: "a name has letters, digits, '_', '.' and '-' only, and begins with a letter or digit",
    SHA256: "a sha256 has 64 hexadecimal digits",
    MODULE: "a module is named as in `import`: letters, digits and '_', joined by '.'",
    REVISION: "a revision is a commit, branch or tag: letters, digits, '_', '.', '/', '+' and '-'",
    LINE: "control characters, which do not show, are not allowed here",
    PLACE: "control characters and any of <>|` are not allowed here",
}


def printable(text: str, most: int = LONGEST) -> str:
    """A text as one line that does nothing to a terminal: what does not show is escaped, a long middle left out."""
    one_line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in one_line)
    return shown if len(shown) <= most else f"{shown[: most // 2]}...{shown[-most // 2 :]}"


def validate_as(kind: type[S], raw: Any, origin: str) -> S:
    """`raw` as `kind`; raises OdysseyError naming `origin` and the key, and the nearest valid key or the reason."""
    if not isinstance(raw, dict):
        raise OdysseyError(f"{origin}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise OdysseyError(f"{origin}: {printable(_explain(error, kind), LONGEST * 3)}") from None
    except RecursionError:
        raise OdysseyError(f"{origin}: nested too deeply; write it flatter") from None


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """The most telling of pydantic's complaints, in one line.

    A mistyped key shows as an unknown key and a missing one: the unknown one is named.
    """
    complaints = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = complaints[0]
    parts, section = _locate(kind, first["loc"])
    key = ".".join(parts)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(parts[-1], section)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    if not key:  # of the study as a whole: the message names its keys
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "unknown_corpus":
        given = first["input"].get("corpus") if isinstance(first["input"], dict) else None
        key, valid = f"{key}.corpus", first["msg"].split(", ")
        close = nearest(str(given), valid) if given is not None else f"; valid: {', '.join(valid)}"
        return f"key '{key}': {'is missing' if given is None else f'no corpus {given!r}'}{close}"
    message = PATTERNS.get(first.get("ctx", {}).get("pattern", ""), first["msg"].removeprefix("Value error, "))
    return f"key '{key}': {message}{_shown(first['input'])}"


def _shown(value: Any) -> str:
    """What was found, where it says something."""
    if isinstance(value, dict | BaseModel):
        return ""
    if isinstance(value, int) and value.bit_length() > LONGEST:
        return f" (found a number of {value.bit_length():,} bits)"
    if isinstance(value, str):
        return f" (found {printable(value, 80)!r})"
    return f" (found {value!r})" if isinstance(value, int | float | bool) else f" (found {type(value).__name__})"


def _locate(section: Any, loc: Iterable[int | str]) -> tuple[list[str], list[str]]:
    """A place in the settings as its keys, without the names of unions' members, and the keys valid beside it."""
    parts: list[str] = []
    valid: list[str] = []
    for part in map(str, loc):
        members = _members(section)
        if part in members:
            section = members[part]
            continue
        parts.append(part)
        section = _section(section)
        if isinstance(section, type) and issubclass(section, BaseModel):
            valid = list(section.model_fields)
            field = section.model_fields.get(part)
            section = (
                Annotated[field.annotation, *field.metadata] if field and field.metadata else field and field.annotation
            )
        else:  # free-form names (domains, models) and places in a list
            valid = []
            section = getattr(section, "__args__", [None])[-1]
    return parts, valid


def _members(annotation: Any) -> dict[str, Any]:
    """Members of a tagged union by tag."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    members = getattr(annotation, "__args__", ())
    return {
        tag.tag: member for member in members for tag in getattr(member, "__metadata__", ()) if isinstance(tag, Tag)
    }


def _section(annotation: Any) -> Any:
    """What an annotation is about, without constraints and without `| None`."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    plain = [member for member in getattr(annotation, "__args__", ()) if member is not type(None)]
    if len(plain) == 1 and type(None) in annotation.__args__:
        return _section(plain[0])
    return annotation


def nearest(word: str, valid: Iterable[str], most: int = 1) -> str:
    """What an error about an unknown name ends with: the closest valid ones, or all if none is close."""
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, n=most, cutoff=0.5)
    if close:
        quoted = " or ".join(f"'{name}'" for name in close)
        return f"; did you mean {quoted}?"
    return f"; valid: {', '.join(valid[:SHOWN])}{', ...' if len(valid) > SHOWN else ''}" if valid else ""
