"""Scoring in bounded memory: logits some at a time, texts in parts; bfloat16; memory that is kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import TEXTS
from hub_content import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import RECIPE
from transformers import GPT2LMHeadModel

from odyssey import models, scoring, tokenization
from odyssey.cli import main
from odyssey.errors import OdysseyError
from odyssey.science.windows import blocks, windows
from odyssey.sections import Architecture
from odyssey.tools import score_file
from odyssey.training import train


def plain_nll(network: Any, ids: np.ndarray, context: int) -> list[float]:
    """One window at a time, from all of its logits."""
    nll: list[float] = []
    with torch.inference_mode():
        for start, stop in windows(len(ids), context):
            x = torch.from_numpy(ids[start:stop]).long()
            nll += torch.nn.functional.cross_entropy(network(x[None]).logits[0, :-1], x[1:], reduction="none").tolist()
    return nll


@pytest.mark.parametrize("family", ["gpt2", "olmo", "llama"])
def test_logits_are_held_some_at_a_time(family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = models.load(tiny_model(family, tmp_path))
    vocabulary, context = int(network.config.vocab_size), 16
    ids = np.random.default_rng(0).integers(0, vocabulary, 200, dtype=np.int32)
    shapes: list[tuple[int, ...]] = []
    network.get_output_embeddings().register_forward_hook(lambda *given: shapes.append(tuple(given[-1].shape)))
    monkeypatch.setattr(scoring, "CPU_LOGITS", 7 * vocabulary)
    nll = scoring.token_nll(network, ids, context, 64)
    shapes = [shape for shape in shapes if len(shape) == 2]  # the others are of the trial that begins it
    assert {rows for rows, _ in shapes} == {7, 6, 5, 4}  # 60 = 6 x 7 + 3 x 6; 15 = 3 x 5; 4 are left
    assert sum(rows for rows, _ in shapes) == len(ids) - 1
    np.testing.assert_allclose(nll, plain_nll(network, ids, context), rtol=1e-5)


class Capped(GPT2LMHeadModel):
    """Its logits are more than its output layer's."""

    def forward(self, *args: Any, **more: Any) -> Any:
        found = super().forward(*args, **more)
        found.logits = 2.0 * torch.tanh(found.logits / 2.0)
        return found


def test_a_model_that_does_more_to_its_logits_is_asked_for_them(checkpoint: Path) -> None:
    network: Any = Capped.from_pretrained(checkpoint)
    network.eval()
    with torch.no_grad():
        network.lm_head.weight.mul_(20)
    ids = np.random.default_rng(0).integers(0, 250, 50, dtype=np.int32)
    nll = scoring.token_nll(network, ids, 16, 64)
    np.testing.assert_allclose(nll, plain_nll(network, ids, 16), rtol=1e-5)
    uncapped: Any = GPT2LMHeadModel(network.config)
    uncapped.eval()
    uncapped.load_state_dict(network.state_dict())
    assert np.abs(nll - plain_nll(uncapped, ids, 16)).max() > 0.1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 90), max_size=6), st.integers(2, 16), st.integers(1, 100))
def test_parts_give_what_the_whole_gives(checkpoint: Path, cuts: list[int], context: int, batch_tokens: int) -> None:
    network = GPT2LMHeadModel.from_pretrained(checkpoint).eval()
    ids = np.random.default_rng(len(cuts)).integers(0, 250, sum(cuts), dtype=np.int32)
    parts = np.split(ids, np.cumsum(cuts)[:-1]) if cuts else []
    found = [nll for some in scoring.iter_nll(network, parts, context, batch_tokens) for nll in some.tolist()]
    assert found == scoring.token_nll(network, ids, context, batch_tokens).tolist()


