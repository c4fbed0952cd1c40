"""What is there to work with runs out or goes: disk, memory, numbers, a GPU, a hub."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hub import Hub, hub_fixture
from huggingface_hub import constants

from faults.conftest import Row
from faults.disturbed import STUDY, Study, count_steps
from odyssey.corpora import retries
from odyssey.corpora.hub import MODEL_FILES, fetch_all
from odyssey.errors import OdysseyError

__all__ = ["hub_fixture"]

pytestmark = pytest.mark.slow

FULL = "the disk is full"
ON_SMALL_DISK = """
set -u
mount -t tmpfs -o size={size}k tmpfs {place} || exit 99
cp -r {inputs}/. {place}/ || exit 98
df -k {place} | tail -1
{python} -m odyssey --data {data} {stage}; echo "status $?"
find {place} -name '*.tmp' | sed 's/^/left /'
mount -o remount,{then} {place}
{python} -m odyssey --data {data} {stage}; echo "status $?"
mount -o remount,rw,size=1g {place}
{python} -m odyssey --data {data} {stage} || exit 97
cp -r {place}/{stage} {result}
"""
"""A disk in memory that only this script sees; without that right the test cannot be made."""
NEEDED = {
    "sample": [],
    "pretrain": ["sample"],
    "embed": ["sample"],
    "adapt": ["sample", "pretrain"],
    "evaluate": ["sample", "pretrain", "adapt"],
    "tokens": ["sample", "pretrain", "adapt"],
}
"""What a stage reads."""


@pytest.mark.parametrize("stage", NEEDED)
def test_a_disk_that_is_full_and_then_read_only(study: Study, row: Row, stage: str, tmp_path: Path) -> None:
    row.fault = f"full disk, then read-only, {stage}"
    row.repeated = "the cell in work"
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in NEEDED[stage]:
        shutil.copytree(study.data / name, inputs / name)
    needed, made = _kilobytes(inputs), _kilobytes(study.data / stage)
    for share in (0.1, 0.4, 0.7):
        place = tmp_path / f"disk{share}" / STUDY
        place.mkdir(parents=True)
        result = tmp_path / f"result{share}"
        script = ON_SMALL_DISK.format(
            size=round(needed + share * made),
            place=shlex.quote(str(place)),
            inputs=shlex.quote(str(inputs)),
            data=shlex.quote(str(place.parent)),
            result=shlex.quote(str(result)),
            python=shlex.quote(sys.executable),
            stage=stage,
            then="ro",
        )
        command = ["unshare", "--mount", "--map-root-user", "bash", "-c", script]
        done = subprocess.run(
            command, cwd=study.folder, env=study.project.environment, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        if done.returncode == 99:
            pytest.skip("no right to mount a disk here")
        assert done.returncode == 0, said
        assert "Traceback" not in said
        assert done.stdout.count("status 1") == 2, said
        assert FULL in said
        assert "read-only" in said.lower(), said
        assert "left " not in done.stdout, said
        row.tries += 1
        row.survived += 1
        shutil.copytree(result, study.data / f"{stage}-disk")
        row.equal += _same(study, stage)
        shutil.rmtree(study.data / f"{stage}-disk")


def _same(study: Study, stage: str) -> bool:
    return study.hashes(f"{stage}-disk") == study.expected[stage]


def _kilobytes(folder: Path) -> float:
    """What files take on a disk in memory, which counts their pages."""
    return sum(4 * -(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


# --- memory


LITTLE_MEMORY = """
import json, resource, sys
import numpy as np, torch
from odyssey import models, tokenization, training
from odyssey.sections import Architecture, Engine, Recipe

torch.set_num_threads(1)
models.quieten()
micro, room = int(sys.argv[1]), int(sys.argv[2])
shape = Architecture(layers=1, width=32, heads=2, context=32, vocabulary=300)
tokenizer = tokenization.train_tokenizer([f"row {k} of a frame" for k in range(200)], 300, 32)
network = models.new_model(shape, tokenizer, 0)
engine = Engine(micro_batch_size=micro, zero_stage=0, offload_optimizer=False, offload_parameters=False,
                activation_checkpointing=False, checkpoint_minutes=60)
recipe = Recipe(epochs=1, batch_size=4096, schedule="constant", warmup=0.0, weight_decay=0.0, gradient_clipping=1.0,
                precision="float32", engine=engine)
