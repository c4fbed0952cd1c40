"""Schedules: small ones worked out, Graham's bounds, and failures against closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odyssey.science.schedule import CALM, Troubles, simulate

SECONDS = st.lists(st.floats(0.1, 1e5), min_size=1, max_size=40)
GPUS = st.integers(1, 12)


def worked(seconds: float, troubles: Troubles) -> float:
    """GPU seconds that a job of so many takes on average where GPUs fail, what is done again included.

    Between two checkpoints a job is tried until no failure comes: each of its parts of c seconds takes
    (exp(f c) - 1) / f on average for f failures a second (Duda, 1983, "The effects of checkpointing on program
    execution time"), waits left out.
    """
    rate = troubles.failures / 3600
    if not rate:
        return seconds
    whole, rest = divmod(seconds, troubles.checkpoint) if troubles.checkpoint < math.inf else (0.0, seconds)
    return (whole * math.expm1(rate * troubles.checkpoint) if whole else 0.0) / rate + math.expm1(rate * rest) / rate


def bounds(seconds: Sequence[float], gpus: int) -> tuple[float, float]:
    """What no schedule is shorter than, and what no undisturbed one of `simulate` is longer than.

    The longest job, or an even share of all; and that share of the others, then the longest job (Graham, 1966).
    """
    longest, total = max(seconds, default=0.0), math.fsum(seconds)
    return max(longest, total / gpus), (total - longest) / gpus + longest


def best(seconds: list[float], gpus: int) -> float:
    """The shortest makespan that there is, by trying all."""
    loads = (
        max(sum(s for s, g in zip(seconds, where, strict=True) if g == one) for one in range(gpus))
        for where in product(range(gpus), repeat=len(seconds))
    )
    return min(loads)


@pytest.mark.parametrize(
    ("seconds", "gpus", "makespan"),
    [
        ([], 4, 0),
        ([3], 4, 3),
        ([1, 2, 3], 1, 6),
        ([4, 3, 3], 2, 6),  # 4 | 3 + 3
        ([1, 1, 1, 1, 1], 2, 3),
        # Graham's worst case for two GPUs: 3 + 2 + 2 | 3 + 2, where 3 + 3 | 2 + 2 + 2 would be 6
        ([3, 3, 2, 2, 2], 2, 7),
        ([2, 2, 3, 2, 3], 2, 7),  # the longest first, whatever the order
    ],
)
def test_small_schedules(seconds: list[float], gpus: int, makespan: float) -> None:
    found = simulate(seconds, gpus)
    assert found == (makespan, sum(seconds), 0, 0)


def test_grahams_bound_is_met_by_his_worst_case() -> None:
    # 4/3 - 1/(3 x 2) = 7/6 times the best
    assert simulate([3, 3, 2, 2, 2], 2).makespan / best([3, 3, 2, 2, 2], 2) == pytest.approx(7 / 6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=7), st.integers(1, 3))
def test_never_longer_than_grahams_bound(seconds: list[float], gpus: int) -> None:
    assert simulate(seconds, gpus).makespan <= best(seconds, gpus) * (4 / 3 - 1 / (3 * gpus)) * (1 + 1e-9)


@given(SECONDS, GPUS)
def test_bounds(seconds: list[float], gpus: int) -> None:
    found, (low, high) = simulate(seconds, gpus), bounds(seconds, gpus)
    assert low * (1 - 1e-9) <= found.makespan <= high * (1 + 1e-9)
    assert low >= max(seconds)
    assert found.busy == pytest.approx(sum(seconds))
    assert found.makespan <= sum(seconds) * (1 + 1e-9)


@settings(deadline=None)
@given(SECONDS, GPUS, st.floats(0, 1), st.floats(10, 1e4), st.floats(0, 1000), st.floats(0, 1), st.integers(0, 5))
def test_disturbed_schedules(
    seconds: list[float], gpus: int, failures: float, checkpoint: float, wait: float, stragglers: float, seed: int
) -> None:
    troubles = Troubles(failures, checkpoint, wait, stragglers, 1.5)
    found = simulate(seconds, gpus, troubles, seed)
    assert found == simulate(seconds, gpus, troubles, seed)
    assert found.makespan >= max(bounds(seconds, gpus)[0], found.busy / gpus) * (1 - 1e-9)
    assert found.lost <= found.failures * checkpoint * (1 + 1e-9)
    # Work is done once, and what was lost again; stragglers take half as long again at most.
    assert sum(seconds) * (1 - 1e-9) <= found.busy - found.lost <= 1.5 * sum(seconds) * (1 + 1e-9)


def test_without_failures_all_stragglers_are_slower_jobs() -> None:
    jobs = [5.0, 4, 3, 3, 3]
    slow = simulate(jobs, 2, Troubles(stragglers=1, slowdown=2))
    assert slow.makespan == 2 * simulate(jobs, 2).makespan
    assert simulate(jobs, 2, Troubles(failures=0, stragglers=0)) == simulate(jobs, 2, CALM)


def test_a_share_of_the_jobs_is_slower() -> None:
    found = simulate([1.0] * 10_000, 10, Troubles(stragglers=0.05, slowdown=3))
    # 1 + 0.05 x 2 each; one standard deviation of the sum is 2 sqrt(10,000 x 0.05 x 0.95) = 44
    assert found.busy == pytest.approx(11_000, abs=200)


def test_a_failed_job_waits_and_goes_on_elsewhere() -> None:
    # Fails about each 36 s: one job of 1000 s, with checkpoints each second and a wait of 100 s
    found = simulate([1000.0], 3, Troubles(failures=100, checkpoint=1, wait=100))
    assert found.failures > 10
    assert found.makespan == pytest.approx(found.busy + 100 * found.failures)
    assert found.busy == pytest.approx(1000 + found.lost)


@pytest.mark.parametrize(("failures", "checkpoint"), [(0.5, 1800), (2, 1800), (1, 600), (2, math.inf)])
def test_lost_work_is_that_of_the_closed_form(failures: float, checkpoint: float) -> None:
    seconds, troubles = 7200.0, Troubles(failures, checkpoint, wait=60)
    found = simulate([seconds] * 4000, 100, troubles)
    assert found.busy / 4000 == pytest.approx(worked(seconds, troubles), rel=0.05)
    assert found.failures == pytest.approx(found.busy / 3600 * failures, rel=0.05)


def test_the_closed_form() -> None:
    # A failure an hour, no checkpoint: an hour takes e - 1 hours; with two checkpoints twice (sqrt(e) - 1) hours
    assert worked(3600, Troubles(1)) == pytest.approx(3600 * (math.e - 1))
    assert worked(3600, Troubles(1, 1800)) == pytest.approx(7200 * (math.sqrt(math.e) - 1))
    # Half a checkpoint's interval is lost with each of few failures
    assert worked(36000, Troubles(0.001, 3600)) - 36000 == pytest.approx(10 * 0.001 * 1800, rel=0.01)
    assert worked(5, CALM) == 5


def test_ten_thousand_jobs_on_a_thousand_gpus() -> None:
    found = simulate([3600.0 + k for k in range(10_000)], 1000, Troubles(0.01, 1800, 600, 0.05, 1.5))
    assert found.failures > 50
    assert found.busy / (1000 * found.makespan) > 0.9


@pytest.mark.parametrize(
    ("gpus", "changes"),
    [(0, {}), (1, {"failures": -1}), (1, {"checkpoint": 0}), (1, {"stragglers": 2}), (1, {"slowdown": 0.5})],
)
def test_what_makes_no_sense(gpus: int, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"GPU|failures|stragglers"):
        simulate([1], gpus, Troubles(**changes))


@pytest.mark.parametrize("checkpoint", [7200, math.inf])
def test_jobs_that_hardly_get_on_are_not_simulated(checkpoint: float) -> None:
    with pytest.raises(ValueError, match=r"hardly get on: 6\.0 failures in the 7200 s"):
        simulate([7200], 1, Troubles(3, checkpoint))
