"""Are a finished study's numbers those that were recorded of it? A reference that git keeps, beside what is here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from odyssey.complaints import validate_as
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.reference import (
    COUNTS,
    STATISTICS,
    VERDICTS,
    MadeWith,
    Reference,
    Value,
    effective,
    measure,
)
from odyssey.settings import STUDIES, Settings
from odyssey.store import write_json

TEXTS = "texts drawn"
REFERENCES = "reference"
"""Folder in that of the studies: a file a study."""


@dataclass(frozen=True)
class Tolerance:
    """How far a quantity may lie from what was recorded."""

    most: float = 0.0
    """As a part of the recorded value; 0 for equal."""
    near_zero: bool = False
    """Whether values may be near 0: below 1 it is a difference instead."""

    def size(self, recorded: Value, found: Value) -> float:
        """How far one value lies from the other; infinite where there is nothing to subtract."""
        if recorded == found:
            return 0.0
        if isinstance(recorded, str | None) or isinstance(found, str | None):
            return math.inf
        unit = max(abs(recorded), 1.0) if self.near_zero else abs(recorded)
        return abs(found - recorded) / unit if unit else math.inf

    def shown(self, difference: float) -> str:
        """A difference as it is printed."""
        if difference in (0, math.inf):
            return "none" if difference == 0 else "unlike"
        return f"{difference:.2g}" if self.near_zero else f"{100 * difference:.2g} %"


TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        TEXTS: Tolerance(),
        COUNTS: Tolerance(),
        "MMD": Tolerance(1e-3),
        "FD": Tolerance(1e-3),
        "perplexity zero-shot": Tolerance(5e-3),
        "perplexity adapted": Tolerance(5e-3),
        "bits per byte zero-shot": Tolerance(1e-3),
        "bits per byte adapted": Tolerance(1e-3),
        STATISTICS: Tolerance(0.03, near_zero=True),
        VERDICTS: Tolerance(),
    }
)
"""Ours. What a seed draws, and what is counted of it, is exact on any machine. Sums are rounded otherwise by another
processor or number of threads, in the seventh digit of a vector, and training carries that on from step to step. What
was measured (docs/results.md) is 0.001 % of a perplexity; other libraries and devices may differ by more. 0.5 % of a
perplexity are 0.005 nats a token, about 0.1 % of bits per byte. Statistics are correlations, changes in nats, and
numbers of tokens: one change of places among 20 domains moves Spearman's r by 0.0015. Verdicts are to be equal."""


def reference_file(settings: Settings, root: Path) -> Path:
    """Where the study's reference is or would be, below the folder of params.yaml."""
    return root / STUDIES / REFERENCES / f"{settings.study}.json"


def record(settings: Settings, layout: Layout, root: Path) -> Path:
    """Write the finished study's reference; raises OdysseyError as `measure` does."""
    found, path = measure(settings, layout, root), reference_file(settings, root)
    write_json(path, found.model_dump(mode="json"))
    return path


def read_reference(settings: Settings, root: Path) -> Reference:
    """The study's reference.

    Raises OdysseyError if there is none, if it is damaged, or of other settings or another seed.
    """
    path = reference_file(settings, root)
    if not path.is_file():
        raise OdysseyError(
            f"{path}: nothing is recorded of study '{settings.study}'; `odyssey verify --record` records what is here"
        )
    remedy = "bring it back from git, or record what is here with `odyssey verify --record`"
    try:
        reference = validate_as(Reference, json.loads(path.read_text(encoding="utf-8")), str(path))
        if unknown := sorted(set(reference.numbers) - set(TOLERANCES)):
            raise OdysseyError(f"{path}: unknown quantity '{unknown[0]}'")
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of thousands of digits, too deep
        raise OdysseyError(f"{path}: not readable as JSON ({error}); {remedy}") from None
    except OdysseyError as error:
        raise OdysseyError(f"{error}; {remedy}") from None
    if reference.study != settings.study:
        raise OdysseyError(f"{path}: recorded of study '{reference.study}', not of '{settings.study}'; {remedy}")
    if reference.seed != settings.seed:
        raise OdysseyError(
            f"{path}: recorded with seed {reference.seed}, and params.yaml has seed {settings.seed}; "
            f"set `seed: {reference.seed}` and run `dvc repro`"
        )
    held, now = reference.settings, effective(settings)
    for key in [*held, *now]:
        if held.get(key, _NOWHERE) != now.get(key, _NOWHERE):
            raise OdysseyError(
                f"{path}: recorded with '{key}' {_told(held.get(key, _NOWHERE))}, and the study has "
                f"{_told(now.get(key, _NOWHERE))}; put it back, or record anew with `odyssey verify --record`"
            )
    return reference


