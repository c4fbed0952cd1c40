"""Training by DeepSpeed: the one module that imports it.

The same code runs on a CPU without a launcher and on a GPU. The optimiser is torch's,
so nothing has to be compiled.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from odyssey.allocation import keep_freed_memory
from odyssey.errors import OdysseyError
from odyssey.progress import bar, doing, verbose
from odyssey.sections import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Step(NamedTuple):
    """One optimiser step: tokens seen so far, the batch's mean NLL (nats per token) before it, and its rate."""

    step: int
    tokens: int
    nll: float
    learning_rate: float


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
    probe: Callable[[int], None] | None = None,
    probe_steps: Sequence[int] = (),
    on_step: Callable[[Step], None] | None = None,
) -> list[Step]:
    """Train a model, in place, on blocks (n, context) of token ids.

    Sequences come in their order, or reshuffled for each epoch by `shuffle`; `seed` is for
    dropout, where the model has any. `probe(step)` is called with the model in evaluation mode
    once that many steps are done, for each of `probe_steps`, 0 included; `on_step` is told of every step.

    Raises OdysseyError on a loss that is not finite, naming `label` and the step.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _train(model, blocks, recipe, learning_rate, label, shuffle, probe, probe_steps, on_step)


def _train(
    model: PreTrainedModel,
    blocks: np.ndarray,
    recipe: Recipe,
    learning_rate: float,
    label: str,
    shuffle: np.random.Generator | None,
    probe: Callable[[int], None] | None,
    probe_steps: Sequence[int],
    on_step: Callable[[Step], None] | None,
) -> list[Step]:
    import torch

    with doing("starting DeepSpeed"):
        engine = _engine(model, recipe, learning_rate, n_steps(len(blocks), recipe))
    steps: list[Step] = []
    tokens = 0

    def look(step: int) -> None:
        if probe is not None and step in probe_steps:
            model.eval()
            probe(step)
        model.train()

    look(0)
    with bar(None, label, total=blocks.size * recipe.epochs, unit="tok") as progress:
        for _ in range(recipe.epochs):
            order = shuffle.permutation(len(blocks)) if shuffle is not None else np.arange(len(blocks))
            for k in range(0, len(order), recipe.batch_size):
                ids = torch.from_numpy(blocks[order[k : k + recipe.batch_size]])  # (B, T)
                batch = ids.to(engine.device).long()
                used = float(engine.get_lr()[0])
                nll = _step(engine, batch, recipe.engine.micro_batch_size)
                if not math.isfinite(nll):
                    raise OdysseyError(
                        f"{label}: the loss is {nll} at step {len(steps) + 1}; "
                        f"lower the learning rate ({learning_rate})"
                    )
                tokens += batch.numel()
                steps.append(Step(len(steps) + 1, tokens, nll, used))
                if on_step is not None:
                    on_step(steps[-1])
                progress.update(batch.numel())
                look(len(steps))
    model.eval()
    engine.destroy()
    return steps


def _step(engine: Any, batch: torch.Tensor, micro: int) -> float:
    """One optimiser step on batch (B, T), `micro` sequences at a time; its mean NLL before the step.

    Nothing is learned from a batch whose NLL is not finite.
    """
    nll = 0.0
    for start in range(0, len(batch), micro):
        x = batch[start : start + micro]  # (b, T)
        # Sequences have one length, so that weighting by their number gives the batch's mean.
        loss = _loss(engine, x) * (len(x) / len(batch))
        nll += float(loss.item())
        if not math.isfinite(nll):
            return nll
        engine.set_gradient_accumulation_boundary(start + micro >= len(batch))
        engine.backward(loss)
        engine.step()
    return nll


def _loss(engine: Any, x: torch.Tensor) -> torch.Tensor:
    """Mean NLL of x (B, T): each token but a row's first, given those before it."""
    import torch

    logits = engine(input_ids=x, use_cache=False).logits  # (B, T, V)
    # The last position has no target. Cutting it off would copy all logits, and again their gradient.
    targets = torch.nn.functional.pad(x[:, 1:], (0, 1), value=-100)  # (B, T)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _engine(model: PreTrainedModel, recipe: Recipe, learning_rate: float, steps: int) -> Any:
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
        keep_freed_memory()
    level = logging.INFO if verbose() else logging.ERROR
    logging.getLogger("DeepSpeed").setLevel(level)
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(level)
    # DeepSpeed would ask compilers which of its C++ parts can be built, and build one for
    # collectives between processes of a machine. None is used here, and a machine may have no
    # compiler: the answer is given beforehand.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    _single_process()
    if recipe.engine.activation_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.95), fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps, recipe))
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        config=deepspeed_config(recipe),
    )
    if engine.dp_world_size == 1 and recipe.engine.zero_stage == 0:
        engine.enable_backward_allreduce = False  # nobody else's to add, and all would be copied for it
    return engine


def deepspeed_config(recipe: Recipe) -> dict[str, Any]:
    """DeepSpeed's configuration of a recipe. Micro-batches are added up in `_step`, not by DeepSpeed:
    it counts on whole batches, and the last one of an epoch may be small."""
    zero: dict[str, Any] = {"stage": recipe.engine.zero_stage}
    if recipe.engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": recipe.engine.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.gradient_clipping,
        "bf16": {"enabled": recipe.precision == "bfloat16"},
        "zero_optimization": zero,
        # The optimiser is torch's on the machine's side too: DeepSpeed's own would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }


def _single_process() -> None:
    """Say what a launcher would, if none did: one process on this machine."""
    if "RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