@pytest.mark.parametrize(("family", "stripped"), [("gpt2", None), ("olmo", None), ("llama", None), ("gpt2", "<s>")])
def test_a_special_token_cuts_a_long_text(
    family: Any, stripped: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AddedToken, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family, tmp_path))
    rows = ["a b", "  indented", "ends \t", "", "\n", "1 + 2 = 3;", "caf\u00e9 \u4e2d", ".", "the end"] * 5
    separator = str(tokenizer.eos_token) if stripped is None else stripped
    if stripped is not None:
        tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(stripped, lstrip=True, special=True)]})
    whole = tokenizer(separator.join(rows), add_special_tokens=False)["input_ids"]
    assert whole.count(tokenizer.convert_tokens_to_ids(separator)) == len(rows) - 1
    monkeypatch.setattr(tokenization, "PIECE", 20)
    parts = list(tokenization.iter_encoded(tokenizer, rows, separator))
    assert len(parts) > 5
    assert np.concatenate([ids for ids, _ in parts]).tolist() == whole
    again, _, row_of = tokenization.encode_by_row(tokenizer, rows, separator)
    assert again.tolist() == whole
    assert row_of[-1] == len(rows) - 1


def test_a_model_whose_states_its_output_layer_does_not_take_is_asked_for_logits() -> None:
    from transformers import ElectraConfig, ElectraForCausalLM

    shape: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    network = ElectraForCausalLM(ElectraConfig(vocab_size=50, intermediate_size=16, is_decoder=True, **shape)).eval()
    ids = np.random.default_rng(0).integers(0, 50, 40, dtype=np.int32)
    np.testing.assert_allclose(scoring.token_nll(network, ids, 16, 64), plain_nll(network, ids, 16), rtol=1e-5)


def test_a_name_that_is_too_long_is_refused(checkpoint: Path) -> None:
    with pytest.raises(OdysseyError, match="cannot be read"):
        score_file(str(checkpoint), Path("a" * 300))


def test_a_pipe_is_scored_as_its_text(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "rows.txt"
    text.write_text("".join(TEXTS), encoding="utf-8")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(text.read_bytes()))
    writer.start()
    assert score_file(str(checkpoint), pipe) == score_file(str(checkpoint), text)
    writer.join()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 that has learned something: bfloat16 is judged where likelihoods are no longer even."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [" ".join(text.split()) for text in TEXTS]
    shape = Architecture(layers=2, width=64, heads=2, context=32, vocabulary=320)
    tokenizer = tokenization.train_tokenizer(rows, shape.vocabulary, shape.context)
    network = models.new_model(shape, tokenizer, seed=0)
    data = blocks(tokenization.encode(tokenizer, rows, "\n")[0], shape.context)
    log = train(network, data, RECIPE.model_copy(update={"epochs": 3}), 3e-3, 0, label="test").steps
    assert log[-1].nll < 0.6 * log[0].nll
    models.save(network, tokenizer, folder)
    return folder


def test_bfloat16_moves_perplexity_by_less_than_a_thousandth(trained: Path, tmp_path: Path) -> None:
    text = tmp_path / "rows.txt"
    text.write_text("".join(TEXTS), encoding="utf-8")
    found = {}
    for precision in ("float32", "bfloat16"):
        command = ["perplexity", "--model", str(trained), "--text", str(text), "--precision", precision, "--json"]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        found[precision] = json.loads(done.stdout)
        assert found[precision]["precision"] == precision
    same, other = found["float32"]["perplexity"], found["bfloat16"]["perplexity"]
    assert same != other
    assert other == pytest.approx(same, rel=1e-3)


ALLOCATING = """
import ctypes, resource, sys, torch
from odyssey.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(ctypes.CDLL(None).mallopt(-3, 1 << 26))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's")
def test_freed_memory_is_kept() -> None:
    found = {}
    for how in ("kept", "as it is"):
        done = subprocess.run([sys.executable, "-c", ALLOCATING, how], capture_output=True, text=True, check=True)
        found[how], allowed = map(int, done.stdout.split())
    if not allowed:
        pytest.skip("this glibc keeps no 48 MB")
    assert found["as it is"] > 5 * found["kept"]  # for a few of them instead of all 60