_NOWHERE = object()


def _told(value: object) -> str:
    return "left out" if value is _NOWHERE else json.dumps(value)


@dataclass(frozen=True)
class Difference:
    """One quantity of one cell."""

    quantity: str
    name: str
    recorded: Value
    found: Value
    size: float
    """As the quantity's tolerance measures it; infinite where one of both is missing."""

    @property
    def beyond(self) -> bool:
        """Whether it is more than the quantity's tolerance."""
        return self.size > TOLERANCES[self.quantity].most


@dataclass(frozen=True)
class Verification:
    """What came of comparing."""

    text: str
    """To be read."""
    holds: bool
    """Whether every number is there and within its tolerance."""


def verify(settings: Settings, layout: Layout, root: Path) -> Verification:
    """Compare the finished study with its reference; raises OdysseyError as `read_reference` and `measure` do."""
    recorded = read_reference(settings, root)
    found = measure(settings, layout, root)
    differences = list(compare(recorded, found))
    beyond = [one for one in differences if one.beyond]
    parts = [_made(recorded.made_with, found.made_with), _table(differences), _stages(recorded, found)]
    if beyond:
        parts.append("\n".join(["beyond tolerance:", *map(_line, beyond)]))
    counted = f"{len(beyond)} of {len(differences)}" if beyond else f"all {len(differences)}"
    told = "are not what was recorded" if beyond else "are what was recorded, within tolerance"
    parts.append(f"{counted} numbers of study '{settings.study}' {told}")
    return Verification("\n\n".join(parts), not beyond)


def compare(recorded: Reference, found: Reference) -> Iterator[Difference]:
    """Every number of either, in the order of TOLERANCES."""
    for quantity in TOLERANCES:
        before, now = (
            one.contents.get("sample", {}) if quantity == TEXTS else one.numbers.get(quantity, {})
            for one in (recorded, found)
        )
        for name in dict.fromkeys([*before, *now]):
            held, there = before.get(name), now.get(name)
            size = TOLERANCES[quantity].size(held, there) if name in before and name in now else math.inf
            yield Difference(quantity, name, held, there, size)


def _made(recorded: MadeWith, found: MadeWith) -> str:
    """With what both were made; of what is here only what is otherwise."""
    before, now = ({**one.model_dump(exclude={"packages"}), **one.packages} for one in (recorded, found))
    before["commit"] += " (and changes)" if before.pop("dirty") else ""
    now["commit"] += " (and changes)" if now.pop("dirty") else ""
    other = {key: value for key, value in now.items() if before.get(key) != value}
    lines = [f"recorded with {_named(before)}", f"here {_named(other) if other else 'the same'}"]
    return "\n".join(lines)


def _named(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def _table(differences: list[Difference]) -> str:
    """A line a quantity."""
    rows = [("quantity", "compared", "same bits", "greatest difference", "tolerance", "")]
    for quantity, tolerance in TOLERANCES.items():
        own = [one for one in differences if one.quantity == quantity]
        worst = max(own, key=lambda one: one.size, default=None)
        if worst is None:
            continue
        same = sum(one.size == 0 for one in own)
        shown = tolerance.shown(worst.size) + (f" ({worst.name})" if worst.size else "")
        verdict = "BEYOND" if worst.beyond else "within" if worst.size else "same"
        rows.append((quantity, str(len(own)), str(same), shown, tolerance.shown(tolerance.most), verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _stages(recorded: Reference, found: Reference) -> str:
    """How many of each stage's results are the same files."""
    counts = []
    for stage, now in found.contents.items():
        before = recorded.contents.get(stage, {})
        counts.append((stage, sum(before.get(name) == digest for name, digest in now.items()), len(now)))
    whole = [f"{stage} ({all_})" for stage, same, all_ in counts if same == all_]
    other = [f"{stage} ({same} of {all_})" for stage, same, all_ in counts if same < all_]
    lines = [f"bit for bit the same: {', '.join(whole) or 'none'}"]
    return "\n".join([*lines, *([f"not in all: {', '.join(other)}"] if other else [])])


def _line(one: Difference) -> str:
    difference = TOLERANCES[one.quantity].shown(one.size)
    return f"  {one.quantity}, {one.name}: recorded {_short(one.recorded)}, found {_short(one.found)}, {difference}"


def _short(value: Value) -> str:
    return "nothing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
