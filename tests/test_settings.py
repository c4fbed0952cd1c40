"""A study is validated as a whole, and what is wrong with it is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PAPER_STUDIES, ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from odyssey.choice import extremes, listing, select, use
from odyssey.corpora import m2d2
from odyssey.corpora.documents import modules
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.sections import PublishedModel
from odyssey.settings import Settings, load_settings, validate
from odyssey.store import new_folder, write_csv, write_json

CHOICE = {"study": "mini", "seed": 0, "accept_licenses": False}
M2D2 = {"corpus": "m2d2", "revision": "main"}
Edit = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["adapt"].update(batchsize=3), "unknown key 'adapt.batchsize'; did you mean 'batch_size'"),
        (lambda r: r["evaluate"].update(separator="\ud800"), "key 'evaluate.separator': half of a character"),
        (lambda r: r.update(sampel={}), "unknown key 'sampel'; did you mean 'sample'"),
        (
            lambda r: r["models"]["tiny"]["architecture"].update(layer=3),
            "unknown key 'models.tiny.architecture.layer'; did you mean 'layers'",
        ),
        (
            lambda r: r["domains"]["pandas"].update(zzz=3),
            "unknown key 'domains.pandas.zzz'; valid: corpus, modules, portion",
        ),
        (lambda r: r["adapt"].pop("epochs"), "key 'adapt.epochs' is missing"),
        (lambda r: r["adapt"].update(epochs="one"), r"key 'adapt.epochs': .*\(found 'one'\)"),
        (lambda r: r["adapt"].update(train_start=1.5), r"key 'adapt.train_start': .*\(found 1.5\)"),
        (lambda r: r["adapt"].update(precision="float8"), "key 'adapt.precision'"),
        (lambda r: r["models"]["tiny"]["architecture"].update(heads=3), "64 is not a multiple of heads 3"),
        (lambda r: r["domains"].update({"../x": r["domains"]["pandas"]}), "key 'domains.../x"),
        (lambda r: r["domains"].clear(), "key 'domains'"),
        (
            lambda r: r["source"].update(corpus="owt"),
            "key 'source.corpus': no corpus 'owt'; valid: docstrings",
        ),
        (lambda r: r["source"].pop("corpus"), "key 'source.corpus': is missing; valid: docstrings"),
        (lambda r: r["source"].update(revision="main"), "unknown key 'source.revision'; valid: corpus, modules, rows"),
        (lambda r: r["domains"].update(source=r["domains"]["pandas"]), "a domain cannot be called 'source'"),
        (lambda r: r["domains"].update(copy=r["domains"]["torch"]), "domains 'copy' and 'torch' share modules"),
        (
            lambda r: r["domains"].update({"Philosophy_and_thinking_Philosophy": M2D2}),
            "no such config.*thinking__Philosophy'",
        ),
        (
            lambda r: r["domains"].update({"cs.AI": {**M2D2, "portion": "Wiki"}}),
            "'domains.cs.AI.portion' is S2ORC",
        ),
        (lambda r: r.update(domains={"all_of": "m2d3"}), "'domains.all_of' must be m2d2"),
        (lambda r: r.update(adapt_to=["panda"]), "'adapt_to': no domain 'panda'.*did you mean 'pandas'"),
        (lambda r: r.update(adapt_to=["torch", "torch"]), "'adapt_to' names 'torch' twice"),
        (lambda r: r.update(pretrain=None), "model 'tiny' is trained here"),
        (lambda r: r["adapt"]["engine"].update(micro_batch_size=3), "key 'adapt': batch_size 8 is not a multiple"),
        (lambda r: r["adapt"]["engine"].update(offload_optimizer=True), "key 'adapt.engine': offload_optimizer needs"),
        (lambda r: r["models"].update(x={"checkpoint": "gpt2"}), "key 'models.x.revision' is missing"),
        (lambda r: r["models"]["tiny"].update(checkpoint="gpt2"), "unknown key 'models.tiny.architecture'"),
    ],
)
def test_what_is_wrong_is_named(edit: Edit, message: str) -> None:
    raw = yaml.safe_load((ROOT / "studies" / "mini.yaml").read_text()) | CHOICE
    edit(raw)
    with pytest.raises(OdysseyError, match=f"here.yaml: .*{message}") as caught:
        validate(raw, "here.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not readable as YAML"),
        (b"\xff\xfe", "not readable as YAML"),
        (b"", "expected a mapping"),
        (b"- 1", "expected a mapping"),
    ],
)
def test_unreadable_params(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(OdysseyError, match=message):
        load_settings(path)
    with pytest.raises(OdysseyError, match="no such file"):
        load_settings(tmp_path / "none.yaml")


def test_settings_are_frozen_and_names_are_picked(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 3
    assert settings.model("tiny") is settings.models["tiny"]
    with pytest.raises(OdysseyError, match=r"no model 'tyni'.*did you mean 'tiny'"):
        settings.model("tyni")
    with pytest.raises(OdysseyError, match=r"no domain 'panda'.*did you mean 'pandas'"):
        settings.domain("panda")


def test_the_mini_study_has_the_papers_shape(settings: Settings) -> None:
    portions = [domain.portion for domain in settings.domains.values()]
    assert portions == ["software"] * 10 + ["science"] * 10
    assert len(settings.models) == 2
    science = modules(domain for domain in settings.domains.values() if domain.portion == "science")
    assert {module.partition(".")[0] for module in science}.isdisjoint(modules([settings.source]))


# --- which study


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the project's params.yaml and studies."""
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "params.yaml").write_text("# mine\nstudy: mini  # this one\nseed: 3\naccept_licenses: false\n")
    (tmp_path / "texts" / "mine").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", ["mini", "mine", *PAPER_STUDIES])
