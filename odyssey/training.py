"""Training by optimiser steps that a killed run need not make again."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from odyssey import engine, models, processes
from odyssey.allocation import is_out_of_memory
from odyssey.errors import OdysseyError
from odyssey.progress import bar, doing
from odyssey.sections import Recipe
from odyssey.signals import held
from odyssey.store import read_json, write_json
from odyssey.unfinished import Unfinished
from odyssey.watching import Curves, Unwatched

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

EXPLODED = 2.0
"""A loss of so many times what guessing evenly costs, ln(vocabulary), ends training; a limit of ours."""
_LOG = "log.json"


class Step(NamedTuple):
    """One optimiser step: tokens seen so far, the batch's mean NLL (nats per token) before it, and its rate."""

    step: int
    tokens: int
    nll: float
    learning_rate: float


class Point(NamedTuple):
    """What was probed once so many steps were done."""

    step: int
    values: tuple[float, ...]


@dataclass
class Trained:
    """What a training run was like."""

    micro_batch_size: int
    """Sequences in one forward pass at its end: the recipe's, or what memory had room for."""
    steps: list[Step] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)


def n_steps(n_blocks: int, recipe: Recipe) -> int:
    """Optimiser steps that a recipe makes over so many sequences; the last batch of an epoch may be small."""
    return recipe.epochs * math.ceil(n_blocks / recipe.batch_size)


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """Factor on the learning rate at a step, counted from 0.

    Linear warm-up, then constant, linear to 0, or a half cosine to a tenth.
    """
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if recipe.schedule == "linear":
        return 1.0 - done
    if recipe.schedule == "cosine":
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
    return 1.0


