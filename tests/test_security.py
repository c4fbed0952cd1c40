"""What is read cannot run, reach out of the project, pass itself off as markup, or listen; no secret is kept.

Every booby trap here is shown to work first, where something would let it: else a test could not fail.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT
from results import write_results

from odyssey import engine, models
from odyssey.cli import main
from odyssey.corpora import m2d2
from odyssey.encoder import PINNED, PINNED_SHA256, encoder_folder, load_encoder
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.settings import Settings, load_settings
from odyssey.stages import claims, similarity
from odyssey.store import MANIFEST, new_folder, read_json

# --- what code may say

REFUSED_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "zipfile"}
REFUSED_CALLS = {"eval", "exec", "__import__"}
REFUSED_METHODS = {"extractall", "unpack_archive", "read_pickle"}
REFUSED_LOADERS = {"unsafe_load", "full_load", "load_all", "unsafe_load_all", "full_load_all", "UnsafeLoader", "Loader"}


def faults(source: str) -> list[str]:
    """Where a module could run what it reads: the rule, and the line where it is a call."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [f"import of {name}" for name in names if name.partition(".")[0] in REFUSED_MODULES]
        if isinstance(node, ast.Call):
            found += [f"line {node.lineno}: {fault}" for fault in _faults_of_call(node)]
        if isinstance(node, ast.Attribute) and node.attr in REFUSED_LOADERS and _name(node.value) == "yaml":
            found.append(f"line {node.lineno}: yaml.{node.attr}")
    return found


