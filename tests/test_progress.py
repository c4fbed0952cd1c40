"""What is shown of loops: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import pytest
from terminal import on_a_terminal

from odyssey import progress
from odyssey.progress import bar, state


@pytest.mark.parametrize(
    ("done", "total", "seconds", "unit", "told"),
    [
        (0, 20, 5.0, "domains", "0/20 domains"),
        (5, 20, 10.0, "domains", "5/20 domains, 2.0 s each, 00:30 left"),
        (20, 20, 10.0, "rows", "20/20 rows, 2.00 rows/s, 00:00 left"),
        (12_300, 27_100, 4.0, "tok", "12.3k/27.1k tok, 3.08k tok/s, 00:04 left"),
        (1234, None, 2.0, "files", "1,234 files, 617 files/s"),
    ],
)
def test_state(done: float, total: float | None, seconds: float, unit: str, told: str) -> None:
    assert state(done, total, seconds, unit) == told


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    monkeypatch.setattr(progress._Log, "said", found.now)
    monkeypatch.setattr(progress._Log, "running", [])
    return found


def test_a_log_has_a_line_each_ten_seconds_that_tells_of_all_loops(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in bar(range(3), "adapt", unit="domains"):
        with bar(None, "pandas", total=100, unit="rows") as inner:
            for _ in range(4):
                clock.now += 3
                inner.update(25)
    # 36 seconds of steps of 3: at 12, 24 (then 12 after it) and 36.
    assert capsys.readouterr().err.splitlines() == [
        "adapt: 0/3 domains; pandas: 100/100 rows, 8.33 rows/s, 00:00 left",
        "adapt: 1/3 domains, 24.0 s each, 00:48 left; pandas: 100/100 rows, 8.33 rows/s, 00:00 left",
        "adapt: 2/3 domains, 18.0 s each, 00:18 left; pandas: 100/100 rows, 8.33 rows/s, 00:00 left",
    ]


def test_a_log_has_nothing_of_what_is_over_soon(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    clock.now += 60  # since the last line: the loop itself is new
    for _ in bar(range(3), "short"):
        clock.now += 3
    assert capsys.readouterr().err == ""


def test_a_loop_that_breaks_off_is_told_of_no_longer(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="boom"), bar(None, "first", total=5):
        raise ValueError("boom")
    with bar(None, "second", total=2) as second:
        clock.now += 11
        second.update()
    assert capsys.readouterr().err == "second: 1/2 it, 11.0 s each, 00:11 left\n"


def test_what_is_done_can_be_asked_as_downloads_do() -> None:
    with bar(None, "file", total=9, unit="MB") as shown:
        for done in (2, 5, 9):
            shown.update(done - shown.n)
        assert shown.n == 9


def test_a_terminal_has_a_bar_that_leaves_nothing() -> None:
    code = (
        "import time\nfrom odyssey.progress import bar, doing\n"
        "with doing('loading'): pass\n"
        "for k in bar(range(2), 'outer', unit='cells'):\n"
        "    for _ in bar(range(3), 'inner'): pass\n"
        "    time.sleep(0.3)\n"
    )
    said = on_a_terminal(code)
    assert "loading ..." in said
    assert "outer:   0%|" in said
    assert "| 1/2 cells, " in said
    assert "inner" not in said  # over within its first second
    assert said.endswith("\r")
    assert not said.split("\r")[-2].strip()