def train(
    model: PreTrainedModel,
    blocks: np.ndarray,
    recipe: Recipe,
    learning_rate: float,
    seed: int,
    *,
    label: str,
    shuffle: np.random.Generator | None = None,
    probe: Callable[[int], Sequence[float]] | None = None,
    probe_steps: Sequence[int] = (),
    watched_by: Curves | None = None,
    kept: Unfinished | None = None,
) -> Trained:
    """Train a model, in place, on blocks (n, context) of token ids.

    Sequences come in their order, or reshuffled for each epoch by `shuffle`, a new generator; `seed`
    is for dropout, where the model has any. `probe(step)` is called with the model in evaluation mode
    once that many steps are done, for each of `probe_steps`, 0 included; what it returns is in the
    result. `watched_by` is told of all. `kept` gets a checkpoint now and then, and when a signal
    ends the run between two steps: called again with the same, training goes on from there, and what
    comes out is the same bit for bit. After the last step signals are held until `kept` is left.

    A batch that does not fit the memory is done again in micro-batches of half the size, and so are
    all after it: the same step up to rounding. Not so where several processes train together: there each has its
    share of every batch, and the same comes out as of one, up to rounding, where the model has no dropout.

    Raises OdysseyError, naming `label` and the step, on a loss that is not finite or that has
    exploded, and if weights are not finite in the end.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed + processes.rank())  # dropout of different sequences is not the same
        run = _Run(model, blocks, recipe, learning_rate, label, shuffle, watched_by or Unwatched(), kept)
        return run.to_end(probe, frozenset(probe_steps) if probe is not None else frozenset())


class _Run:
    def __init__(
        self,
        model: PreTrainedModel,
        blocks: np.ndarray,
        recipe: Recipe,
        learning_rate: float,
        label: str,
        shuffle: np.random.Generator | None,
        watched_by: Curves,
        kept: Unfinished | None,
    ) -> None:
        self._model, self._blocks, self._recipe, self._learning_rate = model, blocks, recipe, learning_rate
        self._label, self._watched_by, self._kept = label, watched_by, kept
        self._total = n_steps(len(blocks), recipe)
        self._shuffle, self._epoch, self._order = shuffle, -1, np.arange(len(blocks))
        self._exploded = EXPLODED * math.log(int(model.config.vocab_size))
        self._log = Trained(recipe.engine.micro_batch_size)
        self._engine: Any = None
        self._whole = False
        """Whether the model's state is that between two steps."""
        self._updating = False
        """Whether weights may have been changed in part."""

    def to_end(self, probe: Callable[[int], Sequence[float]] | None, probe_steps: frozenset[int]) -> Trained:
        self._begin(self._kept.newest() if self._kept is not None else None)
        while True:
            try:
                self._go_on(probe, probe_steps)
                if self._kept is not None:
                    self._kept.hold()
                break
            except KeyboardInterrupt:
                if self._whole and self._kept is not None and self._keep(self._kept):
                    print(f"{self._label}: interrupted after step {self._step} of {self._total}, which is kept")
                raise
            except (RuntimeError, MemoryError) as error:
                can_halve = not self._whole and not self._updating and self._log.micro_batch_size > 1
                # Alone: others would wait for this one's share of the batch.
                if not can_halve or not is_out_of_memory(error) or processes.count() > 1:
                    raise
            # Not in the handler: the error holds what was in memory.
            self._halve()
        self._model.eval()
        engine.end(self._engine)
        if not all(weights.isfinite().all() for weights in self._model.parameters()):
            raise OdysseyError(f"{self._label}: weights are not finite after step {self._step}; {self._remedy}")
        return self._log

    @property
    def _step(self) -> int:
        return len(self._log.steps)

    @property
    def _tokens(self) -> int:
        return self._log.steps[-1].tokens if self._log.steps else 0

    @property
    def _remedy(self) -> str:
        return f"lower the learning rate ({self._learning_rate})"

    def _begin(self, found: Path | None) -> None:
        """Start the engine, from a checkpoint if one was found, and tell who watches what was before."""
        log = read_json(found / _LOG) if found is not None else {}
        if halved := log.get("halved"):
            self._log.micro_batch_size = min(self._log.micro_batch_size, halved)
        with doing("starting DeepSpeed"):
            self._start()
        if found is not None:
            engine.load(self._engine, found)
            self._log.steps += (Step(*step) for step in log["steps"])
            self._log.points += (Point(step, tuple(values)) for step, values in log["points"])
            print(f"{self._label}: goes on after step {self._step} of {self._total}")
        for point in self._log.points:
            self._watched_by.point(*point)
        for step in self._log.steps:
            self._watched_by.step(step.step, step.nll, step.learning_rate)
        self._whole = True

    def _start(self) -> None:
        def factor(step: int) -> float:
            return rate(step, self._total, self._recipe)

        micro = self._log.micro_batch_size
        self._engine = engine.start(self._model, self._recipe, micro, self._learning_rate, factor)

    def _go_on(self, probe: Callable[[int], Sequence[float]] | None, probe_steps: frozenset[int]) -> None:
        left = self._blocks.size * self._recipe.epochs - self._tokens
        with bar(None, self._label, total=left, unit="tok") as progress:
            while True:
                probed = self._log.points and self._log.points[-1].step == self._step
                if probe is not None and self._step in probe_steps and not probed:
                    self._look(probe)
                if self._step == self._total:
                    return
                processes.together()
                self._model.train()
                before = self._tokens
                with held():
                    self._make_step()
                progress.update(self._tokens - before)
                if self._kept is not None and self._kept.due() and self._step < self._total:
                    self._keep(self._kept)

    def _look(self, probe: Callable[[int], Sequence[float]]) -> None:
        self._model.eval()
        point = Point(self._step, tuple(map(float, probe(self._step))))
        if not all(map(math.isfinite, point.values)):
            raise OdysseyError(f"{self._label}: the loss is not finite after step {self._step}; {self._remedy}")
        with held():
            self._log.points.append(point)
        self._watched_by.point(*point)

    def _make_step(self) -> None:
        import torch

        batch = torch.from_numpy(self._batch(self._step)).to(self._engine.device).long()  # (B, T)
        used = float(self._engine.get_lr()[0])
        self._whole = False
        nll = self._update(batch)
        if not nll < self._exploded:
            raise OdysseyError(
                f"{self._label}: the loss is {nll} at step {self._step + 1}, "
                f"guessing evenly would cost {self._exploded / EXPLODED:.2f}; {self._remedy}"
            )
        self._log.steps.append(Step(self._step + 1, self._tokens + batch.numel(), nll, used))
        self._whole = True
        self._watched_by.step(self._step, nll, used)

    def _batch(self, k: int) -> np.ndarray:
        """The k-th batch (B, T) of all. Epochs' orders are drawn one after the other, after an interruption anew."""
        size = self._recipe.batch_size
        epoch, place = divmod(k, self._total // self._recipe.epochs)
        while self._shuffle is not None and self._epoch < epoch:
            self._order = self._shuffle.permutation(len(self._blocks))
            self._epoch += 1
        return self._blocks[self._order[place * size : (place + 1) * size]]

    def _update(self, batch: torch.Tensor) -> float:
        """One optimiser step on batch (B, T), a micro-batch at a time; its mean NLL before the step.

        Nothing is learned from a batch whose NLL is not finite, or has exploded.
        """
        nll, micro = 0.0, self._log.micro_batch_size
        own = batch[processes.rank() :: processes.count()]
        most = math.ceil(len(batch) / processes.count())
        for start in range(0, most, micro):
            x = own[start : start + micro]  # (b, T)
            last = start + micro >= most
            # Sequences have one length, so that weighting by their number gives the batch's mean.
            weight = len(x) / len(batch)
            # A process that has none left makes the same calls as the others, with what counts nothing.
            loss = _loss(self._engine, x if len(x) else batch[:1]) * weight
            nll += float(loss.item())
            if last:
                nll = processes.summed(nll)
            if (last or processes.count() == 1) and not nll < self._exploded:
                return nll
            self._engine.set_gradient_accumulation_boundary(last)
            # DeepSpeed takes the mean over the processes.
            self._engine.backward(loss * processes.count() if processes.count() > 1 else loss)
            self._updating = last
            self._engine.step()
        self._updating = False
        return nll

    def _keep(self, kept: Unfinished) -> bool:
        """Write a checkpoint; returns whether there is one.

        Without one training goes on all the same: an interruption would cost more, no result.
        """
        try:
            with held():
                kept.save(f"{self._step:09d}-{len(self._log.points):04d}", self._write)
        except (OSError, RuntimeError) as error:
            if processes.count() > 1:  # the others wait for its part
                raise
            told = str(error).partition("\n")[0]
            print(f"{self._label}: no checkpoint could be written after step {self._step}: {told}", file=sys.stderr)
            kept.put_off()
            return False
        return True

    def _write(self, folder: Path) -> None:
        engine.save(self._engine, folder)
        micro = self._log.micro_batch_size
        halved = micro if micro < self._recipe.engine.micro_batch_size else None
        write_json(folder / _LOG, {"steps": self._log.steps, "points": self._log.points, "halved": halved})

    def _halve(self) -> None:
        """Begin the step again, with half the micro-batch in a new engine that has the old one's state."""
        models.free_memory()
        self._log.micro_batch_size //= 2
        print(
            f"{self._label}: out of memory at step {self._step + 1}; "
            f"micro-batches of {self._log.micro_batch_size} from here on, in batches of the same size",
            file=sys.stderr,
        )
        # Beside the checkpoints, if there are any: the system's own place may be memory.
        place = self._kept.folder if self._kept is not None else None
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=place) as folder:
            engine.save(self._engine, Path(folder))
            engine.end(self._engine)
            self._engine = None
            self._model.zero_grad()  # of the micro-batches that did fit
            models.free_memory()
            self._start()
            engine.load(self._engine, Path(folder))
        self._whole = True


def _loss(engine: Any, x: torch.Tensor) -> torch.Tensor:
    """Mean NLL of x (B, T): each token but a row's first, given those before it."""
    import torch

    logits = engine(input_ids=x, use_cache=False).logits  # (B, T, V)
    # The last position has no target. Cutting it off would copy all logits, and again their gradient.
    targets = torch.nn.functional.pad(x[:, 1:], (0, 1), value=-100)  # (B, T)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