def _faults_of_call(node: ast.Call) -> Iterator[str]:
    of, name = (
        (ast.unparse(node.func.value), node.func.attr)
        if isinstance(node.func, ast.Attribute)
        else ("", _name(node.func))
    )
    options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if (
        (name in REFUSED_CALLS and not of)
        or name in REFUSED_METHODS
        or (of, name) in (("os", "system"), ("os", "popen"))
    ):
        yield f"{name}()"
    if (of, name) == ("yaml", "load"):
        yield "yaml.load()"
    if (of, name) == ("torch", "load") and options.get("weights_only") is not True:
        yield "torch.load() without weights_only=True"
    if of in ("np", "numpy") and name == "load" and options.get("allow_pickle") is not False:
        yield "np.load() without allow_pickle=False"
    if options.get("shell") or options.get("trust_remote_code") or options.get("allow_pickle"):
        yield "shell, trust_remote_code or allow_pickle"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("file", sorted((ROOT / "odyssey").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_can_run_what_it_reads(file: Path) -> None:
    assert faults(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from joblib import load", "import shelve as s", "eval(x)", "os.system(x)"),
        *("torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)", "np.load(p, allow_pickle=True)"),
        *("yaml.load(x, Loader=yaml.SafeLoader)", "yaml.unsafe_load(x)", "yaml.full_load(x)", "run(c, shell=True)"),
        *("tar.extractall(p)", "shutil.unpack_archive(p)", "pd.read_pickle(p)", "f(trust_remote_code=True)"),
    ],
)
def test_the_rule_sees(line: str) -> None:
    assert faults(line)
    assert not faults("np.load(p, allow_pickle=False); torch.load(p, weights_only=True); yaml.safe_load(x)")


# --- pickles and code beside weights


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        import os

        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What is there once a trap has sprung; the trap is shown to work."""
    place = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(place)))
    place.rmdir()
    return place


def saved(trap: Trap) -> bytes:
    """The trap as torch saves weights."""
    import torch

    file = io.BytesIO()
    torch.save({"weight": trap}, file)
    return file.getvalue()


@pytest.fixture
def pickled_model(checkpoint: Path, tmp_path: Path, marker: Path) -> Path:
    """A checkpoint whose weights are a trap."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(saved(Trap(marker)))
    return folder


def test_pickled_weights_of_a_model_are_not_read(pickled_model: Path, marker: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text\n")
    asked = ["perplexity", "--model", str(pickled_model), "--text", str(tmp_path / "text.txt")]
    said = CliRunner().invoke(main, asked)
    assert said.exit_code == 1
    assert "cannot be loaded" in said.stderr
    pinned = tmp_path / "pinned"
    models.pin(str(pickled_model), None, pinned)
    with pytest.raises(OdysseyError, match="cannot be loaded"):
        models.load(pinned)
    assert not marker.exists()


def code_beside(folder: Path, marker: Path, *files: str) -> None:
    """Code in a checkpoint's folder that its configuration names, and which makes `marker`."""
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Own: pass\n")
    for name in files:
        config = json.loads((folder / name).read_text())
        config["auto_map"] = {
            **dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "own.Own"),
            "AutoTokenizer": ["own.Own", "own.Own"],
        }
        (folder / name).write_text(json.dumps(config))


@pytest.mark.parametrize("known", [True, False])
def test_no_code_of_a_model_is_run(checkpoint: Path, tmp_path: Path, marker: Path, known: bool) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    code_beside(folder, marker, "config.json", "tokenizer_config.json")
    if known:
        models.load(folder)
    else:
        config = json.loads((folder / "config.json").read_text()) | {"model_type": "own", "architectures": ["Own"]}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(OdysseyError, match="cannot be loaded"):
            models.load(folder)
    assert not marker.exists()


def test_no_template_of_a_tokenizer_is_rendered(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jinja2

    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    (folder / "chat_template.jinja").write_text("{{ lipsum.__globals__ }}")
    (tmp_path / "text.txt").write_text("some text\nof two rows\n")
    rendered: list[object] = []
    for name in ("from_string", "compile"):
        monkeypatch.setattr(jinja2.Environment, name, lambda *asked, **_: rendered.append(asked))
    said = CliRunner().invoke(
        main, ["perplexity", "--model", str(folder), "--text", str(tmp_path / "text.txt")], catch_exceptions=False
    )
    assert said.exit_code == 0, said.output
    assert models.load(folder)[1].chat_template == "{{ lipsum.__globals__ }}"
    assert not rendered


LIMITS = "sentence_bert_config.json"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A copy of the pinned encoder."""
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_folder(PINNED), folder)
    return folder


def add_part(encoder: Path, kind: str, path: str) -> None:
    """One more part in an encoder's modules.json."""
    listed = json.loads((encoder / "modules.json").read_text())
    listed.append({"idx": len(listed), "name": str(len(listed)), "path": path, "type": kind})
    (encoder / "modules.json").write_text(json.dumps(listed))


def test_pickled_weights_of_an_encoder_are_not_read(encoder: Path, marker: Path) -> None:
    add_part(encoder, "sentence_transformers.models.Dense", "3_Dense")
    (encoder / "3_Dense").mkdir()
    about: dict[str, Any] = {"in_features": 384, "out_features": 4, "bias": True}
    about["activation_function"] = "torch.nn.modules.activation.Tanh"
    (encoder / "3_Dense" / "config.json").write_text(json.dumps(about))
    (encoder / "3_Dense" / "pytorch_model.bin").write_bytes(saved(Trap(marker)))
    with pytest.raises(OdysseyError, match=r"3_Dense/pytorch_model\.bin: pickled weights are never read"):
        load_encoder(str(encoder), None)
    (encoder / "pytorch_model.bin").write_bytes(saved(Trap(marker)))
    (encoder / "model.safetensors").unlink()
    with pytest.raises(OdysseyError, match=r"never read|safetensors form"):
        load_encoder(str(encoder), None)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("own.Own", "", "part 'own.Own' is not of sentence-transformers, and no code"),
        ("os.system", "", "not of sentence-transformers"),
        ("sentence_transformers.models.Pooling", "../other", "leads out of the folder"),
        ("sentence_transformers.models.Pooling", "/etc", "leads out of the folder"),
    ],
)
def test_no_code_of_an_encoder_is_run(
    encoder: Path, marker: Path, monkeypatch: pytest.MonkeyPatch, kind: str, path: str, message: str
) -> None:
    code_beside(encoder, marker)
    monkeypatch.syspath_prepend(encoder)  # as if a study were run in that folder
    add_part(encoder, kind, path)
    with pytest.raises(OdysseyError, match=message):
        load_encoder(str(encoder), None)
    assert not marker.exists()


