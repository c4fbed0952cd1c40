"""Training by DeepSpeed, and the stages that are made of it, on a tiny model and a tiny corpus."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import ROOT
from transformers import LlamaConfig, LlamaForCausalLM

from odyssey import models, yaml_files
from odyssey.cli import main
from odyssey.corpora.parquet import Row, write_rows
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, Layout
from odyssey.sections import Engine, Recipe, TrainedModel
from odyssey.settings import Settings
from odyssey.stages import adapt, evaluate, pretrain, tokens
from odyssey.store import new_folder, sha256
from odyssey.sweeping.finished import missing
from odyssey.training import n_steps, rate, train

ENGINE = Engine(
    micro_batch_size=4,
    zero_stage=0,
    offload_optimizer=False,
    offload_parameters=False,
    activation_checkpointing=False,
    checkpoint_minutes=60,
)
RECIPE = Recipe(
    epochs=1,
    batch_size=4,
    schedule="constant",
    warmup=0,
    weight_decay=0.1,
    gradient_clipping=1.0,
    precision="float32",
    engine=ENGINE,
)
DATA = np.random.default_rng(0).integers(0, 250, size=(10, 16))


def test_rates_worked_out() -> None:
    warm = RECIPE.model_copy(update={"warmup": 0.2, "schedule": "linear"})
    expected = [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [rate(k, 10, warm) for k in range(10)] == pytest.approx(expected)
    cosine = RECIPE.model_copy(update={"schedule": "cosine"})
    assert [rate(k, 4, cosine) for k in (0, 2, 4)] == pytest.approx([1, 0.55, 0.1])
    assert rate(3, 10, RECIPE) == 1
    assert n_steps(10, RECIPE) == 3


def test_deepspeed_does_what_a_plain_torch_loop_does(checkpoint: Path) -> None:
    ours, _ = models.load(checkpoint)
    plain, _ = models.load(checkpoint)
    steps = train(ours, DATA, RECIPE, 1e-2, 0, label="test").steps
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95))
    losses = []
    plain.train()
    for k in range(0, 10, 4):
        x = torch.from_numpy(DATA[k : k + 4])
        loss = plain(x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert [s.nll for s in steps] == pytest.approx(losses, rel=1e-5)
    assert [(s.step, s.tokens, s.learning_rate) for s in steps] == [(1, 64, 0.01), (2, 128, 0.01), (3, 160, 0.01)]
    # Not the weights one by one: the keys' biases have no gradient but rounding, which Adam scales
    # up to whole steps; and no effect, as they shift all of a query's scores alike.
    plain.eval()
    x = torch.from_numpy(DATA)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x).logits, plain(x).logits, rtol=1e-4, atol=1e-4)


def test_probes_come_when_asked_and_order_is_the_generators(checkpoint: Path) -> None:
    seen: list[int] = []
    runs = []

    def look(step: int) -> tuple[float]:
        seen.append(step)
        return (step * step,)

    for seed in (1, 1, 2):
        network, _ = models.load(checkpoint)
        trained = train(
            network,
            DATA,
            RECIPE,
            1e-2,
            0,
            label="test",
            shuffle=np.random.default_rng(seed),
            probe=look,
            probe_steps=(0, 2, 3),
        )
        assert not network.training
        assert trained.points == [(0, (0.0,)), (2, (4.0,)), (3, (9.0,))]
        runs.append([s.nll for s in trained.steps])
    assert seen == [0, 2, 3] * 3
    assert runs[0] == runs[1] != runs[2]


def test_a_loss_that_is_not_finite_stops_with_step_and_label(checkpoint: Path) -> None:
    network, _ = models.load(checkpoint)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(OdysseyError, match=r"tiny on pandas: the loss is nan at step 1"):
        train(network, DATA, RECIPE, 1e-2, 0, label="tiny on pandas")


@pytest.mark.parametrize(
    "change",
    [
        {"micro_batch_size": 1},
        {"micro_batch_size": 2, "zero_stage": 1},
        {"micro_batch_size": 2, "zero_stage": 2},
        {"zero_stage": 2, "offload_optimizer": True},
        {"micro_batch_size": 2, "activation_checkpointing": True},
        {"micro_batch_size": 2, "zero_stage": 3},
        {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True, "activation_checkpointing": True},
    ],
)
def test_the_engine_changes_memory_and_nothing_else(checkpoint: Path, change: dict[str, Any]) -> None:
    x = torch.from_numpy(DATA)
    found = []
    for engine in (ENGINE, ENGINE.model_copy(update=change)):
        network, _ = models.load(checkpoint)
        steps = train(network, DATA, RECIPE.model_copy(update={"engine": engine}), 1e-2, 0, label="test").steps
        with torch.inference_mode():
            found.append(([s.nll for s in steps], network(x).logits))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file", sorted((ROOT / "studies" / "engines").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_engine_of_the_studies_trains_a_llama(file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=250,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=file.stem == "gpu-24gb",
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    named = Engine.model_validate(yaml_files.read(file))
    found = []
    for engine in (ENGINE, named):
        network = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
        recipe = RECIPE.model_copy(update={"engine": engine, "precision": "bfloat16"})
        trained = train(network, DATA, recipe, 1e-2, 0, label="llama", probe=lambda _: [0.0], probe_steps=(0, 3))
        found.append([step.nll for step in trained.steps])
        # What is left is the model as it was: each weight whole, tied ones tied, and to be saved.
        network.save_pretrained(tmp_path / "trained")
        again = LlamaForCausalLM.from_pretrained(tmp_path / "trained", dtype=torch.bfloat16)
        assert all(map(torch.equal, network.parameters(), again.parameters()))
        with torch.inference_mode():
            assert torch.equal(network(torch.from_numpy(DATA)).logits, again(torch.from_numpy(DATA)).logits)
    assert found[1] == pytest.approx(found[0], rel=2e-3)
    assert found[0][2] < found[0][0]


def test_dropout_depends_on_the_seed_alone(checkpoint: Path) -> None:
    def losses(seed: int) -> list[float]:
        network, _ = models.load(checkpoint)
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        torch.rand(7)
        return [s.nll for s in train(network, DATA, RECIPE, 1e-2, seed, label="test").steps]

    before = torch.random.get_rng_state()
    first = losses(1)
    torch.random.set_rng_state(before)
    torch.rand(3)
    assert losses(1) == first != losses(2)


@pytest.fixture(scope="module")
def study(smoke_settings: Settings) -> Settings:
    """The smoke study with one model and two domains; texts come from the fixture below."""
    (name, model), *_ = smoke_settings.models.items()
    domains = dict(list(smoke_settings.domains.items())[:2])
    return smoke_settings.model_copy(update={"models": {name: model}, "domains": domains, "adapt_to": list(domains)})


@pytest.fixture(scope="module")
def made(study: Settings, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A data folder after pretrain, adapt, evaluate and tokens."""
    layout = Layout(tmp_path_factory.mktemp("data"))
    rng = np.random.default_rng(0)
    words = ["the", "value", "of", "a", "frame", "index", "is", "returned", "when", "axis", "by", "name", "row"]

    def rows(name: str, n: int) -> list[Row]:
        return [Row(f"{name}#{k}", name, " ".join([name, *rng.choice(words, 12), "."])) for k in range(n)]

    with new_folder(layout.corpus(SOURCE), {}) as folder:
        write_rows(folder / layout.source.name, rows("source", 120))
    for domain in study.domains:
        with new_folder(layout.corpus(domain), {}) as folder:
            for split, n in (("train", 60), ("valid", 8), ("test", 10)):
                write_rows(folder / layout.split(domain, split).name, rows(domain, n))
    (model,) = study.models
    pretrain.run(study, layout, model=model)
    for stage in (adapt, evaluate, tokens):
        stage.run(study, layout, model=model)
    return layout


