"""How the loops' time and memory grow with what they work on, over three decades: exponents on logarithmic axes.

    python benchmarks/growth.py [loop ...]

Each size is a process of its own, which warms the loop up before it is timed. Time without start-up should grow as
n; FD's in d as d^3, where d is large. Models are tiny: what is looked at is growth, not speed. Some 3 minutes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import harness
import numpy as np

TOLERANCE = 0.05
CONTEXT = 64
VOCABULARY = 300
DIMENSIONS = 128
BLOCK = 1000
BATCH = 16

Row = tuple[int, float, float]
"""n, seconds, and peak memory of the process in MB."""


def main() -> None:
    """Measure all loops or those named, or, with --one, be the process of one size."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("loops", nargs="*")
    command.add_argument("--one", nargs=2, metavar=("LOOP", "N"), help="of a process")
    asked = command.parse_args()
    if asked.one:
        loop, n = asked.one
        print(json.dumps(LOOPS[loop][0](int(n))))
        return
    growth = {loop: rows(loop) for loop in asked.loops or LOOPS}
    harness.record("growth", [], growth=growth)


def rows(loop: str) -> list[Row]:
    """A loop's rows; prints its exponents beside the reach."""
    found = []
    for n in LOOPS[loop][1]:
        run = harness.process([sys.executable, __file__, "--one", loop, str(n)], OMP_NUM_THREADS="1")
        found.append((n, float(run.value), run.peak_mb or 0.0))
    slope = exponent(found)
    said = "about 3 for large d" if loop == FRECHET else f"1 within {TOLERANCE}"
    verdict = "" if loop == FRECHET else ", met" if abs(slope - 1) <= TOLERANCE else ", NOT met"
    local = ", ".join(f"{exponent(pair):.2f}" for pair in pairwise(found))
    memory = f"{min(row[2] for row in found):.0f} to {max(row[2] for row in found):.0f} MB"
    print(f"{loop}: exponent {slope:.3f} (reach: {said}{verdict}), from size to size {local}; {memory}", flush=True)
    return found


def exponent(found: list[Row] | tuple[Row, ...]) -> float:
    """Slope of log seconds on log n, by least squares."""
    n, seconds, _ = np.log(np.array(found)).T
    return float(np.polyfit(n, seconds, 1)[0])


def _best(function: Callable[[], object], least: float = 0.5) -> float:
    """The shortest of as many runs as fill `least` seconds; at least one."""
    took: list[float] = []
    while sum(took) < least:
        took.append(harness.timed(function).seconds)
    return min(took)


# --- the loops: seconds for n


def _tokens(n: int) -> float:
    from odyssey.science.tokens import token_table

    rng = np.random.default_rng(0)
    ids = (1000 ** rng.random(n, dtype=np.float32)).astype(np.int32)  # about Zipf's law
    before = rng.random(n, dtype=np.float32)
    token_table(ids[:10], before[:10], before[:10])
    return _best(lambda: token_table(ids, before, before))


def _sampling(n: int) -> float:
    """One of 20 documents of 300 characters, from a .jsonl.gz."""
    from odyssey.corpora.sources import sample_local
    from odyssey.sections import LocalSource

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def draw(documents: int) -> Callable[[], object]:
            path = folder / f"{documents}.jsonl.gz"
            with gzip.open(path, "wb", compresslevel=1) as file:
                for start in range(0, documents, BLOCK):
                    some = range(start, min(documents, start + BLOCK))
                    file.write(b"".join(b'{"text": "%d %s"}\n' % (k, b"some text " * 30) for k in some))
            source = LocalSource(corpus="local", path=str(path), text="text", rows=max(1, documents // 20))
            return lambda: sample_local(source, Path(), folder / "out.parquet", 0)

        draw(20)()
        return _best(draw(n))


def _scoring(n: int) -> float:
    from odyssey.scoring import token_nll

    network = _network()
    ids = np.random.default_rng(0).integers(0, VOCABULARY, n + 1, dtype=np.int32)
    token_nll(network, ids[: 16 * CONTEXT], CONTEXT, 16 * CONTEXT)
    return _best(lambda: token_nll(network, ids, CONTEXT, 16 * CONTEXT))


def _training(n: int) -> float:
    """From the end of the first step, which comes on top, to that of the last."""
    from odyssey.sections import Recipe
    from odyssey.training import train
    from odyssey.watching import Unwatched

    recipe = Recipe(
        epochs=1,
        batch_size=BATCH,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        gradient_clipping=1.0,
        precision="float32",
        engine={  # type: ignore[arg-type]
            "micro_batch_size": BATCH,
            "zero_stage": 0,
            "offload_optimizer": False,
            "offload_parameters": False,
            "activation_checkpointing": False,
            "checkpoint_minutes": 60,
        },
    )
    blocks = np.random.default_rng(0).integers(0, VOCABULARY, (n // CONTEXT + 3 * BATCH, CONTEXT), dtype=np.int32)
    ends: list[float] = []

    class Clock(Unwatched):
        """Tells when each step ended."""

        def step(self, step: int, nll: float, learning_rate: float) -> None:
            ends.append(time.perf_counter())

    train(_network(), blocks, recipe, 1e-4, 0, label="growth", watched_by=Clock())
    return ends[-1] - ends[2]


def _embedding(n: int) -> float:
    from odyssey.encoder import PINNED, PINNED_SHA256, encode, load_encoder

    encoder = load_encoder(PINNED, PINNED_SHA256)
    words = np.array(["some", "text", "of", "a", "few", "words", "that", "differ"])
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 8)) for _ in range(n)]
    encode(encoder, texts[:BATCH], BATCH)
    return _best(lambda: encode(encoder, texts, BATCH))


def _moments(n: int) -> float:
    """Blocks of 1,000 rows of 128 dimensions."""
    from odyssey.science.distances import Moments

    block = np.random.default_rng(0).random((BLOCK, DIMENSIONS), dtype=np.float32)

    def work() -> None:
        moments = Moments(DIMENSIONS)
        for _ in range(n // BLOCK):
            moments.update(block)

    work()
    return _best(work)


def _frechet(d: int) -> float:
    from odyssey.science.distances import frechet_distance

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 2 * d, d))
    sides = (x.mean(axis=0), np.cov(x.T), y.mean(axis=0), np.cov(y.T))
    frechet_distance(*sides)
    return _best(lambda: frechet_distance(*sides))


def _network() -> Any:
    """A random GPT-2 of one layer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=1,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


FRECHET = "FD, in d"
LOOPS: dict[str, tuple[Callable[[int], float], tuple[int, ...]]] = {
    "token table, tokens": (_tokens, (30_000, 300_000, 3_000_000, 30_000_000)),
    "sampling, documents": (_sampling, (2_000, 20_000, 200_000, 2_000_000)),
    "scoring, tokens": (_scoring, (1_024, 10_240, 102_400, 1_024_000)),
    "embedding, rows": (_embedding, (16, 160, 1_600, 16_000)),
    "moments, rows": (_moments, (1_000, 10_000, 100_000, 1_000_000)),
    "training, tokens": (_training, (2_048, 20_480, 204_800, 2_048_000)),
    FRECHET: (_frechet, (32, 64, 128, 256, 512, 1024)),
}
"""The function of each loop, and the sizes."""

if __name__ == "__main__":
    main()