def other_weights(encoder: Path, name: str) -> Path:
    """The encoder's weights, each of them another one, in a further file."""
    from safetensors.torch import load_file, save_file

    weights = {key: value.flip(0) for key, value in load_file(encoder / "model.safetensors").items()}
    (encoder / name).parent.mkdir(exist_ok=True)
    save_file(weights, encoder / name, {"format": "pt"})
    return encoder / name


def amend(file: Path, entries: dict[str, Any]) -> None:
    """More entries in a file of settings."""
    held = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(held | entries))


LEADING: list[tuple[str, str, dict[str, Any], str]] = [
    ("other.safetensors", "config.json", {"transformers_weights": "other.safetensors"}, "transformers_weights"),
    ("model.evil.safetensors", LIMITS, {"model_args": {"variant": "evil"}}, "model_args.variant"),
    ("model.evil.safetensors", LIMITS, {"model_kwargs": {"variant": "evil"}}, "model_kwargs.variant"),
]
"""A file of other weights, and what has it read: a file, its entries, and the key that is named."""


@pytest.mark.parametrize(("weights", "file", "entries", "key"), LEADING, ids=[key for *_, key in LEADING])
def test_no_other_weights_of_an_encoder_are_read_than_those_that_were_checked(
    encoder: Path, weights: str, file: str, entries: dict[str, Any], key: str
) -> None:
    from sentence_transformers import SentenceTransformer

    def vector() -> Any:
        return SentenceTransformer(str(encoder), device="cpu", local_files_only=True).encode("a cat")

    before = vector()
    other = other_weights(encoder, weights)
    amend(encoder / file, entries)
    assert not np.allclose(vector(), before, atol=0.1)  # else it would be no trap
    for expected in (PINNED_SHA256, None):
        with pytest.raises(OdysseyError, match=rf"{file}: key '{key}' can have other weights"):
            load_encoder(str(encoder), expected)
    other.unlink()
    with pytest.raises(OdysseyError, match=f"key '{key}'"):
        load_encoder(str(encoder), PINNED_SHA256)


def test_an_encoder_that_was_checked_has_no_further_weights(encoder: Path, tmp_path: Path) -> None:
    further = other_weights(encoder, "3_Dense/model.safetensors")
    with pytest.raises(OdysseyError, match=r"3_Dense/model\.safetensors: weights beside those that embed"):
        load_encoder(str(encoder), PINNED_SHA256)
    load_encoder(str(encoder), None)
    further.rename(encoder / "shard-00001-model-00001-of-00001.safetensors")  # read before model.safetensors is
    with pytest.raises(OdysseyError, match=r"shard-.*: has other weights read"):
        load_encoder(str(encoder), None)
    shutil.move(encoder / "shard-00001-model-00001-of-00001.safetensors", tmp_path / "elsewhere.safetensors")
    for name, message in [("model.safetensors.index.json", "has other weights"), ("adapter_config.json", "has other")]:
        amend(encoder / name, {"weight_map": {"embeddings.word_embeddings.weight": "../elsewhere.safetensors"}})
        with pytest.raises(OdysseyError, match=f"{name}: {message}"):
            load_encoder(str(encoder), PINNED_SHA256)
        (encoder / name).unlink()
    further.parent.rmdir()
    (encoder / "3_Dense").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(OdysseyError, match="3_Dense: a link to a folder"):
        load_encoder(str(encoder), PINNED_SHA256)
    (encoder / "3_Dense").unlink()
    assert load_encoder(str(encoder), PINNED_SHA256).sha256 == PINNED_SHA256


def test_weights_that_were_checked_are_the_first_parts(encoder: Path) -> None:
    listed = json.loads((encoder / "modules.json").read_text())
    listed[0] |= {"path": "0_BoW", "type": "sentence_transformers.models.BoW"}
    (encoder / "modules.json").write_text(json.dumps(listed[:1]))
    (encoder / "0_BoW").mkdir()
    (encoder / "model.safetensors").rename(encoder / "0_BoW" / "model.safetensors")
    amend(encoder / "0_BoW" / "config.json", {"vocab": ["a", "cat"], "word_weights": {"a": 7}})
    assert load_encoder(str(encoder), None).d == 2
    with pytest.raises(OdysseyError, match=r"modules\.json: the first part '.*BoW' may have other weights"):
        load_encoder(str(encoder), PINNED_SHA256)


