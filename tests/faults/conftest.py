"""The table that `make faults` ends with: a row a fault, filled in by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from faults.disturbed import Study

TABLE = pytest.StashKey[list["Row"]]()
HEADER = ("fault", "tries", "survived", "work repeated", "numbers equal")


@dataclass
class Row:
    """What one fault did, over all tries of it."""

    fault: str
    tries: int = 0
    survived: int = 0
    """Tries after which the work was finished, or refused with one clear error and nothing lost."""
    repeated: str = "none"
    """The most work that was done again in a try."""
    equal: int = 0
    """Tries whose numbers are those of an undisturbed run, bit for bit."""

    def cells(self) -> tuple[str, ...]:
        """As printed."""
        counts = f"{self.survived} of {self.tries}", self.repeated, f"{self.equal} of {self.tries}"
        return (self.fault, str(self.tries), *counts)


def pytest_configure(config: pytest.Config) -> None:
    """Start the table."""
    config.stash[TABLE] = []


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """This test's row of the table; the test says what it is about and counts its tries.

    After a test that passed, every try must have survived with equal numbers, and there must be one.
    """
    made = Row(request.node.name)
    request.config.stash[TABLE].append(made)
    yield made
    assert made.tries > 0
    assert made.survived == made.equal == made.tries, made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, if a test has a row in it."""
    rows = [HEADER, *(made.cells() for made in config.stash[TABLE])]
    if len(rows) > 1:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        terminalreporter.section("faults")
        for cells in rows:
            terminalreporter.write_line("  ".join(map(str.ljust, cells, widths)).rstrip())


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The tiny study, finished, with a checkpoint after each step of its training."""
    raw = yaml.safe_load((Path(__file__).parents[1] / "smoke.yaml").read_text(encoding="utf-8"))
    for section in ("pretrain", "adapt"):
        raw[section]["engine"]["checkpoint_minutes"] = 1e-6
    folder = tmp_path_factory.mktemp("faults") / "project"
    yield Study(folder, raw)
    shutil.rmtree(folder.parent, ignore_errors=True)
