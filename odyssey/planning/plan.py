"""What a study takes, before anything is fetched: downloads, disk, tokens, operations, memory, hours.

Sizes are the hub's where it can be reached, else those recorded here, else estimates, and each
number says which. The arithmetic of cost is in `science.cost`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from odyssey.corpora import documents
from odyssey.layout import Layout
from odyssey.planning import model_stages, text_stages
from odyssey.planning.fit import check_gpu, check_machine
from odyssey.planning.machine import Device, Machine, dvc_copies, find_gpu, is_cpu, look_around
from odyssey.planning.parts import Plan, Stage
from odyssey.planning.render import render
from odyssey.planning.shapes import TOKENS_PER_GPT2_TOKEN, Planned, shape_of
from odyssey.planning.sizes import BYTES_PER_TOKEN, Sizes, hub_answers
from odyssey.planning.work import Work
from odyssey.published import licenses_of
from odyssey.science import cost, memory
from odyssey.science.cost import Gpu
from odyssey.settings import Settings

CLAIMS_BYTES = 1_000_000
"""Tables of claims and of what they rest on. An estimate of ours."""
REPORT_BYTES = 20_000_000
"""Figures, tables and a page. An estimate of ours."""
REMARKS = (
    "hours: operations / (peak x utilisation), the shares of the peak being guesses "
    f"({', '.join(f'{kind} {share:g}' for kind, share in cost.UTILISATION.items())}); reading, "
    "tokenising and writing come on top; what the hub's cache holds already is not taken off",
    "tokens: of GPT-2's vocabulary where a source states them; else bytes of text / "
    f"{BYTES_PER_TOKEN}; times {TOKENS_PER_GPT2_TOKEN} for vocabularies of up to 32,000; all estimates",
    "memory: tensors as counted in runs of DeepSpeed in one process; a GPU is taken to need "
    f"{memory.FRAGMENTATION:.0%} more, and {memory.CUDA_CONTEXT / 1e9:.1f} GB for CUDA",
)
"""What to keep in mind when reading the numbers."""


def plan(settings: Settings, layout: Layout, gpu: str | None, as_json: bool = False, root: Path = Path()) -> str:
    """The plan of a study as text or JSON: for the named GPU, or for what this machine has.

    "cpu" names this machine's processor, also where there is a GPU. `root` is where a user's
    relative paths start. Raises OdysseyError for a GPU that is not in the table, for texts of the
    user's that cannot be read, and for a published model whose architecture can neither be looked
    up nor read.
    """
    documents.look_at(settings, root)
    made = make_plan(settings, *chosen(layout, gpu))
    return json.dumps(made.as_dict(), indent=2) if as_json else render(made)


def chosen(layout: Layout, gpu: str | None) -> tuple[Gpu | None, Machine]:
    """The GPU of the table that is named, and this machine; raises OdysseyError for one that is not in the table."""
    named = None if gpu is None or is_cpu(gpu) else find_gpu(gpu)
    return named, look_around(layout, use_gpu=not is_cpu(gpu), measure=named is None)


def make_plan(settings: Settings, gpu: Gpu | None, machine: Machine, *, ask_hub: bool = True) -> Plan:
    """Plan a study for a GPU, or without one for the machine's own device, and check both."""
    sizes = Sizes(settings, online=ask_hub and hub_answers())
    named = None if gpu is None else Device(gpu.name, round(gpu.memory * 1e9), gpu)
    device = named or machine.device
    models = {
        name: Planned(name, model, shape_of(name, model, sizes.online)) for name, model in settings.models.items()
    }
    stages = _stages(Work(settings, sizes, device, models))
    parameters = ", ".join(f"{name} ({one.shape.parameters():,} parameters)" for name, one in models.items())
    made = Plan(
        study=settings.study,
        summary=f"{len(settings.domains)} domains, {len(settings.adapted)} adapted to; {parameters}",
        sizes=sizes.explain(),
        device=device.describe(),
        stages=stages,
        dvc_copies=dvc_copies(Path()),
        licenses=tuple((what, terms.name, terms.url, terms.non_commercial) for what, terms in licenses_of(settings)),
        accepted=settings.accept_licenses,
        gpu_checks=() if named is None else check_gpu(stages, settings, models, named),
        checks=check_gpu(stages, settings, models, machine.device),
        remarks=REMARKS,
    )
    return replace(made, checks=(*made.checks, *check_machine(made, machine)))


def _stages(work: Work) -> tuple[Stage, ...]:
    embedded = text_stages.embed(work)
    return (
        text_stages.sample(work),
        model_stages.pretrain(work),
        embedded,
        text_stages.similarity(work, vectors=embedded.disk),
        model_stages.adapt(work),
        model_stages.evaluate(work),
        model_stages.tokens(work),
        model_stages.joins(work),
        Stage("claims", disk=CLAIMS_BYTES, hours=0.02, how=("bootstrap and permutations: seconds a domain",)),
        Stage("report", disk=REPORT_BYTES, hours=0.02, how=("figures, tables and a page: about 20 MB, a minute",)),
    )