def test_usual_settings_of_an_encoder_are_no_lead(encoder: Path) -> None:
    amend(encoder / LIMITS, {"max_seq_length": 128, "tokenizer_args": {"padding_side": "right"}})
    amend(encoder / "config.2.json", {"model_type": "bert"})
    assert load_encoder(str(encoder), PINNED_SHA256).max_seq_length == 128
    amend(encoder / "config.2.json", {"transformers_weights": "other.safetensors"})
    with pytest.raises(OdysseyError, match=r"config\.2\.json: key 'transformers_weights'"):
        load_encoder(str(encoder), PINNED_SHA256)
    (encoder / "config.2.json").write_text("{")
    with pytest.raises(OdysseyError, match=r"config\.2\.json: damaged; fetch the encoder again"):
        load_encoder(str(encoder), PINNED_SHA256)


@pytest.mark.parametrize("known", [True, False])
def test_no_code_that_an_encoders_settings_name_is_run(encoder: Path, marker: Path, known: bool) -> None:
    code_beside(encoder, marker, "config.json", "tokenizer_config.json")
    limits = json.loads((encoder / "sentence_bert_config.json").read_text())
    limits |= {f"{kind}_args": {"trust_remote_code": True} for kind in ("model", "tokenizer", "config")}
    (encoder / "sentence_bert_config.json").write_text(json.dumps(limits))
    if known:
        load_encoder(str(encoder), None)
    else:
        config = json.loads((encoder / "config.json").read_text()) | {"model_type": "own"}
        (encoder / "config.json").write_text(json.dumps(config))
        with pytest.raises(OdysseyError, match="code of its own"):
            load_encoder(str(encoder), None)
    assert not marker.exists()


@pytest.mark.parametrize("file", ["engine/mp_rank_00_model_states.pt", "generators-0.pt"])
def test_a_trap_in_a_checkpoint_of_training_does_not_spring(
    checkpoint: Path, tmp_path: Path, marker: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    network, _ = models.load(checkpoint)
    how = load_settings(ROOT / "params.yaml", "mini").adapt
    running = engine.start(network, how, 1, 1e-3, lambda step: 1.0)
    engine.save(running, tmp_path)
    engine.load(running, tmp_path)
    (tmp_path / file).write_bytes(saved(Trap(marker)))
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        engine.load(running, tmp_path)
    assert not marker.exists()
    usual = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: usual(path, **{**options, "weights_only": False}))
    running.checkpoint_engine = TorchCheckpointEngine(running._config)  # DeepSpeed's own
    with suppress(Exception):  # of whatever is missing now
        engine.load(running, tmp_path)
    assert marker.exists()