def test_cells_hold_what_they_should(study: Settings, made: Layout) -> None:
    (model,) = study.models
    for domain in study.domains:
        curves = _table(made.adapted(model, domain) / "curves.csv")
        assert [float(row["fraction"]) for row in curves][:: len(curves) - 1] == [0, 1]
        assert len(curves) == study.adapt.curve_points
        scores = json.loads((made.evaluated(model, domain) / "scores.json").read_text())
        for label, row in (("zero_shot", curves[0]), ("adapted", curves[-1])):
            nll = np.load(made.evaluated(model, domain) / f"{label}.npy", allow_pickle=False)
            assert nll.dtype == np.float32
            assert scores[label]["nll_sum"] == pytest.approx(float(nll.sum(dtype=float)))
            # The curve's ends are the evaluation's two figures: same weights, same convention.
            assert scores[label]["nll_sum"] / scores[label]["tokens"] == pytest.approx(float(row["test"]), rel=1e-6)
        summary = json.loads((made.tokens(model, domain) / "summary.json").read_text())
        for split in ("train", "test"):
            table = _table(made.tokens(model, domain) / f"{split}.csv")
            change = summary[split]["nll_after"] - summary[split]["nll_before"]
            assert sum(float(row["contribution"]) for row in table) == pytest.approx(change, abs=1e-9)
            assert sum(int(row["count"]) for row in table) == summary[split]["tokens"]
            assert "\\n" in {row["token"] for row in table}
    losses = [float(row["nll"]) for row in _table(made.pretrained(model) / "loss.csv")]
    shape = study.models[model]
    assert isinstance(shape, TrainedModel)
    assert losses[0] == pytest.approx(math.log(shape.architecture.vocabulary), rel=0.1)
    assert losses[-1] < losses[0]


