"""Several processes that do one run together: the same batches, the same numbers, one voice, one end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT
from project import Project

from odyssey import processes
from odyssey.cli import main, together
from odyssey.cli.together import LOST, _told
from odyssey.scoring import CPU_LOGITS
from odyssey.sections import Engine, Recipe
from odyssey.store import read_manifest, sha256

PLAIN = Engine(
    micro_batch_size=2,
    zero_stage=0,
    offload_optimizer=False,
    offload_parameters=False,
    activation_checkpointing=False,
    checkpoint_minutes=60,
)
RECIPE = Recipe(
    epochs=2,
    batch_size=8,
    schedule="cosine",
    warmup=0.1,
    weight_decay=0.1,
    gradient_clipping=1.0,
    precision="float32",
    engine=PLAIN,
)
WITHOUT = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}


# -- alone, where nothing is asked of torch


def test_one_process_does_all_and_asks_nobody() -> None:
    assert (processes.count(), processes.rank(), processes.is_first()) == (1, 0, True)
    assert processes.agreed(lambda: {"a": (1,)}) == {"a": (1,)}  # as it is, not by way of JSON
    assert processes.summed(0.1) == 0.1
    assert processes.in_turns(lambda: 3) == 3
    assert processes.dealt(3) == [0, 1, 2]
    own = [np.arange(2.0), np.arange(3.0)]
    assert all(map(np.array_equal, processes.collected(own, [2, 3]), own))
    processes.together()
    processes.meet()


def test_a_launcher_is_known_by_what_it_sets() -> None:
    assert processes.started_together({}) == 1
    assert processes.started_together({"WORLD_SIZE": "4"}) == 1  # a scheduler's, not a launcher's
    assert processes.started_together({"WORLD_SIZE": "4", "RANK": "2"}) == 4


@pytest.mark.parametrize("n", [1, 2, 5, 6])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_work_is_dealt_evenly_and_none_is_left(monkeypatch: pytest.MonkeyPatch, n: int, count: int) -> None:
    hands = []
    for rank in range(count):
        monkeypatch.setattr(processes, "_joined", processes._Together(rank, count, None))
        hands.append(processes.dealt(n))
    assert {len(hand) for hand in hands} == {-(-n // count)}
    assert {k for hand in hands for k in hand} == set(range(n))


@pytest.mark.parametrize(
    ("statuses", "expected", "told"),
    [
        ({0: 1, 1: 1}, 1, ""),  # the first has said it
        ({0: LOST, 1: 3}, 3, "process 2 of 2:\nits own words"),
        ({0: -signal.SIGTERM, 1: 3}, 3, "process 2 of 2:\nits own words"),
        ({0: LOST, 1: -signal.SIGKILL}, 137, "process 2 of 2 was ended by SIGKILL; "),
        ({0: -signal.SIGKILL, 1: LOST}, 137, "process 1 of 2 was ended by SIGKILL; "),
        ({0: -signal.SIGTERM, 1: os.EX_TEMPFAIL}, os.EX_TEMPFAIL, ""),
        # The first did not hear that it was to end, and was killed for it later.
        ({1: 3, 0: -signal.SIGKILL}, 3, "process 2 of 2:\nits own words"),
    ],
)
def test_it_is_told_which_one_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], statuses: dict[int, int], expected: int, told: str
) -> None:
    (tmp_path / "stderr.log").write_text("its own words\n")
    files = {
        rank: SimpleNamespace(exitcode=code, error_file=tmp_path / "e", timestamp=30 * k)
        for k, (rank, code) in enumerate(statuses.items())
    }
    assert _told(files, 2) == expected
    assert capsys.readouterr().err.startswith(told)
    assert told or not capsys.readouterr().err


# -- two


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}


def trained(recipe: Recipe, count: int, width: int = 32, logits: int = CPU_LOGITS) -> dict[str, Any]:
    """What tests/distributed.py says, run by so many processes; so many logits are scored at once."""
    command = ["torchrun", "--nproc-per-node", str(count), str(ROOT / "tests" / "distributed.py")]
    command += [recipe.model_dump_json(), str(width), str(logits)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"zero_stage": 1, "micro_batch_size": 1},
        {"zero_stage": 2, "offload_optimizer": True},
        {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True, "activation_checkpointing": True},
    ],
    ids=["zero 0", "zero 1", "zero 2, offloaded", "zero 3, offloaded"],
)
def test_two_processes_train_and_score_as_one(change: dict[str, Any]) -> None:
    engine = PLAIN.model_copy(update=change)
    one, two = (trained(RECIPE.model_copy(update={"engine": engine}), count) for count in (1, 2))
    assert len(two["nll"]) == 16
    # Scored in the same batches: equal to the last bit.
    assert two["before"] == one["before"]
    assert len(two["before"]) == 699 + 39
    # Gradients are sums in another order: the loss of every step is equal to six digits.
    assert two["nll"] == pytest.approx(one["nll"], rel=1e-6)
    assert two["points"] == pytest.approx(one["points"], rel=1e-6)
    # AdamW's first steps have one size, also where a gradient is next to nothing and may have either sign.
    apart = np.linalg.norm(np.subtract(two["weights"], one["weights"]))
    assert apart < 2e-3 * np.linalg.norm(one["weights"])
    assert two["nll"] != one["nll"]  # else it was not two that did it


@pytest.mark.slow
def test_batches_of_unequal_size_are_scored_by_processes_that_share_the_weights() -> None:
    """Of a model wide enough for DeepSpeed to divide its output layer, which is asked several times for a batch."""
    engine = PLAIN.model_copy(update={"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True})
    recipe = RECIPE.model_copy(update={"engine": engine, "epochs": 1})
    one, two = (trained(recipe, count, width=512, logits=5_000) for count in (1, 2))
    assert two["before"] == one["before"]
    assert two["points"] == pytest.approx(one["points"], rel=1e-4)
    assert len(two["points"]) == 2


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny study, sampled, with a checkpoint after each step of its training."""
    study = yaml.safe_load((ROOT / "tests" / "smoke.yaml").read_text(encoding="utf-8"))
    for section in ("pretrain", "adapt"):
        study[section]["engine"]["checkpoint_minutes"] = 1e-6
    folder = tmp_path_factory.mktemp("together") / "project"
    made = Project(folder, "smoke", {"smoke": study}, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    made.run("odyssey", "sample")
    return made


def hashes(copy: Project, *stages: str) -> dict[str, str]:
    """sha256 of what stages made, without manifests, which say how many processes did it."""
    files = copy.files(*(f"smoke/{stage}" for stage in stages))
    return {name: sha256(path) for name, path in files.items() if path.name != "manifest.json"}


@pytest.mark.slow
def test_a_study_by_two_processes(copy: Project) -> None:
    data = copy.folder / "data" / "smoke"
    said = copy.run("odyssey", "pretrain", "--processes", "2")
    assert said.count("pretrain one: 8,624 parameters") == said.count("2 of 2 models to do") == 1
    assert read_manifest(data / "pretrain" / "one")["how"]["processes"] == 2
    copy.run("odyssey", "embed", "--processes", "2")
    said = copy.run("torchrun", "--nproc-per-node", "2", "-m", "odyssey", "adapt", "--model", "one")
    assert said.count("adapt one: 4 of 4 domains to do") == 1
    for stage in ("evaluate", "tokens"):
        copy.run("odyssey", stage, "--model", "one", "--processes", "2")
    together = hashes(copy, "embed", "evaluate", "tokens")
    # Embedded and scored again by one process, from the same checkpoints: the same bytes.
    for stage in ("embed", "evaluate", "tokens"):
        (data / stage).rename(data / f"{stage} by two")
    copy.run("odyssey", "embed")
    for stage in ("evaluate", "tokens"):
        copy.run("odyssey", stage, "--model", "one")
    assert hashes(copy, "embed", "evaluate", "tokens") == together
    assert len(together) == 5 * 2 + 4 * 5 + 4 * 4


@pytest.mark.slow
def test_deepspeeds_launcher_does_as_well(copy: Project) -> None:
    copy.run("odyssey", "pretrain")
    copy.environment["DS_ACCELERATOR"] = "cpu"
    said = copy.run(
        *("deepspeed", "--num_gpus", "2", "--no_local_rank", "--module", "odyssey"),
        *("adapt", "--model", "two", "--domain", "click"),
    )
    assert said.count("adapt two: 1 of 1 domains to do, 0 kept") == 1
    assert read_manifest(copy.folder / "data" / "smoke" / "adapt" / "two" / "click")["how"]["processes"] == 2


def forget(copy: Project) -> None:
    """Remove a cell and what is there of its training."""
    for place in ("adapt/two/jinja2", "unfinished"):
        shutil.rmtree(copy.folder / "data" / "smoke" / place, ignore_errors=True)


def started(copy: Project) -> subprocess.Popen[str]:
    """`odyssey adapt` by two processes, from nothing, once there is a checkpoint to go on from."""
    forget(copy)
    command = ["odyssey", "adapt", "--model", "two", "--domain", "jinja2", "--processes", "2"]
    process = subprocess.Popen(
        command,
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    kept = copy.folder / "data" / "smoke" / "unfinished"
    deadline = time.monotonic() + 120
    while not list(kept.glob("*/step-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def worker(process: subprocess.Popen[str], rank: int) -> int:
    """Process id of one of those that `odyssey ... --processes` started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and f"RANK={rank}" in (folder / "environ").read_text().split("\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process {rank}")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["all of them", "one of them"])
def test_a_request_to_end_is_heeded_by_all_at_once(copy: Project, to: str) -> None:
    copy.run("odyssey", "pretrain")
    process = started(copy)
    if to == "all of them":
        process.send_signal(signal.SIGTERM)
    else:
        os.kill(worker(process, 1), signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == os.EX_TEMPFAIL, said
    assert "which is kept" in said
    assert "Traceback" not in said
    said = copy.run("odyssey", "adapt", "--model", "two", "--domain", "jinja2", "--processes", "2")
    assert "two on jinja2: goes on after step" in said


def listening(pids: set[int]) -> set[str]:
    """Addresses, as /proc/net has them, that processes listen on."""
    files = [file for pid in pids for file in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {match[1] for file in files if (match := re.match(r"socket:\[(\d+)\]", str(file.readlink())))}
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


@pytest.mark.slow
def test_where_one_is_killed_the_others_end_and_say_so(copy: Project) -> None:
    process = started(copy)
    # Until then, nobody else can reach them: 127.0.0.1 only.
    assert listening({process.pid, worker(process, 0), worker(process, 1)}) == {"0100007F"}
    os.kill(worker(process, 1), signal.SIGKILL)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGKILL
    assert "process 2 of 2 was ended by SIGKILL" in said
    assert "Traceback" not in said
    said = copy.run("odyssey", "adapt", "--model", "two", "--domain", "jinja2", "--processes", "2")
    assert "two on jinja2: goes on after step" in said


def children(pid: int) -> set[int]:
    """Processes that one has started, by their ids."""
    return {int(k) for k in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def gone(pids: set[int], seconds: float = 60) -> bool:
    """Whether these end in time; one that has ended and waits to be asked how has no words."""
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(copy: Project) -> None:
    process = started(copy)
    own = {worker(process, 0), worker(process, 1)}
    process.kill()
    process.communicate()
    assert gone(own)
    said = copy.run("odyssey", "adapt", "--model", "two", "--domain", "jinja2", "--processes", "2")
    assert "two on jinja2: goes on after step" in said


@pytest.mark.slow
def test_a_second_request_to_end_is_heeded_at_once(copy: Project) -> None:
    process = started(copy)
    own = {worker(process, 0), worker(process, 1)}
    os.kill(worker(process, 1), signal.SIGSTOP)  # so that it never comes to where all end
    process.send_signal(signal.SIGTERM)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == os.EX_TEMPFAIL, said
    assert "Traceback" not in said
    assert gone(own)


@pytest.mark.slow
def test_a_closed_terminal_is_ignored_under_nohup(copy: Project) -> None:
    forget(copy)
    command = ["nohup", "odyssey", "adapt", "--model", "two", "--domain", "jinja2", "--processes", "2"]
    with subprocess.Popen(
        command, cwd=copy.folder, env=copy.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while len(children(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said


def test_there_is_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_gpus", lambda: 2)
    monkeypatch.setattr(together, "launch", lambda count, _: pytest.fail(f"started {count}"))
    said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "adapt", "--processes", "4"])
    assert said.exit_code == 2
    assert "--processes 4: each has a GPU of its own, and there are 2" in said.stderr


@pytest.mark.slow
def test_what_is_wrong_is_said_once(copy: Project) -> None:
    said = copy.run("odyssey", "adapt", "--model", "three", "--processes", "2", status=1)
    assert said.count("no model 'three'") == 1
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_stage_for_one_process_refuses_more(copy: Project) -> None:
    said = copy.run("torchrun", "--nproc-per-node", "2", "-m", "odyssey", "similarity", status=1)
    assert "similarity: one process does it; start it as `odyssey similarity`, without a launcher" in said
