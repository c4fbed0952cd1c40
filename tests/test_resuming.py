"""Training that is interrupted, or that memory, disk or numbers fail: what is kept, and that it goes on exactly."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import TEXTS
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from odyssey import engine, models, scoring, tokenization, training
from odyssey.allocation import fitting
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.science.cost import resumable
from odyssey.sections import Architecture, Engine, Recipe
from odyssey.signals import held
from odyssey.training import Trained, train
from odyssey.unfinished import Unfinished, discard, unfinished
from odyssey.watching import Unwatched

DATA = np.random.default_rng(0).integers(0, 250, size=(18, 16))
ENGINES: list[dict[str, Any]] = [
    {},
    {"zero_stage": 1},
    {"zero_stage": 2, "offload_optimizer": True, "activation_checkpointing": True},
    {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True, "activation_checkpointing": True},
]
NAMES = ["zero 0", "zero 1", "zero 2, offloaded", "zero 3, offloaded"]


@pytest.fixture(autouse=True)
def _heeding() -> Iterator[None]:
    """Python's own answer to Ctrl-C, also where these tests run in a shell's background, in which it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def recipe(change: dict[str, Any], precision: str = "float32", epochs: int = 2) -> Recipe:
    """Batches of four in two micro-batches; an epoch is of four and a half."""
    fits = {"micro_batch_size": 4, "zero_stage": 0, "activation_checkpointing": False, "checkpoint_minutes": 60}
    engine = Engine.model_validate({**fits, "offload_optimizer": False, "offload_parameters": False, **change})
    usual = {"epochs": epochs, "batch_size": 4, "schedule": "cosine", "warmup": 0.2, "weight_decay": 0.1}
    return Recipe.model_validate({**usual, "gradient_clipping": 1.0, "precision": precision, "engine": engine})


class Signalled(Unwatched):
    """Sends this process a signal once so many steps are done, as Ctrl-C or a scheduler would."""

    def __init__(self, after: int) -> None:
        self._after = after
        self.told: list[int] = []

    def step(self, step: int, nll: float, learning_rate: float) -> None:
        self.told.append(step)
        if step == self._after:
            signal.raise_signal(signal.SIGINT)


def run(checkpoint: Path, how: Recipe, **options: Any) -> tuple[Trained, PreTrainedModel]:
    """Train with dropout, shuffled epochs and probes."""
    network, _ = models.load(checkpoint, how.precision)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2

    def probe(step: int) -> list[float]:
        return [float(scoring.token_nll(network, DATA[:3].ravel(), 16, 64).mean(dtype=float)), float(step)]

    trained = train(
        network,
        DATA,
        how,
        1e-2,
        3,
        label="test",
        shuffle=np.random.default_rng(5),
        probe=probe,
        probe_steps=(0, 4, 5, 10),
        **options,
    )
    return trained, network


