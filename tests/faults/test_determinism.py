"""Two runs of a study from nothing give the same bytes, wherever and in whatever environment they run.

What may differ between machines is rounding: the processor and the number of threads set in which order sums are
taken. So both runs have one thread; what another number does is what `odyssey verify` has tolerances for. That the
number of workers that draw a hub's texts makes no difference is shown by tests/test_shards.py: no other texts have any.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project

from faults.conftest import Row
from faults.disturbed import STAGES, STUDY, THREADS, Study
from odyssey.store import sha256

pytestmark = pytest.mark.slow

UNLIKE = {
    "PYTHONHASHSEED": "12345",
    "LC_ALL": "POSIX",
    "TZ": "Asia/Kathmandu",
    "COLUMNS": "61",
    "HOME": "home",
    "TMPDIR": "a temporary folder",
}
"""What a run's environment has otherwise; the last two are folders, made beside the project."""


def test_two_runs_from_nothing_give_the_same_bytes(
    study: Study, tmp_path_factory: pytest.TempPathFactory, row: Row
) -> None:
    row.fault, row.tries = "run again from nothing, elsewhere", 1
    other = elsewhere(tmp_path_factory.mktemp("another folder, of a longer name") / "the project", study)
    ours, theirs = hashes(study.folder), hashes(other.folder)
    assert len(ours) > 200
    assert {name.split("/")[2] for name in ours if "/" in name} == {*STAGES, "track"}
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    row.survived = row.equal = 1


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of the results, and of dvc.lock, which has the hashes of what went in and came out."""
    files = [path for path in (folder / "data" / STUDY).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in [*files, folder / "dvc.lock"]}


def elsewhere(folder: Path, study: Study) -> Project:
    """The same study, run in an environment that is UNLIKE."""
    places = {name: folder.with_name(UNLIKE[name]) for name in ("HOME", "TMPDIR")}
    environment = {**UNLIKE, **{name: str(place) for name, place in places.items()}}
    described = study.folder / "studies" / f"{STUDY}.yaml"
    made = Project(folder, STUDY, {STUDY: described}, OMP_NUM_THREADS=THREADS, HF_HUB_OFFLINE="1", **environment)
    for place in places.values():
        place.mkdir()
    made.run("bash", "-c", "umask 077 && dvc repro")
    return made