def test_kept_cells_are_not_touched_and_a_lost_one_comes_back_the_same(
    study: Settings, made: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = study.models
    first, second = study.domains
    before = {d: sha256(made.adapted(model, d) / "model.safetensors") for d in study.domains}
    stamp = (made.adapted(model, second) / "manifest.json").stat().st_mtime_ns
    shutil.rmtree(made.adapted(model, first))
    (made.data / "adapt" / model / "gone").mkdir()
    capsys.readouterr()
    adapt.run(study, made, model=model)
    assert "1 of 2 domains to do, 1 kept" in capsys.readouterr().out
    assert {d: sha256(made.adapted(model, d) / "model.safetensors") for d in study.domains} == before
    assert (made.adapted(model, second) / "manifest.json").stat().st_mtime_ns == stamp
    assert not (made.data / "adapt" / model / "gone").exists()
    pretrain.run(study, made, model=model)
    assert "0 of 1 models to do, 1 kept" in capsys.readouterr().out


def test_checkpoints_of_what_is_finished_are_deleted(study: Settings, made: Layout) -> None:
    """A process that ends right after its result is in place leaves them, and its cell is never trained again."""
    (model,) = study.models
    first, second = study.domains
    runs = [("adapt", model, first), ("adapt", model, second), ("pretrain", model), ("adapt", f"{model}2", first)]
    folders = [made.unfinished(*run) for run in runs]
    for folder in folders:
        (folder / "step-000000003-0000").mkdir(parents=True)
    adapt.run(study, made, model=model, domain=first)
    assert [folder.exists() for folder in folders] == [False, True, True, True]
    with (folders[1] / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process is about to do it itself
        adapt.run(study, made, model=model)
        assert folders[1].exists()
    adapt.run(study, made, model=model)
    pretrain.run(study, made, model=model)
    assert [folder.exists() for folder in folders] == [False, False, False, True]
    shutil.rmtree(folders[3])


def test_a_sweep_finds_what_is_missing(study: Settings, made: Layout) -> None:
    (model,) = study.models
    first, second = study.domains
    alone = study.model_copy(update={"joins": None})
    assert list(missing(alone, made)) == []
    damaged = made.tokens(model, second) / "test.csv"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole + b"x")
    assert list(missing(alone, made)) == [(model, second)]
    damaged.write_bytes(whole)
    other = alone.model_copy(update={"seed": study.seed + 1})
    assert list(missing(other, made)) == [(model, first), (model, second)]
    assert list(missing(other, made, busy={(model, first)})) == [(model, second)]


def test_how_it_fits_into_memory_is_no_reason_to_train_again(
    study: Settings, made: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = study.models
    engine = study.adapt.engine.model_copy(update={"micro_batch_size": 1})
    rules = {"batch_tokens": 64}
    smaller = study.model_copy(
        update={
            "adapt": study.adapt.model_copy(update={"engine": engine}),
            "evaluate": study.evaluate.model_copy(update=rules),
        }
    )
    capsys.readouterr()
    for stage in (adapt, evaluate, tokens):
        stage.run(smaller, made, model=model)
    assert capsys.readouterr().out.count("0 of 2 domains to do, 2 kept") == 3
    manifest = json.loads((made.adapted(model, next(iter(study.domains))) / "manifest.json").read_text())
    assert manifest["how"]["engine"] == study.adapt.engine.model_dump()


def test_missing_and_damaged_inputs_name_the_stage(study: Settings, made: Layout, tmp_path: Path) -> None:
    (model,) = study.models
    domain = next(iter(study.domains))
    with pytest.raises(OdysseyError, match="run `dvc repro sample` first"):
        pretrain.run(study, Layout(tmp_path), model=model)
    with pytest.raises(OdysseyError, match="run `dvc repro pretrain` first"):
        adapt.run(study, Layout(tmp_path), model=model)
    copy = Layout(Path(shutil.copytree(made.data, tmp_path / "copy")))
    weights = copy.adapted(model, domain) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(OdysseyError, match=r"model\.safetensors: damaged.*dvc repro adapt`"):
        evaluate.run(study, copy, model=model, domain=domain)
    with pytest.raises(OdysseyError, match="did you mean"):
        adapt.run(study, copy, model=model, domain=domain + "x")


def test_a_domain_too_small_is_named(study: Settings, made: Layout, tmp_path: Path) -> None:
    (model,) = study.models
    domain = next(iter(study.domains))
    copy = Layout(Path(shutil.copytree(made.data, tmp_path / "copy")))
    with new_folder(copy.corpus(domain), {}) as folder:
        for split in ("valid", "test"):
            shutil.copy(made.split(domain, split), folder)
        write_rows(folder / "train.parquet", [Row("a#0", "a", "a")])
    with pytest.raises(OdysseyError, match=f"domain '{domain}': its train split is shorter than one context"):
        adapt.run(study, copy, model=model, domain=domain)


def test_a_split_of_a_single_token_is_named(study: Settings, made: Layout, tmp_path: Path) -> None:
    (model,) = study.models
    domain = next(iter(study.domains))
    copy = Layout(Path(shutil.copytree(made.data, tmp_path / "copy")))
    with new_folder(copy.corpus(domain), {}) as folder:
        for split in ("train", "test"):
            shutil.copy(made.split(domain, split), folder)
        write_rows(folder / "valid.parquet", [Row("a#0", "a", "a")])
    with pytest.raises(OdysseyError, match=rf"domain '{domain}': too few tokens to score in valid \(1\)"):
        adapt.run(study, copy, model=model, domain=domain)


def test_errors_reach_the_terminal_as_one_line(tmp_path: Path) -> None:
    options = ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path)]
    result = CliRunner().invoke(main, [*options, "adapt", "--model", "tiny"])
    assert result.exit_code == 1
    first, error = result.stderr.splitlines()
    assert first.startswith("adapt: tiny x ")
    assert error.startswith("Error: ")
    assert "run `dvc repro pretrain` first" in error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "the disk is full at /data/x: free some space"),
        (torch.OutOfMemoryError("CUDA out of memory"), "the GPU's memory is full: lower adapt.engine.micro_batch_size"),
    ],
)
def test_full_disks_and_full_memory_are_one_line(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(adapt, "run", fail)
    result = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path), "adapt"])
    assert result.exit_code == 1
    assert message in result.output
    assert "what was finished is kept" in result.output
    assert result.output.count("\n") == 2  # after the line that every command begins with


def test_a_disk_that_fills_while_a_checkpoint_is_saved_is_told_as_such(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    network, tokenizer = models.load(checkpoint)

    def fail(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(network, "save_pretrained", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        models.save(network, tokenizer, tmp_path)
    assert caught.value.errno == errno.ENOSPC


def _table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