def test_every_study_is_valid(project: Path, name: str) -> None:
    found = load_settings(project / "params.yaml", name)
    assert (found.study, found.seed) == (name, 3)
    assert set(found.adapted) <= set(found.domains)


@pytest.mark.parametrize(
    ("name", "model", "rate", "corpus", "rows"),
    [
        ("gpt2-small", "openai-community/gpt2", 5e-5, "openwebtext", 400_000),
        ("gpt2-large", "openai-community/gpt2-large", 5e-5, "openwebtext", 400_000),
        ("gpt2-xl", "openai-community/gpt2-xl", 5e-5, "openwebtext", 400_000),
        ("olmo-1b", "allenai/OLMo-1B-hf", 8.5e-6, "dolma", 650_000),
        ("llama-7b", "huggyllama/llama-7b", 5e-6, "redpajama", None),
    ],
)
def test_the_papers_studies_are_the_papers(
    project: Path, name: str, model: str, rate: float, corpus: str, rows: int | None
) -> None:
    found = load_settings(project / "params.yaml", name)
    (about,) = found.models.values()
    assert isinstance(about, PublishedModel)
    assert (about.checkpoint, about.adapt_learning_rate) == (model, rate)
    assert (found.source.corpus, found.source.rows) == (corpus, rows)
    assert len(found.domains) == 199
    assert tuple(found.adapted) == m2d2.PAPER_20
    assert [domain.portion for domain in found.adapted.values()] == ["Wiki"] * 10 + ["S2ORC"] * 10
    assert (found.adapt.epochs, found.adapt.train_start) == (1, 0.03)
    assert (found.embed.fraction, found.embed.max_texts) == (0.05, 50_000)
    assert (found.tokens.chunks, found.tokens.chunk_tokens) == (128, 4096)


def test_a_study_is_switched_by_one_word_and_nothing_else_changes(project: Path) -> None:
    params = project / "params.yaml"
    assert load_settings(params).study == "mini"
    use(params, "gpt2-small")
    assert params.read_text() == "# mine\nstudy: gpt2-small  # this one\nseed: 3\naccept_licenses: false\n"
    assert load_settings(params).study == "gpt2-small"
    use(params, "llama-7b", accept_licenses=True)
    assert load_settings(params).accept_licenses
    assert "* llama-7b    The paper's LLaMA-7B on RedPajama" in listing(params)
    before = params.read_text()
    (project / "studies" / "broken.yaml").write_text("source: {}\n")
    for name, message in (("llama", "no study 'llama'.*did you mean 'llama-7b'"), ("broken", "broken.yaml: key")):
        with pytest.raises(OdysseyError, match=message):
            use(params, name)
    assert params.read_text() == before


def test_a_study_names_its_files_and_what_belongs_elsewhere(project: Path) -> None:
    file = project / "studies" / "mine.yaml"
    whole = file.read_text()
    for change, message in (
        (("path: texts/mine", "path: texts/other"), "key 'domains.mine.path': no file or folder texts/other"),
        (
            ("adapt_to: all", "adapt_to: studies/selections/x.yaml"),
            "'adapt_to': studies/selections/x.yaml is no file in",
        ),
        (
            ("adapt_to: all", "adapt_to: studies/mini.yaml"),
            "'adapt_to': studies/mini.yaml is no file in studies/selections",
        ),
        (("adapt_to: all", "seed: 1"), "key 'seed' belongs into .*params.yaml"),
        (("adapt_to: all", ""), "key 'adapt_to' is missing"),
    ):
        file.write_text(whole.replace(*change))
        with pytest.raises(OdysseyError, match=message):
            load_settings(project / "params.yaml", "mine")