def test_an_encoders_package_is_one_that_is_installed(marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (marker.parent / "own_encoder.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    monkeypatch.syspath_prepend(marker.parent)
    with pytest.raises(OdysseyError, match="no installed package 'own_encoder'"):
        load_encoder("package:own_encoder", "0" * 64)
    assert not marker.exists()


def test_arrays_of_objects_are_not_unpickled(settings: Settings, tmp_path: Path, marker: Path) -> None:
    objects = np.array([Trap(marker)], dtype=object)
    small = published.study("small").model_copy(update={"models": {"tiny": settings.models["tiny"]}})
    layout = Layout(tmp_path / "data")
    write_results(small, layout)
    shutil.rmtree(layout.similarity)
    for folder, name, run in (
        (layout.evaluated("tiny", "mpmath"), "zero_shot.npy", claims.run),
        (layout.embedded("source"), "vectors.npy", similarity.run),
    ):
        held = read_json(folder / MANIFEST)["made_from"]
        with new_folder(folder, held) as new:
            for path in folder.iterdir():
                if path.name not in (MANIFEST, name):
                    shutil.copy(path, new)
            np.save(new / name, objects, allow_pickle=True)
        if run is claims.run:
            write_results_of_similarity(small, layout)
        with pytest.raises((OdysseyError, ValueError), match=r"Object|object|pickle|memory-mapped"):
            run(small, layout)
    assert not marker.exists()


def write_results_of_similarity(settings: Settings, layout: Layout) -> None:
    """Similarity's own folder, which claims read first."""
    from results import _similarity

    with new_folder(layout.similarity, {}) as folder:
        _similarity(folder, settings, "software", np.random.default_rng(0))


# --- archives

TEXTS = [(f"{split}.txt", b"one\ntwo\n") for split in m2d2.SPLITS]


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def packed(path: Path, odd: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A domain's archive with more in front of its splits."""
    with tarfile.open(path, "w:gz") as tar:
        for info, content in [*odd, *((member(name), content) for name, content in TEXTS)]:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read_all(archive: Path) -> list[tuple[str, list[str]]]:
    return [(split, list(rows)) for split, rows in m2d2.read_splits(archive)]


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ([(member("../../out.txt"), b"x")], "outside the archive"),
        ([(member("/etc/out.txt"), b"x")], "outside the archive"),
        ([(member("a/../../out.txt"), b"x")], "outside the archive"),
        ([(member("link", tarfile.SYMTYPE, "/etc/passwd"), b"")], "outside the archive"),
        ([(member("a/link", tarfile.SYMTYPE, "../../x"), b"")], "outside the archive"),
        ([(member("link", tarfile.LNKTYPE, "../x"), b"")], "outside the archive"),
        ([(member("train.txt", tarfile.CHRTYPE), b"")], None),
        ([(member("train.txt", tarfile.BLKTYPE), b"")], None),
        ([(member("train.txt", tarfile.FIFOTYPE), b"")], None),
        ([(member("x/train.txt"), b"one\n")], "two members for the split train"),
        ([(member(str(k)), b"") for k in range(10_001)], "more than 10,000 members"),
        ([(member("zeros"), bytes(80 << 20))], "unfolds to more than 100 times its size"),
    ],
    ids=range(12),
)
def test_an_archive_is_read_within_limits_or_refused(
    tmp_path: Path, odd: list[tuple[tarfile.TarInfo, bytes]], message: str | None
) -> None:
    archive = packed(tmp_path / "domain.tar.gz", odd)
    if message is None:  # devices are never opened
        assert read_all(archive) == [(split, ["one", "two"]) for split in m2d2.SPLITS]
    else:
        with pytest.raises(OdysseyError, match=message):
            read_all(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["domain.tar.gz"]


# --- paths and names in params.yaml and in a study

LOCAL = {"corpus": "local", "portion": "own"}
OWN = {"revision": None, "context": 16, "adapt_learning_rate": 0.001}


@pytest.fixture
def project(tmp_path: Path, checkpoint: Path) -> Path:
    """A project beside a folder that is not its own."""
    shutil.copytree(ROOT / "studies", tmp_path / "project" / "studies")
    (tmp_path / "project" / "texts").mkdir()
    shutil.copytree(checkpoint, tmp_path / "other" / "model")
    (tmp_path / "other" / "secret.txt").write_text("not to be read\n")
    (tmp_path / "project" / "texts" / "link").symlink_to(tmp_path / "other")
    return tmp_path / "project"


def asked(project: Path, study: str = "mini", **sections: Any) -> Settings:
    """The mini-study with entries of its sections added or replaced."""
    raw = yaml.safe_load((project / "studies" / "mini.yaml").read_text())
    for section, entries in sections.items():
        raw[section] = {**raw[section], **entries}
    (project / "studies" / "mini.yaml").write_text(yaml.safe_dump(raw))
    (project / "params.yaml").write_text(yaml.safe_dump({"study": study, "seed": 0, "accept_licenses": False}))
    return load_settings(project / "params.yaml")


@pytest.mark.parametrize("path", ["../other", "texts/../../other", "texts/link", "texts/link/secret.txt", ".."])
def test_a_relative_path_stays_in_the_project(project: Path, path: str) -> None:
    with pytest.raises(OdysseyError, match=r"key 'domains\.own\.path': .* leads out of the project"):
        asked(project, domains={"own": {**LOCAL, "path": path}})


def test_an_absolute_path_is_read_as_the_documents_say(project: Path) -> None:
    other = project.parent / "other"
    found = asked(project, domains={"own": {**LOCAL, "path": str(other)}})
    assert found.domains["own"].model_dump()["path"] == str(other)
    asked(project, models={"own": {**OWN, "checkpoint": str(other / "model")}})


@pytest.mark.parametrize("path", ["../other/model", "texts/link/model"])
def test_a_relative_checkpoint_or_encoder_stays_in_the_project(project: Path, path: str) -> None:
    with pytest.raises(OdysseyError, match=r"key 'models\.own\.checkpoint': .* leads out of the project"):
        asked(project, models={"own": {**OWN, "checkpoint": path}})
    shutil.copy(ROOT / "studies" / "mini.yaml", project / "studies")
    with pytest.raises(OdysseyError, match=r"key 'embed\.encoder': .* leads out of the project"):
        asked(project, embed={"encoder": path, "sha256": None})


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "/x", "a/b", "a\\b", "../a", "con", "NUL", "com1.txt", "a.", "a" * 101, "a\n", "summary.json"],
)
def test_no_name_is_a_folder_elsewhere(project: Path, name: str) -> None:
    domain = {"corpus": "docstrings", "portion": "own", "modules": ["click"]}
    trained = yaml.safe_load((ROOT / "studies" / "mini.yaml").read_text())["models"]["tiny"]
    for sections in ({"domains": {name: domain}}, {"models": {name: trained}}):
        with pytest.raises(OdysseyError):
            asked(project, **sections)
        shutil.copy(ROOT / "studies" / "mini.yaml", project / "studies")
    with pytest.raises(OdysseyError):
        asked(project, study=name)


