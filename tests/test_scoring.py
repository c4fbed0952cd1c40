"""Windows, perplexity, token tables: worked-out answers and real, tiny models."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hub_content import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from odyssey import models, scoring, tokenization
from odyssey.cli import main
from odyssey.cli.tools import unescaped
from odyssey.errors import OdysseyError
from odyssey.science import tokens
from odyssey.science.perplexity import Score
from odyssey.science.tokens import token_table
from odyssey.science.windows import blocks, chunk_starts, windows
from odyssey.stages.tokens import display
from odyssey.tools import score_file


def test_windows_worked_out() -> None:
    assert windows(10, 4) == [(0, 4), (3, 7), (6, 10)]
    assert windows(9, 4) == [(0, 4), (3, 7), (6, 9)]
    assert windows(3, 8) == [(0, 3)]
    assert windows(1, 4) == windows(0, 4) == []
    with pytest.raises(ValueError, match="at least 2"):
        windows(5, 1)


@given(st.integers(0, 500), st.integers(2, 40))
def test_every_token_but_the_first_is_predicted_once(n: int, context: int) -> None:
    predicted = [k for start, stop in windows(n, context) for k in range(start + 1, stop)]
    assert predicted == list(range(1, n))
    assert all(stop - start <= context for start, stop in windows(n, context))


def test_blocks_drop_the_tail() -> None:
    assert blocks(np.arange(7), 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert blocks(np.arange(2), 3).shape == (0, 3)


@given(st.integers(0, 300), st.integers(2, 50), st.integers(1, 10))
def test_chunks_are_disjoint_and_inside(n: int, size: int, wanted: int) -> None:
    starts = chunk_starts(n, size, wanted, np.random.default_rng(0))
    assert len(starts) == (min(wanted, n // size) if n >= size else min(n, 1))
    assert all(b - a >= size for a, b in pairwise(starts))
    assert all(start + size <= n for start in starts) or n < size


def test_perplexity_of_a_uniform_model_is_its_vocabulary() -> None:
    # 8 tokens at ln 50 nats each; 3 bytes a token.
    score = Score.of(np.full(8, math.log(50), dtype=np.float32), 24)
    assert score.perplexity == pytest.approx(50, rel=1e-6)
    assert score.bits_per_byte == pytest.approx(math.log2(50) / 3, rel=1e-6)


def test_token_table_worked_out() -> None:
    ids = np.array([5, 7, 5, 9])
    table = token_table(ids, np.array([1.0, 2.0, 3.0, 1.0]), np.array([2.0, 2.0, 4.0, 0.0]))
    # id 5: mean 2 -> 3, half of the tokens; id 7 unchanged; id 9: 1 -> 0, a quarter.
    assert table.token_id.tolist() == [5, 7, 9]
    assert table.counts.tolist() == [2, 1, 1]
    assert table.change.tolist() == [1.0, 0.0, -1.0]
    assert table.contribution.tolist() == [0.5, 0.0, -0.25]
    with pytest.raises(ValueError, match="lengths differ"):
        token_table(ids, np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="negative: -1"):
        token_table(ids - 6, np.zeros(4), np.zeros(4))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=50))
def test_token_table_is_what_grouping_gives_whatever_the_blocks(cells: list[tuple[int, int, int]]) -> None:
    """NLL are whole numbers here, so that sums are exact; equal contributions are many, and come by id."""
    ids, before, after = (np.array(column, dtype=np.int32) for column in zip(*cells, strict=True))
    expected = []
    for token in set(ids.tolist()):
        own = ids == token
        change = float(after[own].mean() - before[own].mean())
        expected.append((-(own.sum() / len(ids) * change), token, own.sum(), before[own].mean(), after[own].mean()))
    for block in (3, 1 << 18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tokens, "BLOCK", block)
            table = token_table(ids, before.astype(np.float32), after.astype(np.float32))
        found = zip(-table.contribution, table.token_id, table.counts, table.before, table.after, strict=True)
        assert list(found) == sorted(expected)
    assert table.before.dtype == np.float64


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 30), st.floats(0, 30)), min_size=1, max_size=200))
def test_contributions_sum_to_the_change_of_the_mean(cells: list[tuple[int, float, float]]) -> None:
    ids, before, after = (np.array(column) for column in zip(*cells, strict=True))
    table = token_table(ids, before, after)
    assert table.contribution.sum() == pytest.approx(after.mean() - before.mean(), abs=1e-9)
    assert table.counts.sum() == len(cells)


def test_display_shows_what_cannot_be_seen() -> None:
    assert display("\n") == "\\n"
    assert display(" a\té") == " a\\té"
    assert "\u2028" not in display("\u2028")


def test_token_nll_equals_the_plain_sum_whatever_the_batch(checkpoint: Path) -> None:
    network, tokenizer = models.load(checkpoint)
    ids, n_bytes = tokenization.encode(tokenizer, ["The value of row 3", "is returned; é"], "\n")
    assert n_bytes == len("The value of row 3\nis returned; é".encode())
    assert tokenizer.decode(ids) == "The value of row 3\nis returned; é"
    plain = []
    for start, stop in windows(len(ids), 8):
        logits = network(torch.from_numpy(ids[None, start:stop])).logits[0]
        plain += [-logits[k].log_softmax(-1)[ids[start + k + 1]].item() for k in range(stop - start - 1)]
    for batch_tokens in (1, 16, 10**6):
        nll = scoring.token_nll(network, ids, 8, batch_tokens)
        assert nll.shape == (len(ids) - 1,)
        np.testing.assert_allclose(nll, plain, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "olmo", "llama"])
@pytest.mark.parametrize("separator", ["\n", " ", "\n\n", "", "|"])
def test_a_long_text_has_the_ids_of_the_whole(
    family: Any, separator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family, tmp_path))
    rows = ["a b", "  indented", "ends \t", "x", "1 + 2 = 3;", "caf\u00e9 \u4e2d", ".", "the end"] * 5
    text = separator.join(rows)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    for size in (1, 40):
        monkeypatch.setattr(tokenization, "PIECE", size)
        ids, n_bytes = tokenization.encode(tokenizer, rows, separator)
        assert ids.tolist() == whole
        assert n_bytes == len(text.encode())
        again, same_bytes, row_of = tokenization.encode_by_row(tokenizer, rows, separator)
        assert again.tolist() == whole
        assert same_bytes == n_bytes
        # The tokens of a row, and of the separator before it, spell it.
        assert (np.diff(row_of) >= 0).all()
        for place, row in enumerate(rows if separator else ()):  # without one, tokens reach over rows
            spelled = str(tokenizer.decode(ids[row_of == place].tolist(), clean_up_tokenization_spaces=False))
            assert spelled.strip(" \n|") == row.strip(" \n|")


def test_tokens_have_their_texts(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for family, newline in (("gpt2", "\n"), ("llama", "\n")):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model(family, tmp_path / family))  # type: ignore[arg-type]
        ids, _ = tokenization.encode(tokenizer, ["the history", "of the city"], newline)
        assert "".join(tokenization.token_texts(tokenizer, ids.tolist())).strip() == "the history\nof the city"
        newlines = tokenization.newline_ids(tokenizer)
        assert set(newlines) & set(ids.tolist())
        assert all(set(text) == {"\n"} for text in tokenization.token_texts(tokenizer, newlines))


def test_uniform_network_scores_its_vocabulary(checkpoint: Path) -> None:
    network, _ = models.load(checkpoint)
    with torch.no_grad():
        network.lm_head.weight.zero_()
    nll = scoring.token_nll(network, np.arange(50), 16, 64)
    np.testing.assert_allclose(np.exp(nll), network.config.vocab_size, rtol=1e-5)


def test_a_model_of_the_same_seed_is_the_same(checkpoint: Path) -> None:
    from conftest import SHAPE

    network, tokenizer = models.load(checkpoint)
    for seed, equal in ((0, True), (1, False)):
        other = models.new_model(SHAPE, tokenizer, seed).state_dict()
        assert all(torch.equal(value, other[key]) for key, value in network.state_dict().items()) is equal


def test_perplexity_command_prints_one_json_object(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "rows.txt"
    text.write_text("The value of row 3\n\nis returned; é\r\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["perplexity", "--model", str(checkpoint), "--text", str(text), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    network, tokenizer = models.load(checkpoint)
    ids, n_bytes = tokenization.encode(tokenizer, ["The value of row 3", "is returned; é"], "\n")
    assert found["bytes"] == n_bytes
    assert found["tokens"] == len(ids) - 1
    nll = scoring.token_nll(network, ids, 16, 64)
    assert found["nll_sum"] == pytest.approx(float(nll.sum(dtype=float)), rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(found["nll_sum"] / found["tokens"]))
    assert found["bits_per_byte"] == pytest.approx(found["nll_sum"] / math.log(2) / n_bytes)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def test_bad_models_are_refused_by_name(copy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    with pytest.raises(OdysseyError, match="no such model folder"):
        models.load(tmp_path / "none")
    with pytest.raises(OdysseyError, match=r"holds no config\.json"):
        models.load(tmp_path)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OdysseyError, match="cannot be loaded"):
        models.load(copy)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(OdysseyError, match=r"lacks 1 weights \(transformer\.h\.0\.mlp\.c_fc\.weight"):
        models.load(copy)
    weights.unlink()
    with pytest.raises(OdysseyError, match="cannot be loaded"):
        models.load(copy)


@pytest.mark.parametrize(
    "config", [{"n_head": "x"}, {"dtype": "os.system"}, {"vocab_size": None}, [], {"model_type": ["gpt2"]}]
)
def test_a_strange_configuration_is_refused_by_name(copy: Path, config: Any) -> None:
    usual = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**usual, **config} if config else config))
    with pytest.raises(OdysseyError, match=f"model '{copy}' cannot be loaded"):
        models.load(copy)


@pytest.mark.parametrize("place", ["evil.bin", "../outside/model.safetensors", "/etc/model.safetensors", 1, None])
def test_a_list_of_weights_leads_to_safetensors_of_the_folder_only(copy: Path, place: object) -> None:
    from safetensors.torch import load_file

    names = load_file(copy / "model.safetensors")
    index = copy / "model.safetensors.index.json"
    (copy / "model.safetensors").rename(copy / "model-00001-of-00001.safetensors")

    def listed(place: object) -> str:
        return json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, place)})

    index.write_text(listed("model-00001-of-00001.safetensors"))
    models.load(copy)
    for content in (listed(place), json.dumps({"weight_map": place}), json.dumps([place])):
        index.write_text(content)
        with pytest.raises(OdysseyError, match="is no safetensors file beside it"):
            models.load(copy)


def test_bad_text_and_context_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "rows.txt"
    text.write_text("The value\n")
    with pytest.raises(OdysseyError, match="--context 17 is longer than the model's context of 16"):
        score_file(str(checkpoint), text, context=17)
    with pytest.raises(OdysseyError, match="longer than the model's 16"):
        scoring.token_nll(models.load(checkpoint)[0], np.arange(40), 17, 64)
    text.write_text("a")
    with pytest.raises(OdysseyError, match="only 1 token"):
        score_file(str(checkpoint), text)
    text.write_bytes(b"\xff\xfe not utf-8")
    result = CliRunner().invoke(main, ["perplexity", "--model", str(checkpoint), "--text", str(text)])
    assert result.exit_code == 1
    assert "rows.txt" in result.output
    assert "UTF-8" in result.output


@pytest.mark.parametrize(
    ("typed", "meant"), [("\\n", "\n"), ("\\t|", "\t|"), ("—", "—"), ("\\u2014é", "—é"), ("\\\\", "\\")]
)
def test_a_separator_is_what_was_typed(typed: str, meant: str) -> None:
    assert unescaped(typed) == meant


@pytest.mark.parametrize("typed", ["\\", "\\x4"])
def test_half_an_escape_is_refused(typed: str) -> None:
    with pytest.raises(OdysseyError, match="--separator"):
        unescaped(typed)