blocks = np.random.default_rng(0).integers(0, len(tokenizer), (8192, 32)).astype(np.int32)
usual = training._Run._start
def limited(self):
    usual(self)
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + room * 2**20, -1))
if room:
    training._Run._start = limited
trained = training.train(network, blocks, recipe, 1e-3, 0, label="test")
weights = torch.cat([p.detach().flatten() for p in network.parameters()])
print(json.dumps([trained.micro_batch_size, [s.nll for s in trained.steps], weights.double().norm().item()]))
"""


def test_memory_that_is_too_little(study: Study, row: Row) -> None:
    """The machine's own allocator refuses: a limit on the process's addresses, as a cluster sets it."""
    row.fault, row.repeated = "out of memory in a batch (equal up to rounding)", "the batch"

    def run(micro: int, room: int) -> tuple[list[Any], str]:
        command = [sys.executable, "-c", LITTLE_MEMORY, str(micro), str(room)]
        done = subprocess.run(command, env=study.project.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    for room in (300, 600):
        found, said = run(4096, room)
        assert found[0] < 4096
        assert f"micro-batches of {found[0]} from here on" in said
        row.tries += 1
        row.survived += 1
        size, losses, weights = run(found[0], 0)[0]  # what that size gives from the start
        row.equal += found == [size, pytest.approx(losses, rel=1e-6), pytest.approx(weights, rel=1e-5)]


# --- numbers, GPU, hub


def lose_gpu() -> None:
    """Have the GPU go in the middle of a step, as PyTorch tells it."""
    from odyssey import training

    count_steps()
    usual = training._Run._update
    made = []

    def update(self: Any, batch: Any) -> float:
        made.append(1)
        nll = usual(self, batch)
        if len(made) == 7:
            import torch

            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
        return nll

    training._Run._update = update  # type: ignore[method-assign]


@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_a_gpu_is_lost(study: Study, row: Row, stage: str) -> None:
    row.fault = f"GPU lost, {stage} (PyTorch's error raised)"
    study.seconds(stage)
    steps = study.steps()
    study.forget(stage)
    status, said = study.run(stage, lose_gpu)
    assert (status, "Traceback" in said) == (1, False), said
    assert "Error: the GPU no longer works (CUDA error: unspecified launch failure): run the command again" in said
    status, said = study.run(stage, count_steps)
    assert status == 0, said
    row.tries, row.survived, row.equal = 1, 1, int(study.same(stage))
    row.repeated = f"{study.steps() - steps} optimiser step of {steps}"


def explode() -> None:
    """Train with a learning rate that is far too large."""
    from odyssey import training

    usual = training.rate
    training.rate = lambda *arguments: 1e5 * usual(*arguments)


def test_a_loss_that_explodes(study: Study, row: Row) -> None:
    row.fault, row.repeated = "loss that explodes, adapt", "the cell in work"
    study.forget("adapt")
    status, said = study.run("adapt", explode)
    assert (status, "Traceback" in said) == (1, False), said
    assert "lower the learning rate (0.002)" in said
    assert not study.whole("adapt")
    shutil.rmtree(study.data / "unfinished", ignore_errors=True)
    status, said = study.run("adapt")
    assert status == 0, said
    row.tries, row.survived, row.equal = 1, 1, int(study.same("adapt"))


def test_a_hub_that_does_not_answer(hub: Hub, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that come too late, for a while: tried again; for ever: one error, in bounded time, and later no loss."""
    row.fault, row.repeated = "hub that times out", "the request"
    files: dict[str, bytes | Path] = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4000}
    hub.add("team/model", "model", files)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(retries, "RETRY_DELAYS", (0.1, 0.2, 0.3))

    def fetched() -> dict[str, bytes]:
        folder = fetch_all("team/model", MODEL_FILES, "main", "model")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    for pattern in ("*/revision/*", "*config.json", "*model.safetensors"):
        hub.fail(pattern, times=None, delay=2)
        start = time.monotonic()
        with pytest.raises(OdysseyError, match="team/model") as caught:
            fetched()
        assert time.monotonic() - start < 20
        assert "\n" not in str(caught.value)
        hub.mend()
        hub.fail(pattern, times=2, delay=2)
        row.tries += 1
        row.survived += 1
        row.equal += fetched() == files
        hub.mend()
        shutil.rmtree(hub.home)