def test_training_is_fitted_into_memory_by_a_file_that_a_study_names(project: Path) -> None:
    engines = project / "studies" / "engines"
    file = project / "studies" / "llama-7b.yaml"
    whole = file.read_text()
    assert load_settings(project / "params.yaml", "llama-7b").adapt.engine.zero_stage == 2
    file.write_text(whole.replace("gpu-80gb", "gpu-24gb"))
    engine = load_settings(project / "params.yaml", "llama-7b").adapt.engine
    assert (engine.zero_stage, engine.offload_optimizer, engine.offload_parameters) == (3, True, True)
    (engines / "own.yaml").write_text((engines / "gpu-24gb.yaml").read_text().replace("zero_stage: 3", "zero_stage: 2"))
    for name, message in (
        ("studies/engines/own.yaml", "own.yaml: .*offload_parameters needs zero_stage 3"),
        ("studies/engines/other.yaml", "key 'adapt.engine': studies/engines/other.yaml is no file in studies/engines"),
        ("studies/engines/../mini.yaml", "is no file in studies/engines; write its settings, or such a file"),
        ("/etc/hostname", "key 'adapt.engine': /etc/hostname is no file in"),
    ):
        file.write_text(whole.replace("studies/engines/gpu-80gb.yaml", name))
        with pytest.raises(OdysseyError, match=message):
            load_settings(project / "params.yaml", "llama-7b")


# --- which domains


@given(st.dictionaries(st.text(max_size=3), st.floats(-9, 9), min_size=2, max_size=30), st.data())
def test_extremes_are_both_ends(values: dict[str, float], data: st.DataObject) -> None:
    count = data.draw(st.integers(2, len(values)))
    chosen = extremes(values, count)
    assert len(set(chosen)) == len(chosen) == count
    low, high = chosen[: (count + 1) // 2], chosen[(count + 1) // 2 :]
    rest = [value for name, value in values.items() if name not in chosen]
    assert all(values[name] <= other for name in low for other in rest)
    assert all(values[name] >= other for name in high for other in rest)
    for wrong in (1, len(values) + 1):
        with pytest.raises(OdysseyError, match="--count"):
            extremes(values, wrong)


def test_a_selection_by_distance_is_a_file_that_a_study_can_name(project: Path) -> None:
    layout = Layout(project / "data" / "mini")
    settings = load_settings(project / "params.yaml")
    with new_folder(layout.similarity, {}) as folder:
        rows = [(name, place / 10) for place, name in enumerate(settings.domains)]
        write_csv(folder / "similarity.csv", ("domain", "mmd"), rows)
    path = select(settings, layout, project, "ends", "mmd", 4, None)
    (project / "studies" / "mine.yaml").write_text(
        (project / "studies" / "mini.yaml")
        .read_text()
        .replace("adapt_to: all", "adapt_to: studies/selections/ends.yaml")
    )
    names = list(settings.domains)
    assert load_settings(project / "params.yaml", "mine").adapt_to == [*names[:2], names[-1], names[-2]]
    assert path.read_text().startswith("# By mmd to the source corpus in the study 'mini', seed 3")
    with pytest.raises(OdysseyError, match="is there already"):
        select(settings, layout, project, "ends", "mmd", 4, None)
    with pytest.raises(OdysseyError, match="name one with --model"):
        select(settings, layout, project, "other", "change", 4, None)


def test_the_most_extreme_by_change_are_those_that_improved_and_degraded_most(project: Path) -> None:
    settings, layout = load_settings(project / "params.yaml"), Layout(project / "data" / "mini")
    for place, domain in enumerate(settings.domains):
        with new_folder(layout.evaluated("tiny", domain), {}) as folder:
            scores = [{"nll_sum": nll, "tokens": 10, "bytes": 30} for nll in (20.0, 19.0 + 0.1 * place)]
            write_json(folder / "scores.json", dict(zip(("zero_shot", "adapted"), scores, strict=True)))
    path = select(settings, layout, project, "extreme", "change", 4, "tiny")
    names = list(settings.domains)
    assert yaml.safe_load(path.read_text()) == [*names[:2], names[-1], names[-2]]
