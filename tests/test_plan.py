"""Plans: what each study takes, where sizes come from, and whether it fits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import doc_steps
import pytest
from click.testing import CliRunner
from conftest import PAPER_STUDIES
from doc_steps import Command
from transformers import LlamaConfig

from odyssey import published
from odyssey.cli import main
from odyssey.corpora import hub
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.planning import machine as machines
from odyssey.planning import plan as planning
from odyssey.planning import schedule as schedules
from odyssey.planning.amounts import gb
from odyssey.planning.machine import Device, Machine, dvc_copies, find_gpu, look_around
from odyssey.planning.parts import Plan, Stage
from odyssey.planning.plan import make_plan
from odyssey.planning.recorded import CHECKPOINT_SIZES
from odyssey.planning.render import WIDTH, render
from odyssey.planning.schedule import STARTING, Schedule, make_schedule
from odyssey.planning.shapes import SHAPES, shape_of
from odyssey.planning.sizes import Sizes
from odyssey.planning.studies import changed, describe
from odyssey.science.cost import GPUS
from odyssey.science.memory import on_gpu
from odyssey.sections import Architecture, PublishedModel
from odyssey.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
STAGES = ["sample", "pretrain", "embed", "similarity", "adapt", "evaluate", "tokens", "joins", "claims", "report"]
PAPER = list(published.CHECKPOINTS)
SERVER = Machine(
    256 * 10**9, Device("NVIDIA H100", 80 * 10**9, GPUS["H100-80GB"]), 4 * 10**12, 2 * 10**12, one_disk=False
)
LAPTOP = Machine(16 * 10**9, Device("processor", 16 * 10**9, None, 1e11), 10**11, 10**11, one_disk=True)


def study(name: str, **changes: Any) -> Settings:
    """A study of the repository, with sections exchanged."""
    return load_settings(ROOT / "params.yaml", name).model_copy(update=changes)


def made(settings: Settings, gpu: str | None = "A100-80GB", machine: Machine = SERVER) -> Plan:
    return make_plan(settings, None if gpu is None else find_gpu(gpu), machine, ask_hub=False)


def paper(checkpoint: str, **engine: Any) -> Settings:
    """The study of GPT2-small with another model and engine."""
    base = study("gpt2-small")
    context = SHAPES[checkpoint].context
    model = PublishedModel(checkpoint=checkpoint, revision="main", context=context, adapt_learning_rate=1e-5)
    changed = base.adapt.engine.model_copy(update=engine)
    return base.model_copy(update={"models": {"it": model}, "adapt": base.adapt.model_copy(update={"engine": changed})})


def stage(found: Plan, name: str) -> Stage:
    return next(one for one in found.stages if one.name == name)


# -- every study


@pytest.mark.parametrize("name", ["mini", *PAPER_STUDIES])
@pytest.mark.parametrize("gpu", [None, "A100-80GB", "T4"])
def test_every_study_has_a_plan(name: str, gpu: str | None) -> None:
    for machine in (SERVER, LAPTOP):
        found = made(study(name), gpu, machine)
        assert [one.name for one in found.stages] == STAGES
        assert all(one.how for one in found.stages)
        assert found.hours is not None
        assert math.isfinite(found.hours)
        assert found.hours > 0
        text = render(found)
        assert max(map(len, text.splitlines())) <= WIDTH
        assert all(f"\n{one:<11} " in text for one in STAGES)
        read = json.loads(json.dumps(found.as_dict()))
        assert read["totals"]["disk"] == found.disk
        assert (read["fits_gpu"] is None) == (gpu is None)


def test_a_study_that_needs_no_network_fetches_nothing() -> None:
    found = made(study("mini"), None, LAPTOP)
    assert found.fetched == 0
    assert not found.licenses
    assert all(check.fits for check in found.checks)


def test_the_papers_study() -> None:
    found = made(study("gpt2-small"))
    text = render(found)
    assert stage(found, "sample").fetched > 24e9
    assert "machelreid/m2d2, 199 files, ~" in text  # an estimate
    assert "offline: sizes from recorded facts" in text
    assert "NON-COMMERCIAL" in text
    assert "accept_licenses" in text
    adapt = stage(found, "adapt")
    # Twenty domains of about 2e8 tokens, 6 x 1.24e8 operations each and attention: some 1e18
    assert 1e18 < adapt.flops < 2e19
    assert stage(found, "evaluate").tokens < adapt.tokens / 10
    # Shown as it is computed: tokens x (6 x parameters + attention) = FLOPs
    assert "(6 x 1.24e8 parameters + 1.13e8 of attention)" in " ".join(text.split())


def test_plan_writes_text_or_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(planning, "hub_answers", lambda: False)
    assert planning.plan(study("mini"), Layout(tmp_path / "mini"), "T4").startswith("Study mini: 20 domains")
    found = json.loads(planning.plan(study("mini"), Layout(tmp_path / "mini"), None, as_json=True))
    assert found["study"] == "mini"
    assert found["totals"]["hours"] > 0


# -- models and GPUs


@pytest.mark.parametrize("checkpoint", PAPER)
def test_the_papers_models(checkpoint: str) -> None:
    found = made(paper(checkpoint))
    about = CHECKPOINT_SIZES[checkpoint]
    (download,) = stage(found, "pretrain").downloads
    assert download.bytes == about.bytes
    size = 2 if about.dtype == "float16" else 4
    # Little but the weights is in the files; GPT-2's hold causal masks besides (1 MB a layer).
    assert about.bytes == pytest.approx(size * SHAPES[checkpoint].parameters(), rel=0.11)


def test_what_does_not_fit_has_a_remedy() -> None:
    found = made(paper("huggyllama/llama-7b"), "A100-80GB")
    check = found.gpu_checks[0]
    # 6.74e9 x 20 bytes in the optimiser's step
    assert stage(found, "adapt").device_memory >= 6.738e9 * 20
    assert not check.fits
    assert "offload_optimizer: true" in check.remark
    engine = {"zero_stage": 2, "offload_optimizer": True, "micro_batch_size": 1, "activation_checkpointing": True}
    better = made(paper("huggyllama/llama-7b", **engine), "A100-80GB")
    assert better.fits_gpu
    assert "offloading: " in render(better)
    # What has left the GPU is in the machine's memory: weights, moments and gradients as float32, 16 bytes
    assert stage(better, "adapt").host_memory >= 6.738e9 * 16


def test_parameters_leave_the_gpu_where_nothing_less_makes_it_fit() -> None:
    # Of 11 GB of memory and micro-batches of 16, weights alone would be 6.4 GB, and float32 states 19
    found = made(paper("openai-community/gpt2-xl"), "T4")
    assert "zero_stage: 2, offload_optimizer: true, offload_parameters: false" in found.gpu_checks[0].remark
    engine = {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True, "micro_batch_size": 8}
    less = made(paper("huggyllama/llama-7b", **engine, activation_checkpointing=True), "RTX-4090")
    adapt = stage(less, "adapt")
    # All of them while it starts, 2 bytes each
    assert adapt.device_memory >= 6.738e9 * 2
    assert adapt.device_memory < 24e9
    assert adapt.host_memory >= 6.738e9 * 20
    text = " ".join(render(less).split())
    # 2 micro-batches: gradients 3 x 2 + 4, weights 2 x 2 x 2
    assert "18 bytes a parameter (2 micro-batches) at 20 GB/s" in text
    assert "curves: weights fetched for" in text
    kept = made(paper("huggyllama/llama-7b", activation_checkpointing=True), "RTX-4090")
    assert (stage(less, "adapt").hours or 0) > (stage(kept, "adapt").hours or 0)


def test_no_remedy() -> None:
    found = made(paper("huggyllama/llama-7b"), "T4")
    assert "zero_stage: 3" in found.gpu_checks[0].remark
    wide = {"layers": 4, "width": 65536, "heads": 64, "context": 2048, "vocabulary": 50257}
    huge = study("mini")
    (name, model), *_ = huge.models.items()
    model = model.model_copy(update={"architecture": Architecture.model_validate(wide)})
    assert "no setting" in made(huge.model_copy(update={"models": {name: model}}), "T4").gpu_checks[0].remark


def test_a_faster_gpu_takes_fewer_hours() -> None:
    hours = [made(study("gpt2-small"), gpu).hours or 0 for gpu in ("H100-80GB", "A100-80GB", "T4")]
    assert hours == sorted(hours)


def test_without_a_known_gpu_hours_are_not_known() -> None:
    machine = Machine(10**11, Device("some accelerator", 10**11, None), 10**12, 10**12, one_disk=True)
    found = made(study("gpt2-small"), None, machine)
    assert found.hours is None
    assert "hours not known" in render(found)


def test_both_the_named_gpu_and_this_machine_are_checked() -> None:
    found = made(study("gpt2-small"), "A100-40GB", LAPTOP).as_dict()
    checks = {check["what"]: check["fits"] for check in (*found["gpu_checks"], *found["checks"])}
    assert checks["memory of A100-40GB"]
    assert not checks["memory of this machine"]
    assert not checks["disk: results, DVC, hub's cache"]


# GPT2-XL's adaptation holds 45.7 GB of tensors, which is 48.6 GB of a GPU: more than a T4's 16.
@pytest.mark.parametrize(("gpu", "fits"), [("A100-80GB", True), ("T4", False)])
@pytest.mark.parametrize(("machine", "here"), [(SERVER, True), (LAPTOP, False)])
def test_the_named_gpu_and_this_machine_have_a_verdict_each(gpu: str, fits: bool, machine: Machine, here: bool) -> None:
    found = made(study("gpt2-xl"), gpu, machine)
    assert (found.fits_gpu, found.fits_machine) == (fits, here)
    text = render(found)
    there, _, after = text.partition(f"Fits this machine as it is: {'yes' if here else 'no'}\n")
    _, _, there = there.partition(f"Fits the named GPU: {'yes' if fits else 'no'}\n")
    assert f"memory of {gpu}" in there
    assert "this machine" not in there
    assert "memory of this machine" in after
    assert gpu not in after
    # Its machine's memory is told, not judged: it is another one's.
    assert "not checked: its machine needs 11.5 GB of memory" in there


def test_without_a_named_gpu_there_is_one_verdict() -> None:
    found = made(study("gpt2-xl"), None, SERVER)
    assert (found.fits_gpu, found.fits_machine) == (None, True)
    assert "Does it fit?" in render(found)
    assert "Fits" not in render(found)


@pytest.mark.parametrize("name", ["cpu", " CPU"])
def test_cpu_means_the_processor_of_this_machine(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(planning, "hub_answers", lambda: False)
    monkeypatch.setattr(machines, "_own_gpu", lambda: SERVER.device)
    layout = Layout(tmp_path / "mini")
    assert "Hours: on NVIDIA H100" in planning.plan(study("mini"), layout, None)
    text = planning.plan(study("mini"), layout, name)
    assert "Hours: on this machine's processor" in text
    assert ", without a GPU" in text
    assert "Fits the named GPU" not in text


@pytest.mark.parametrize(
    ("name", "meant"),
    [("A100-80GB", "A100-80GB"), ("a100 80", "A100-80GB"), ("h100", "H100-80GB"), ("rtx4090", "RTX-4090")],
)
def test_gpus_by_name(name: str, meant: str) -> None:
    assert find_gpu(name).name == meant


@pytest.mark.parametrize(
    ("name", "message"),
    [("A100", "A100-80GB or A100-40GB"), ("H1000-80GB", "did you mean 'H100-80GB'"), ("", "nor cpu; valid: .*T4")],
)
def test_gpus_that_there_are_not(name: str, message: str) -> None:
    with pytest.raises(OdysseyError, match=message):
        find_gpu(name)


def test_a_folder_is_read_for_its_shape(tmp_path: Path) -> None:
    config: Any = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    config.save_pretrained(tmp_path)
    model = PublishedModel(checkpoint=str(tmp_path), revision=None, context=64, adapt_learning_rate=1e-4)
    # 2 x 100 x 32 embeddings, 2 layers of 4 x 32^2 + 3 x 32 x 64, 5 norms of 32
    assert shape_of("mine", model, online=False).parameters() == 6400 + 2 * (4096 + 6144) + 160
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OdysseyError, match=r"config\.json"):
        shape_of("mine", model, online=False)


def test_an_unknown_model_cannot_be_planned_offline() -> None:
    model = PublishedModel(checkpoint="some/model", revision="main", context=64, adapt_learning_rate=1e-4)
    with pytest.raises(OdysseyError, match=r"some/model is not among .* plan it online"):
        shape_of("mine", model, online=False)


# -- sizes


def test_sizes_are_the_hubs_where_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_files(repo: str, revision: str, kind: hub.Kind) -> list[hub.HubFile]:
        if repo == "machelreid/m2d2":
            return [hub.HubFile("data/math.NA.tar.gz", 123, None), hub.HubFile("data/cs.CL.tar.gz", 32_000_000, None)]
        if repo == "openai-community/gpt2":
            return [hub.HubFile("model.safetensors", 500, None), hub.HubFile("pytorch_model.bin", 10**9, None)]
        raise OdysseyError("no answer")

    monkeypatch.setattr(hub, "list_files", list_files)
    monkeypatch.setattr(planning, "hub_answers", lambda: True)
    settings = study("gpt2-small")
    found = make_plan(settings, None, SERVER)
    assert stage(found, "pretrain").downloads[0].bytes == 500  # no pickles
    assert stage(found, "sample").downloads[0].origin == "recorded"  # of what did not answer
    sizes = Sizes(settings, online=True)
    assert sizes.archives["math.NA"] == (123, "hub")
    # 32e6 bytes x 3.2 / 4.2 bytes a token
    assert sizes.split("cs.CL", "train").tokens == round(32e6 * 3.2 / 4.2)
    assert sizes.split("math.NA", "train").tokens == 148_000_000  # known by itself


def test_sizes_without_the_hub() -> None:
    settings = study("gpt2-small")
    sizes = Sizes(settings, online=False)
    assert sizes.archives["Culture_and_the_arts"] == (753_000_000, "recorded")
    assert sizes.archives["Art"] == (round(98e6 * 4.2 / 3.2), "recorded")
    assert sizes.archives["cs.CL"] == (round(sizes.median * 4.2 / 3.2), "estimate")
    assert sizes.split("cs.CL", "test").tokens == round(5e6 / 4.2)


def test_rows_of_a_study_are_a_limit() -> None:
    base = study("gpt2-small")
    rows = base.sample.rows.model_copy(update={"train": 1000})
    limited = base.model_copy(update={"sample": base.sample.model_copy(update={"rows": rows})})
    sizes = Sizes(limited, online=False)
    assert (sizes.split("cs.CL", "train").rows, sizes.split("cs.CL", "train").tokens) == (1000, 75_000)
    assert stage(made(limited), "adapt").flops < stage(made(base), "adapt").flops / 10


def test_dvc_keeps_two_copies_unless_it_links(tmp_path: Path) -> None:
    assert dvc_copies(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n['remote \"local\"']\n    url = remote\n")
    assert dvc_copies(tmp_path)
    (tmp_path / ".dvc" / "config.local").write_text("[cache]\n    type = reflink,hardlink\n")
    assert not dvc_copies(tmp_path)


def test_a_look_around(tmp_path: Path) -> None:
    machine = look_around(Layout(tmp_path / "not" / "there"))
    assert machine.ram > 10**8
    assert machine.data_free > 0


# -- licences


@pytest.mark.parametrize(
    ("name", "corpus", "gpu"),
    [
        ("gpt2-small", "OpenWebText", "A100-40GB"),
        ("gpt2-large", "OpenWebText", "A100-80GB"),
        ("gpt2-xl", "OpenWebText", "A100-80GB"),
        ("olmo-1b", "Dolma", "A100-80GB"),
        ("llama-7b", "RedPajama", "A100-80GB"),
    ],
)
def test_the_readme_says_what_the_plan_says(name: str, corpus: str, gpu: str) -> None:
    found = made(study(name), gpu)
    (memory,) = (check.needed for check in found.gpu_checks)
    ram = max(one.host_memory for one in found.stages)
    assert found.hours is not None
    line = (
        f"| `odyssey study {name} --accept-licenses && dvc repro` | {corpus} | {gpu.replace('-', ' ')} "
        f"| {gb(memory)} | {gb(ram)} | {gb(found.fetched)} | {gb(found.fetched + found.disk)} | {found.hours:,.0f} h |"
    )
    assert line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines(), f"README's row should be:\n{line}"


def test_licenses() -> None:
    of = dict(published.licenses_of(study("gpt2-small")))
    assert set(of) == {"Skylion007/openwebtext", "machelreid/m2d2", "openai-community/gpt2"}
    assert of["machelreid/m2d2"].non_commercial
    assert not of["Skylion007/openwebtext"].non_commercial
    assert not published.licenses_of(study("mini"))


def test_non_commercial_sources_need_consent() -> None:
    settings = paper("huggyllama/llama-7b")
    with pytest.raises(
        OdysseyError, match=r"machelreid/m2d2.*huggyllama/llama-7b.*accept_licenses: true.*--accept-lic"
    ):
        published.check_licenses(settings, accepted=False)
    published.check_licenses(settings, accepted=True)
    published.check_licenses(study("mini"), accepted=False)


def test_an_unknown_checkpoint_is_not_blocked() -> None:
    model = PublishedModel(checkpoint="some/model", revision="main", context=64, adapt_learning_rate=1e-4)
    settings = study("mini", models={"it": model})
    assert dict(published.licenses_of(settings))["some/model"].name == "unknown, see its page"
    published.check_licenses(settings, accepted=False)


def test_a_non_commercial_checkpoint_is_not_fetched_by_the_tool_either(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a row\n")
    options = ["perplexity", "--model", "Huggyllama/llama-7b", "--text", str(tmp_path / "rows.txt")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert "LLaMA licence" in result.output
    assert "pass --accept-licenses" in result.output


def test_old_ids_are_known() -> None:
    assert published.find_checkpoint("gpt2-xl") is published.CHECKPOINTS["openai-community/gpt2-xl"]
    assert published.find_checkpoint("gpt3") is None


def test_the_table_of_models_is_whole() -> None:
    assert set(SHAPES) == set(published.CHECKPOINTS) == set(CHECKPOINT_SIZES)


# -- on several GPUs


def scheduled(names: Sequence[str] = ("gpt2-small",), gpus: Sequence[int] = (1, 8), **options: Any) -> Schedule:
    return make_schedule(list(map(study, names)), GPUS["A100-80GB"], SERVER, gpus, ask_hub=False, **options)


def test_one_gpu_takes_the_hours_of_the_plan() -> None:
    found, plan = scheduled(), made(study("gpt2-small"))
    one, eight = found.rows
    assert plan.hours is not None
    # Each of 20 cells starts in two minutes.
    assert one.hours == pytest.approx(plan.hours + 20 * STARTING / 3600)
    assert one.used == pytest.approx(1)
    assert one.together == pytest.approx(one.hours)
    assert found.studies[0].longest < eight.hours < one.hours / 2
    assert eight.disturbed[1] <= eight.disturbed[0] <= eight.disturbed[2]
    assert eight.disturbed[0] >= eight.hours
    assert one.gpu_memory == find_needed(plan, "adapt")


def find_needed(plan: Plan, name: str) -> int:
    return on_gpu(stage(plan, name).device_memory)


def test_the_longest_cell_is_what_more_gpus_do_not_shorten() -> None:
    few, many = scheduled(gpus=(20, 1000)).rows
    assert few.hours == many.hours
    assert many.used < few.used
    # A batch has sixteen sequences, so that sixteen GPUs can share it.
    assert many.together < few.together
    assert study("gpt2-small").adapt.batch_size == 16


def test_several_studies_fetch_once_what_they_share() -> None:
    found = scheduled(["gpt2-small", "gpt2-large"])
    alone = [made(study(name)) for name in ("gpt2-small", "gpt2-large")]
    (larger,) = stage(alone[1], "pretrain").downloads
    assert found.fetched == alone[0].fetched + larger.bytes
    assert [one.cells for one in found.studies] == [20, 20]
    assert found.hours == pytest.approx(sum(one.hours or 0 for one in alone))
    # While cells train, each has a checkpoint of its own.
    one, eight = found.rows
    spare = [max(part.spare for part in plan.stages) for plan in alone]
    assert eight.disk - one.disk == 7 * max(spare)


def test_failures_cost_time_and_too_many_are_refused() -> None:
    calm, often = scheduled(failures=0.0).rows[0], scheduled(failures=0.5).rows[0]
    assert (calm.failures, calm.lost) == (0, 0)
    assert often.failures > 1
    assert often.disturbed[0] > calm.disturbed[0]
    with pytest.raises(OdysseyError, match=r"--failures 10000: jobs would hardly get on: .*checkpoint_minutes"):
        scheduled(failures=1e4)


def test_hours_on_several_gpus_need_one_that_is_known() -> None:
    for machine in (LAPTOP, Machine(10**11, Device("other", 10**11, None), 10**12, 10**12, one_disk=True)):
        with pytest.raises(OdysseyError, match="name one, --gpu A100-80GB"):
            make_schedule([study("mini")], None, machine, [8], ask_hub=False)
    own = make_schedule([study("gpt2-small")], None, SERVER, [8], ask_hub=False)
    assert own.studies[0].gpu_memory == find_needed(made(study("gpt2-small")), "adapt")


def test_what_is_printed_on_several_gpus(offline: None, tmp_path: Path) -> None:
    layout, two = Layout(tmp_path / "mini"), [study("gpt2-small"), study("gpt2-large")]
    text = describe(two[:1], layout, "A100-80GB", gpus=[8, 64])
    assert text.startswith("Study gpt2-small: ")
    assert re.search(r"(?m)^8 +\d", text)
    assert max(map(len, text.splitlines())) <= WIDTH
    both = json.loads(describe(two, layout, "A100-80GB", gpus=[8], as_json=True))["schedule"]
    assert both["totals"]["hours"] > both["rows"][0]["hours"]
    assert describe(two, layout, "A100-80GB").splitlines()[-1].startswith("together ")
    one = json.loads(describe(two[:1], layout, "A100-80GB", gpus=[8], as_json=True))
    assert one["totals"]["hours"] == pytest.approx(one["schedule"]["totals"]["hours"])


def test_a_study_with_another_engine_and_all_domains(tmp_path: Path) -> None:
    file = ROOT / "studies" / "engines" / "gpu-24gb.yaml"
    found = changed(study("llama-7b"), engine=file, all_domains=True)
    assert found.adapt.engine.offload_parameters
    assert len(found.adapt_to) == len(found.domains) == 199
    assert changed(found, engine=None, all_domains=False) == found
    (tmp_path / "it.yaml").write_text(file.read_text(encoding="utf-8").replace("zero_stage: 3", "zero_stage: 4"))
    with pytest.raises(OdysseyError, match=r"it\.yaml.*zero_stage"):
        changed(found, engine=tmp_path / "it.yaml", all_domains=False)
    with pytest.raises(OdysseyError, match="nowhere"):
        changed(found, engine=tmp_path / "nowhere.yaml", all_domains=False)


@pytest.mark.parametrize("micro", [1, 2, 4, 8, 16])
def test_the_docs_table_of_micro_batches(micro: int) -> None:
    cells = [str(micro)]
    for name, gpu in (("gpu-80gb", "A100-80GB"), ("gpu-24gb", "RTX-4090")):
        fits = changed(study("llama-7b"), engine=ROOT / "studies" / "engines" / f"{name}.yaml", all_domains=False)
        engine = fits.adapt.engine.model_copy(update={"micro_batch_size": micro})
        found = made(fits.model_copy(update={"adapt": fits.adapt.model_copy(update={"engine": engine})}), gpu)
        adapt = stage(found, "adapt")
        mark = "" if on_gpu(adapt.device_memory) < find_gpu(gpu).memory * 1e9 else ", too much"
        cells += [f"{gb(on_gpu(adapt.device_memory))}{mark}", f"{adapt.hours:,.0f} h"]
    line = f"| {' | '.join(cells)} |"
    assert line in doc_steps.read("docs/scale.md").splitlines(), f"the row should be:\n{line}"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has no network."""
    for module in (planning, schedules):
        monkeypatch.setattr(module, "hub_answers", lambda: False)
    monkeypatch.setattr(planning, "look_around", lambda *_, **__: replace(SERVER, one_disk=True))


@pytest.mark.parametrize(
    "step",
    [step for step in doc_steps.steps("docs/scale.md") if isinstance(step, Command) and "plan" in step.text],
    ids=lambda step: step.place,
)
def test_the_docs_on_scale_show_what_is_printed(step: Command, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (words,) = doc_steps.parts_of(step.text)
    said = CliRunner().invoke(main, words[1:])
    assert said.exit_code == 0, said.output
    printed = iter(said.output.splitlines())
    for line in step.printed or ():
        if line != doc_steps.ELLIPSIS:
            assert line in printed, f"{step.place}: `{step.text}` does not print, or not there:\n{line}"
