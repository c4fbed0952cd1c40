"""A real sweep on this machine: interrupted, with a cell that fails, and mended; then `dvc repro` finds all of it.

Run by `make smoke`. The tests share one copy of the project and stand in the order in which they use it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import Project, heeding

pytestmark = pytest.mark.slow

MODELS, DOMAINS = ("one", "two"), ("click", "jinja2")
CELLS = [f"{model} on {domain}" for model in MODELS for domain in DOMAINS]
STAGES = ("adapt", "evaluate", "tokens", "joins")
SWEEP = ("python", "-m", "odyssey", "sweep")
HERE = (*SWEEP, "--workers", "2")


def small_study() -> dict[str, Any]:
    """The smoke study with two domains, and training that takes some seconds."""
    study: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("smoke.yaml").read_text(encoding="utf-8"))
    study["domains"] = {name: study["domains"][name] for name in DOMAINS}
    study["adapt"]["epochs"] = 25
    study["adapt"]["engine"]["checkpoint_minutes"] = 0.02
    study["joins"] = ["newline", "space"]
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The study with its samples and base models."""
    folder = tmp_path_factory.mktemp("sweep") / "project"
    copy = Project(folder, "small", {"small": small_study()}, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    copy.run("dvc", "repro", "pretrain")
    shutil.copytree(folder, folder.with_name("plain"))
    yield copy
    shutil.rmtree(folder.parent, ignore_errors=True)


def wait_for(there: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)


def written(study: Project) -> dict[str, int]:
    """When each file of each cell was written, in ns."""
    files = study.files(*(f"small/{stage}" for stage in STAGES))
    # A cell is stage/model/domain; what lies above is a stage's own.
    return {name: path.stat().st_mtime_ns for name, path in files.items() if name.count("/") > 3}


def logs(study: Project) -> str:
    """What the jobs have said."""
    files = study.folder.glob("data/small/sweep/submitit/*/*.out")
    return "".join(file.read_text(encoding="utf-8") for file in sorted(files))


def test_a_sweep_needs_whole_samples(study: Project) -> None:
    split = study.folder / "data/small/sample/domains/click/train.parquet"
    content = split.read_bytes()
    split.write_bytes(content[:-1] + b"x")
    said = study.run(*HERE, status=1)
    assert "train.parquet: damaged" in said
    assert "run `dvc repro sample`" in said
    split.write_bytes(content)


def test_ctrl_c_ends_the_jobs_and_keeps_their_checkpoints(study: Project) -> None:
    with subprocess.Popen(
        HERE,
        cwd=study.folder,
        env=study.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heeding,
    ) as sweep:
        wait_for(lambda: list(study.folder.glob("data/small/unfinished/*/step-*")))
        sweep.send_signal(signal.SIGINT)
        said, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signal.SIGINT, said
    assert "sweep: interrupted; its jobs have ended and kept what was done; run the same command again" in said
    assert "is kept" in logs(study)
    assert list(study.folder.glob("data/small/unfinished/*/step-*"))


def test_a_cell_that_fails_does_not_stop_the_others(study: Project) -> None:
    in_the_way = study.folder / "data/small/unfinished/adapt@one@jinja2"  # its job had not begun
    in_the_way.write_text("no folder")
    said = study.run(*HERE, status=1)
    in_the_way.unlink()
    lines = said.splitlines()
    assert lines[1] == "4 cells to do in 3 jobs"
    for cell in CELLS:
        assert [line for line in lines if line.startswith(f"{cell}: waiting in job ")]
        assert [line for line in lines if line.startswith(f"{cell}: running on ")]
        ended = "failed: FileExistsError" if cell == "one on jinja2" else "done in "
        assert [line for line in lines if line.startswith(f"{cell}: {ended}")]
    assert "one on jinja2 failed: FileExistsError" in said
    assert "    Traceback" in said  # its log's last lines
    assert lines[-1] == "3 cells done, 1 failed: mend that and run the same command again"
    assert ": goes on after step " in logs(study)


def test_the_next_sweep_does_what_is_left(study: Project) -> None:
    status = study.run(*SWEEP, "--status").splitlines()
    assert [line for line in status if line.startswith("one on jinja2: ")] == ["one on jinja2: to do"]
    assert sum(line.endswith(": done") for line in status) == 3
    assert "job 1: one on jinja2, < 1 min" in study.run(*SWEEP, "--dry-run")
    said = study.run(*HERE)
    assert "1 cell to do in 1 job" in said
    assert said.splitlines()[-1] == "1 cell done; next: dvc repro"
    assert "0 cells to do in 0 jobs" in study.run(*HERE)


def test_dvc_repro_finds_all_of_it_done(study: Project) -> None:
    before = written(study)
    said = study.run("dvc", "repro")
    for stage in STAGES:
        for model in MODELS:
            assert f"{stage} {model}: 0 of 2 domains to do, 2 kept" in said
    assert written(study) == before


def test_every_run_is_complete(study: Project) -> None:
    runs = study.runs("small")
    assert {run.info.status for run in runs} == {"FINISHED"}
    cells = [run for run in runs if "domain" in run.data.tags]
    assert sorted(f"{run.data.tags['model']} on {run.data.tags['domain']}" for run in cells) == CELLS
    assert len(runs) == len(CELLS) + 1
    names = [set(run.data.metrics) for run in cells]
    assert names.count(names[0]) == len(CELLS)


def test_the_results_are_those_of_a_plain_repro(study: Project) -> None:
    plain = study.folder.with_name("plain")
    for stage in STAGES:
        command = ("python", "-m", "odyssey", stage)
        subprocess.run(command, cwd=plain, env=study.environment, check=True)
    for name, path in study.files(*(f"small/{stage}" for stage in STAGES)).items():
        assert path.read_bytes() == (plain / "data" / name).read_bytes(), name
