"""Packing: each cell in one job, a model a job, and jobs about equally long."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from odyssey.science.packing import Cell, Job, pack

CELLS = st.lists(
    st.builds(Cell, st.sampled_from("abc"), st.integers(0, 40).map(str), st.floats(0, 50)),
    max_size=40,
    unique_by=lambda cell: cell[:2],
)
MOST = st.floats(0.1, 100)


def test_by_hand() -> None:
    # 7 + 5 + 4 + 4 = 20 s in jobs of 10 s: two of them. 7 and 5 open one each, 4 goes to 5, 4 to 7.
    cells = [Cell("m", "w", 4.0), Cell("m", "x", 7.0), Cell("m", "y", 5.0), Cell("m", "z", 4.0)]
    assert pack(cells, 10) == [Job("m", ("x", "z"), 11.0), Job("m", ("y", "w"), 9.0)]
    assert pack(cells, 20) == [Job("m", ("x", "y", "w", "z"), 20.0)]


def test_models_do_not_share_a_job_and_a_long_cell_has_its_own() -> None:
    cells = [Cell("small", "x", 1.0), Cell("large", "x", 30.0), Cell("large", "y", 3.0), Cell("small", "y", 1.0)]
    assert pack(cells, 10) == [Job("large", ("x",), 30.0), Job("large", ("y",), 3.0), Job("small", ("x", "y"), 2.0)]


def test_no_cells_are_no_jobs() -> None:
    assert pack([], 10) == []


@given(CELLS, MOST)
def test_each_cell_is_in_one_job_of_its_model(cells: list[Cell], most: float) -> None:
    jobs = pack(cells, most)
    assert Counter((job.model, domain) for job in jobs for domain in job.domains) == Counter(c[:2] for c in cells)
    assert all(job.domains for job in jobs)
    assert [job.seconds for job in jobs] == sorted((job.seconds for job in jobs), reverse=True)


@given(CELLS, MOST)
def test_a_job_exceeds_the_most_by_less_than_its_shortest_cell(cells: list[Cell], most: float) -> None:
    seconds = {cell[:2]: cell.seconds for cell in cells}
    for job in pack(cells, most):
        own = [seconds[job.model, domain] for domain in job.domains]
        assert math.isclose(job.seconds, sum(own), abs_tol=1e-9)
        if len(own) > 1:
            assert job.seconds <= most + min(own) + 1e-9


@given(CELLS, MOST)
def test_there_are_as_few_jobs_as_the_seconds_ask_for(cells: list[Cell], most: float) -> None:
    for model in {cell.model for cell in cells}:
        own = [cell.seconds for cell in cells if cell.model == model]
        short = [each for each in own if each < most]
        least = max(1, math.ceil(sum(short) / most)) if short else 0
        assert sum(job.model == model for job in pack(cells, most)) == len(own) - len(short) + min(least, len(short))


@given(CELLS, MOST)
def test_jobs_of_a_models_short_cells_differ_by_less_than_its_longest(cells: list[Cell], most: float) -> None:
    short = [cell for cell in cells if cell.model == "a" and cell.seconds < most]
    lengths = [job.seconds for job in pack(short, most)]
    if lengths:
        assert max(lengths) - min(lengths) <= max(cell.seconds for cell in short) + 1e-9
