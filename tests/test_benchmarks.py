"""What the benchmarks share: ratios, processes, the record and its page."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("harness")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.json")
    return module


def same(values: Any) -> str:
    assert len(set(values.values())) == 1
    return "equal"


def test_ratios_are_taken_round_by_round(harness: ModuleType) -> None:
    took = {"odyssey": iter([9.0, 1.0, 2.0, 4.0]), "peer": iter([9.0, 3.0, 4.0, 4.0])}
    ways = {name: lambda name=name: harness.Run(next(took[name]), 10.0 if name == "peer" else 5.0, 7) for name in took}
    result = harness.alternate("a sum", "2x", ways, same, rounds=3)
    assert result.seconds == {"odyssey": [1.0, 2.0, 4.0], "peer": [3.0, 4.0, 4.0]}  # the first is not counted
    assert result.speedup("peer") == (2.0, 1.0, 3.0)
    assert result.memory("peer") == (0.5, 0.5, 0.5)


def test_other_numbers_end_a_benchmark(harness: ModuleType) -> None:
    ways = {"odyssey": lambda: harness.Run(1.0, value=1), "peer": lambda: harness.Run(1.0, value=2)}
    with pytest.raises(AssertionError):
        harness.alternate("a sum", "2x", ways, same)


def test_a_process_is_measured_whole(harness: ModuleType) -> None:
    small, large = (
        harness.process([sys.executable, "-c", f"x = b'1' * {size}; print('said'); print({{}} or '[1, 2]')"])
        for size in (1, 200_000_000)
    )
    assert small.value == [1, 2]
    assert 195 < large.peak_mb - small.peak_mb < 205
    with pytest.raises(RuntimeError, match="status 3"):
        harness.process([sys.executable, "-c", "raise SystemExit(3)"])


def test_what_is_recorded_is_shown(harness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render = importlib.import_module("render")
    files = {"RESULTS": harness.RESULTS, "ROOT": tmp_path, "PAGE": tmp_path / "page.md", "PLOT": tmp_path / "plot.svg"}
    for name, value in files.items():
        monkeypatch.setattr(render, name, value)
    old = harness.Result("one pair", "3x", {"odyssey": [9.0], "scipy": [1.0]})
    new = harness.Result("one pair", "3x", {"odyssey": [0.5, 0.5, 1.0], "scipy": [2.0, 1.0, 4.0]}, agreement="to 1e-10")
    harness.record("frechet", [old])
    harness.record("frechet", [new])
    harness.record("growth", [], growth={"scoring (tokens)": [[10, 1.0, 5], [100, 10.0, 5], [1000, 100.0, 5]]})
    assert len(json.loads(harness.RESULTS.read_text())) == 3
    render.main()
    page = (tmp_path / "page.md").read_text()
    assert "| one pair | 500 ms | scipy | 4.00 [2.00, 4.00] |  | 3x |" in page
    assert "- to 1e-10" in page
    assert "| scoring (tokens) | 10 to 1,000 | 1.00 | 5 to 5 |" in page
    assert (tmp_path / "plot.svg").read_text().count("<svg") == 1
