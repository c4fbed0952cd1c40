"""Training a small GPT-2 on documentation strings: `odyssey.training.train` beside HF Trainer and a plain torch loop.

Each way has the same model, blocks of tokens in their order, optimiser and clipping, and the same
numbers come out. Each runs in a process of its own, whose start, imports and first two steps do not count:
a way is timed from its call, with the optimiser, engine or Trainer to be made, to the last step's
end. Takes about 10 minutes on two cores.

    python benchmarks/training.py [--steps 150]
"""

from __future__ import annotations

import copy
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import harness
import numpy as np
import scoring
import torch
from harness import OURS, Result, Run
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from odyssey import models, tokenization, training
from odyssey.science.windows import blocks
from odyssey.sections import Architecture, Engine, Recipe

SMALL = Architecture(layers=3, width=128, heads=4, context=128, vocabulary=2048)
"""The mini-study's larger model."""
LARGE = Architecture(layers=4, width=256, heads=4, context=256, vocabulary=8192)
"""One whose arithmetic outweighs what is around it."""
RATE = 2e-3
RECIPE = Recipe(
    epochs=1,
    batch_size=8,
    schedule="constant",
    warmup=0.0,
    weight_decay=0.0,
    gradient_clipping=1.0,
    precision="float32",
    engine=Engine(
        micro_batch_size=8,
        zero_stage=0,
        offload_optimizer=False,
        offload_parameters=False,
        activation_checkpointing=False,
        checkpoint_minutes=60,
    ),
)
"""The mini-study's adaptation."""
TOLERANCE = 1e-4
"""Of the mean loss, relative, and of the final weights, beside how far they moved (both root mean squares)."""
REACH = "1.3x Trainer; at most 3 % under the plain loop"


SHAPES = {"small": (SMALL, 1), "large": (LARGE, 15)}
"""And how many times fewer steps each makes."""


@click.command()
@click.option("--steps", default=150, help="Optimiser steps of the small model; the large one makes a fifteenth.")
@click.option("--way", hidden=True, help="One way by itself, in this process.")
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(steps: int, way: str | None, folder: Path | None) -> None:
    """Train both models in all ways."""
    harness.mend_torchvision()
    models.quieten()
    if way is not None and folder is not None:
        print(json.dumps(alone(way, folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        scoring.prepare(folder, mb=2.0)
        rows = (folder / "text.txt").read_text(encoding="utf-8").split("\n")
        results = [compare(shape, rows, -(-steps // fewer), folder / name) for name, (shape, fewer) in SHAPES.items()]
    harness.record("training", results)


def compare(shape: Architecture, rows: list[str], steps: int, folder: Path) -> Result:
    """All ways with one shape of model, for so many steps."""
    tokenizer = tokenization.train_tokenizer(rows[:5000], shape.vocabulary, shape.context)
    data = blocks(tokenization.encode(tokenizer, rows, "\n")[0], shape.context)[: steps * RECIPE.batch_size]
    assert len(data) == steps * RECIPE.batch_size, f"the text has only {len(data)} blocks"
    models.save(models.new_model(shape, tokenizer, seed=0), tokenizer, folder)
    np.save(folder / "data.npy", data)

    def run(way: str) -> Run:
        command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
        seconds, loss = harness.process(command).value
        return Run(seconds, value=(loss, torch.load(folder / f"{way}.pt")))

    return harness.alternate(
        f"{steps} steps of {RECIPE.batch_size} x {shape.context} tokens, {shape.layers} layers of width {shape.width}",
        REACH,
        {name: functools.partial(run, name) for name in WAYS},
        same,
    )


def alone(way: str, folder: Path) -> tuple[float, float]:
    """Seconds and mean loss of one way, after two steps that are not counted; how weights moved goes into a file."""
    # Ours as it is loaded by the package, which has the process keep freed memory; the others as one would.
    model = models.load(folder)[0] if way == OURS else AutoModelForCausalLM.from_pretrained(folder)
    data, start = np.load(folder / "data.npy"), flat(model)
    WAYS[way](copy.deepcopy(model), data[: 2 * RECIPE.batch_size], folder)
    done = harness.timed(lambda: WAYS[way](model, data, folder))
    torch.save(flat(model) - start, folder / f"{way}.pt")
    return done.seconds, done.value


def ours(model: Any, data: NDArray[np.int32], _: Path) -> float:
    """The package's; the mean NLL over steps."""
    log = training.train(model, data, RECIPE, RATE, 0, label="benchmark").steps
    return float(np.mean([step.nll for step in log]))


def plain(model: Any, data: NDArray[np.int32], _: Path) -> float:
    """What one would write by hand."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    model.train()
    losses = []
    for batch in torch.from_numpy(data).long().split(RECIPE.batch_size):
        logits = model(input_ids=batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.gradient_clipping)
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def trainer(model: Any, data: NDArray[np.int32], folder: Path) -> float:
    """HF Trainer, which is to save, show and log nothing; the mean loss that it reports."""
    from datasets import Dataset
    from transformers import PrinterCallback, Trainer, TrainingArguments
    from transformers.training_args import ParallelMode

    class InOrder(Trainer):
        """Takes the blocks as they come."""

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(dataset)

    # Of the labels that Trainer divides by, the first is not predicted.
    labels = data.astype(np.int64)
    labels[:, 0] = -100
    dataset = Dataset.from_dict({"input_ids": data, "labels": labels}).with_format("torch")
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=RECIPE.batch_size,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=RECIPE.gradient_clipping,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    assert arguments.parallel_mode == ParallelMode.NOT_PARALLEL, arguments.parallel_mode
    made = InOrder(model=model, args=arguments, train_dataset=dataset)
    made.remove_callback(PrinterCallback)
    return float(made.train().training_loss)


WAYS: dict[str, Callable[[Any, NDArray[np.int32], Path], float]] = {OURS: ours, "Trainer": trainer, "plain loop": plain}


def flat(model: Any) -> torch.Tensor:
    """All weights, in one row, of their own."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def same(values: Mapping[str, Any]) -> str:
    """Mean losses and final weights."""
    loss, moved = values[OURS]
    losses = max(abs(other / loss - 1) for other, _ in values.values())
    weights = max(float((other - moved).norm() / moved.norm()) for _, other in values.values())
    told = f"mean loss {loss:.4f}, the same to {losses:.0e}; final weights to {weights:.0e} of how far they moved"
    assert max(losses, weights) < TOLERANCE, told
    return told


if __name__ == "__main__":
    sys.exit(main())
