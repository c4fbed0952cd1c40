"""Run by as many processes as a launcher starts: trains and scores a tiny model; the first prints what came of it."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from odyssey import models, processes, scoring, tokenization
from odyssey.sections import Architecture, Recipe
from odyssey.training import train


def main(recipe: Recipe, width: int, logits: int) -> None:
    scoring.CPU_LOGITS = logits
    torch.set_num_threads(1)
    processes.join()
    models.quieten()
    shape = Architecture(layers=2, width=width, heads=2, context=32, vocabulary=300)
    tokenizer = tokenization.train_tokenizer([f"row {k} of a frame" for k in range(200)], 300, 32)
    network = models.new_model(shape, tokenizer, 0).to(getattr(torch, recipe.precision))
    # The last batch of an epoch has five sequences, which two processes cannot share evenly.
    blocks = np.random.default_rng(0).integers(0, len(tokenizer), (61, 32)).astype(np.int32)
    text = blocks.reshape(-1)[:700]
    before = scoring.texts_nll(network, [text, text[:40], text[:1], text[:0]], 32, 64)

    def probe(step: int) -> list[float]:
        return [float(scoring.token_nll(network, text, 32, 64).mean(dtype=float))]

    order = np.random.default_rng(1)
    rate = 0.32 / width
    trained = train(network, blocks, recipe, rate, 0, label="test", shuffle=order, probe=probe, probe_steps=(0, 5, 16))
    weights = torch.cat([one.detach().float().flatten() for one in network.parameters()])
    print(
        json.dumps(
            {
                "nll": [step.nll for step in trained.steps],
                "points": [point.values[0] for point in trained.points],
                "before": before.tolist(),
                "weights": weights[::50].tolist(),
            }
        )
    )


if __name__ == "__main__":
    main(Recipe.model_validate_json(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