def same(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether all weights are equal, bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", ENGINES, ids=NAMES)
def test_what_goes_on_comes_out_bit_for_bit(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    how = recipe(change, precision)
    expected, network = run(checkpoint, how)
    assert len(expected.steps) == 10
    for after in (3, 4, 7, 10):
        with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "kept", {"a": 1}, math.inf) as kept:
            run(checkpoint, how, kept=kept, watched_by=Signalled(after))
        assert f"test: interrupted after step {after} of 10, which is kept" in capsys.readouterr().out
        torch.rand(after)  # what else was drawn in a process makes no difference
        watcher = Signalled(0)
        with unfinished(tmp_path / "kept", {"a": 1}, math.inf) as kept:
            again, other = run(checkpoint, how, kept=kept, watched_by=watcher)
        assert f"test: goes on after step {after} of 10" in capsys.readouterr().out
        assert again == expected
        assert same(network, other)
        assert watcher.told == list(range(1, 11))
        assert not (tmp_path / "kept").exists()


def test_after_the_last_step_a_signal_waits_for_the_result(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint comes after it: what is left to do is less than all since the last one."""
    expected, network = run(checkpoint, recipe({}))
    usual = engine.end
    placed: list[tuple[Trained, PreTrainedModel]] = []

    def end(engine: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        usual(engine)

    def interrupted() -> None:
        with unfinished(tmp_path / "kept", {}, math.inf) as kept:
            placed.append(run(checkpoint, recipe({}), kept=kept))

    monkeypatch.setattr(engine, "end", end)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((trained, other),) = placed
    assert trained == expected
    assert same(network, other)
    assert not (tmp_path / "kept").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checkpoint_comes_when_it_is_due_and_the_newest_stays(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Looking(Unwatched):
        def step(self, step: int, nll: float, learning_rate: float) -> None:
            seen.append([folder.name for folder in tmp_path.glob("kept/step-*")])

    with unfinished(tmp_path / "kept", {}, 1e-9) as kept:
        trained, network = run(checkpoint, recipe({}), kept=kept, watched_by=Looking())
    # Written before what is probed after the same step.
    places = [f"step-{k:09d}-{points:04d}" for k, points in enumerate([1, 1, 1, 1, 2, 3, 3, 3, 3], start=1)]
    assert seen == [[], *([place] for place in places)]
    assert len(trained.steps) == 10
    assert same(network, run(checkpoint, recipe({}))[1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", ENGINES, ids=NAMES)
def test_a_checkpoint_takes_what_is_planned(
    tmp_path: Path, change: dict[str, Any], precision: Literal["float32", "bfloat16"]
) -> None:
    tokenizer = tokenization.train_tokenizer(TEXTS, 300, 16)
    network = models.new_model(Architecture(layers=2, width=128, heads=2, context=16, vocabulary=300), tokenizer, 0)
    network.to(getattr(torch, precision))
    how = recipe(change, precision)
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "kept", {}, 1) as kept:
        train(network, DATA, how, 1e-3, 0, label="test", watched_by=Signalled(2), kept=kept)
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*.pt"))
    each = resumable(precision, change.get("zero_stage", 0))
    assert taken == pytest.approx(each * models.parameters(network), rel=0.03)


@pytest.mark.parametrize("what", ["damaged", "other settings"])
def test_what_does_not_hold_is_named_and_not_used(
    checkpoint: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "kept", {"a": 1}, math.inf) as kept:
        run(checkpoint, recipe({}), kept=kept, watched_by=Signalled(6))
    (folder,) = tmp_path.glob("kept/step-*")
    (state,) = folder.rglob("mp_rank*.pt")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    if what == "damaged":
        state.write_bytes(content)
    with unfinished(tmp_path / "kept", {"a": 1 if what == "damaged" else 2}, math.inf) as kept:
        trained, network = run(checkpoint, recipe({}), kept=kept)
    assert f"{folder}: not used" in capsys.readouterr().out
    expected, other = run(checkpoint, recipe({}))
    assert trained == expected
    assert same(network, other)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with unfinished(tmp_path / "kept", {}, 1), pytest.raises(OdysseyError, match="another process trains this now"):
        unfinished(tmp_path / "kept", {}, 1).__enter__()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Not taken for another process; and what such a one may be writing is left alone."""
    layout = Layout(tmp_path)
    place = layout.unfinished("adapt", "tiny", "click")
    place.mkdir(parents=True)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OdysseyError, match="files cannot be locked there"):
        unfinished(tmp_path / "kept", {}, 1).__enter__()
    with pytest.raises(OdysseyError, match="files cannot be locked there"):
        discard(layout, "adapt")
    assert place.exists()


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), unfinished(tmp_path / "kept", {}, 1):
        raise ValueError("x")
    assert not (tmp_path / "kept").exists()


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine, "save", fail)
    with unfinished(tmp_path / "kept", {}, 1e-9) as kept:
        trained, _ = run(checkpoint, recipe({}), kept=kept)
    assert len(trained.steps) == 10
    assert "test: no checkpoint could be written after step 1: [Errno 28] No space left" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "kept", {}, math.inf) as kept:
        run(checkpoint, recipe({}), kept=kept, watched_by=Signalled(3))
    said = capsys.readouterr()
    assert "no checkpoint could be written after step 3" in said.err
    assert "is kept" not in said.out


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", ENGINES, ids=NAMES)
def test_a_batch_that_does_not_fit_is_made_of_smaller_ones(
    checkpoint: Path,
    change: dict[str, Any],
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual, tried = training._loss, []

    def crowded(engine: Any, x: torch.Tensor) -> torch.Tensor:
        tried.append(len(x))
        if len(tried) == 8:  # after three steps and a half, whose gradients are there, something else takes the memory
            usual(engine, x)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return usual(engine, x)

    def undropped(how: Recipe) -> tuple[Trained, PreTrainedModel]:
        network, _ = models.load(checkpoint, how.precision)  # without dropout, which differs by micro-batch
        return train(network, DATA, how, 1e-2, 3, label="test"), network

    change = {**change, "micro_batch_size": 2}
    whole, network = undropped(recipe(change, precision, epochs=1))
    monkeypatch.setattr(training, "_loss", crowded)
    halved, other = undropped(recipe(change, precision, epochs=1))
    assert tried == [2] * 8 + [1] * 4 + [1] * 2  # the last batch of the epoch is of two
    assert halved.micro_batch_size == 1
    assert "test: out of memory at step 4; micro-batches of 1 from here on" in capsys.readouterr().err
    tolerance = 1e-5 if precision == "float32" else 1e-2
    assert [step.nll for step in halved.steps] == pytest.approx([step.nll for step in whole.steps], rel=tolerance)
    assert [step[:2] for step in halved.steps] == [step[:2] for step in whole.steps]
    x = torch.from_numpy(DATA)
    with torch.inference_mode():
        torch.testing.assert_close(other(x).logits, network(x).logits, rtol=30 * tolerance, atol=30 * tolerance)


def test_what_goes_on_after_memory_was_short_has_the_smaller_micro_batches(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, tried = training._loss, []

    def crowded(engine: Any, x: torch.Tensor) -> torch.Tensor:
        tried.append(len(x))
        if len(tried) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(engine, x)

    monkeypatch.setattr(training, "_loss", crowded)
    expected, network = run(checkpoint, recipe({}))
    assert expected.micro_batch_size == 2
    tried.clear()
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "kept", {}, math.inf) as kept:
        run(checkpoint, recipe({}), kept=kept, watched_by=Signalled(4))
    with unfinished(tmp_path / "kept", {}, math.inf) as kept:
        again, other = run(checkpoint, recipe({}), kept=kept)
    assert again == expected
    assert same(network, other)


def test_memory_that_does_not_hold_one_sequence_is_an_end(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(engine: Any, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "_loss", crowded)
    with pytest.raises(torch.OutOfMemoryError):
        run(checkpoint, recipe({}))


def test_an_update_that_may_be_half_made_is_not_made_again(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = models.load(checkpoint)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(training, "is_out_of_memory", lambda error: True)
    with pytest.raises(ZeroDivisionError):
        train(network, DATA, recipe({}), 1e-2, 0, label="test")


def test_numbers_that_run_away_end_training(checkpoint: Path) -> None:
    network, _ = models.load(checkpoint)
    with pytest.raises(
        OdysseyError, match=r"test: the loss is [\d.]+ at step \d, guessing evenly would cost 5\.\d\d; "
    ):
        train(network, DATA, recipe({}), 1e2, 0, label="test")


def test_weights_that_are_not_numbers_are_no_result(checkpoint: Path) -> None:
    network, _ = models.load(checkpoint)

    class Breaking(Unwatched):
        def step(self, step: int, nll: float, learning_rate: float) -> None:
            if step == 5:  # the last one: no later loss tells
                next(network.parameters()).data.fill_(math.nan)

    with pytest.raises(OdysseyError, match="test: weights are not finite after step 5; lower the learning rate"):
        train(network, DATA, recipe({}, epochs=1), 1e-2, 0, label="test", watched_by=Breaking())
    with pytest.raises(OdysseyError, match="test: the loss is not finite after step 0"):
        train(network, DATA, recipe({}), 1e-2, 0, label="test", probe=lambda _: [math.inf], probe_steps=(0,))


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_what_does_not_fit_is_done_in_parts(batch: Sequence[int], room: int) -> None:
    def twice(some: Sequence[int]) -> np.ndarray:
        if len(some) > room:
            raise torch.OutOfMemoryError("out of memory")
        return np.array([[2 * value] for value in some], dtype=object)

    if batch:
        assert fitting(twice, "rows")(batch)[:, 0].tolist() == [2 * value for value in batch]


def test_scoring_that_does_not_fit_is_done_in_parts(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, _ = models.load(checkpoint)
    expected = scoring.token_nll(network, DATA.ravel(), 16, 256)
    usual = network.base_model.forward

    def crowded(**inputs: Any) -> Any:
        if inputs["input_ids"].numel() > 64:
            torch.empty(1 << 50)  # PyTorch's own error of a machine whose memory is full
        return usual(**inputs)

    monkeypatch.setattr(network.base_model, "forward", crowded)
    np.testing.assert_allclose(scoring.token_nll(network, DATA.ravel(), 16, 256), expected, rtol=1e-5)
    assert "out of memory: at most 4 windows at once from here on" in capsys.readouterr().err


def test_a_second_signal_does_not_wait() -> None:
    reached: list[int] = []

    def interrupted(times: int) -> None:
        with held():
            for k in range(times):
                signal.raise_signal(signal.SIGINT)
                reached.append(k)

    with pytest.raises(KeyboardInterrupt):
        interrupted(2)
    assert reached == [0]
    with pytest.raises(KeyboardInterrupt):
        interrupted(1)
    assert reached == [0, 0]

    def within() -> None:
        with held():
            interrupted(2)
            reached.append(9)

    with pytest.raises(KeyboardInterrupt):
        within()
    assert reached == [0, 0, 0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failed_write_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    state = Unfinished(tmp_path, {}, 1)
    state.save("000000001-0000", lambda folder: (folder / "a").write_text("1"))

    def fail(folder: Path) -> None:
        (folder / "a").write_text("2")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        state.save("000000002-0000", fail)
    newest = state.newest()
    assert newest is not None
    assert (newest / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001-0000"]