def test_names_that_differ_by_case_only_are_refused(project: Path) -> None:
    with pytest.raises(OdysseyError, match="'Torch' and 'torch' differ in upper and lower case only"):
        asked(project, domains={"Torch": {"corpus": "docstrings", "portion": "own", "modules": ["click"]}})


@pytest.mark.parametrize("module", ["json./etc", "json.../x", "../x", "json.", "", "a b", "json\n"])
def test_a_module_is_no_path(project: Path, module: str) -> None:
    with pytest.raises(OdysseyError, match=r"domains\.own\.modules"):
        asked(project, domains={"own": {"corpus": "docstrings", "portion": "own", "modules": [module]}})


@pytest.mark.parametrize("revision", ["../../x", "a/../b", "/main", "main\n", "", "a//b", "-x"])
def test_a_revision_is_no_path(project: Path, revision: str) -> None:
    with pytest.raises(OdysseyError, match="revision"):
        asked(project, models={"own": {**OWN, "checkpoint": "a/b", "revision": revision}})


@pytest.mark.parametrize("name", ["a\x1b[2J", "a`b", "<script>", "a|b", "a\u202eb"])
def test_a_checkpoints_name_does_nothing(project: Path, name: str) -> None:
    with pytest.raises(OdysseyError, match=r"models\.own\.checkpoint") as caught:
        asked(project, models={"own": {**OWN, "checkpoint": name, "revision": "main"}})
    assert str(caught.value).isprintable()


# --- known vulnerabilities


@pytest.mark.parametrize("status", [0, 1])
def test_an_audit_that_is_not_clear_fails(tmp_path: Path, status: int) -> None:
    auditor = tmp_path / "bin" / "pip-audit"
    auditor.parent.mkdir()
    auditor.write_text(f"#!/bin/sh\necho asked: $@\nexit {status}\n")
    auditor.chmod(0o755)
    (tmp_path / "installed").touch()
    command = ["make", "audit", f"AUDITOR={tmp_path}/installed", "AUDIT=--more"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Without --strict, pip-audit calls clear what it could not look up.
    assert "asked: --requirement requirements.lock --no-deps --disable-pip --strict" in done.stdout
    assert "--more" in done.stdout
    assert bool(done.returncode) == bool(status)
    assert ("error: not clear" in done.stderr) == bool(status)


def test_what_audits_is_pinned() -> None:
    lines = [line for line in (ROOT / "requirements-audit.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.startswith("pip_audit==")]
    assert all("==" in line for line in lines)
