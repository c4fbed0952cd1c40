"""Whether a study fits: a GPU's memory, the machine's, and the disks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from odyssey.planning.amounts import gb
from odyssey.planning.machine import Device, Machine
from odyssey.planning.parts import Check, Plan, Stage
from odyssey.planning.shapes import Planned
from odyssey.settings import Settings

TIGHT = 0.1
"""Share of a GPU's memory that, if that little is left, makes a fit a tight one."""


def check_gpu(
    stages: Sequence[Stage], settings: Settings, models: Mapping[str, Planned], device: Device
) -> tuple[Check, ...]:
    """Whether each stage's tensors fit into the memory of a GPU; a processor's is the machine's own."""
    if device.measured is not None:
        return ()
    stage = max(stages, key=lambda stage: stage.device_memory)
    needed = device.needs(stage.device_memory)
    fits = needed <= device.memory
    remark = f"stage {stage.name}"
    if not fits:
        remark += "; " + _remedy(settings, models, device)
    elif needed > device.memory * (1 - TIGHT):
        remark += "; tight: estimates are good to about a tenth"
    return (Check(f"memory of {device.name}", needed, device.memory, fits, remark),)


def _remedy(settings: Settings, models: Mapping[str, Planned], device: Device) -> str:
    """The least change of the engine, and of the tokens scored at once, that makes it fit; or that there is none."""
    recipe, rules = settings.adapt, settings.evaluate
    engine, fewest = recipe.engine, max(one.context for one in models.values())
    own = (engine.zero_stage, engine.offload_optimizer, engine.offload_parameters)
    for (zero_stage, offload, too), checkpointing, micro, batch_tokens in product(
        dict.fromkeys([own, (2, True, False), (3, True, True)]),
        dict.fromkeys([engine.activation_checkpointing, True]),
        [n for n in range(engine.micro_batch_size, 0, -1) if recipe.batch_size % n == 0],
        dict.fromkeys([rules.batch_tokens, min(rules.batch_tokens, fewest)]),
    ):
        changes = {"micro_batch_size": micro, "zero_stage": zero_stage}
        changes |= {"offload_optimizer": offload, "offload_parameters": too, "activation_checkpointing": checkpointing}
        tried = recipe.model_copy(update={"engine": engine.model_copy(update=changes)})
        needed, host = 0, 0
        for one in models.values():
            memory = one.training_memory(tried)
            probing = memory.states + one.scoring_memory(recipe.precision, batch_tokens, models=0)
            needed = max(needed, memory.peak, probing, one.scoring_memory(rules.precision, batch_tokens))
            host = max(host, memory.host)
        if device.needs(needed) <= device.memory:
            words = ", ".join(f"{key}: {str(value).lower()}" for key, value in changes.items())
            less = f" and evaluate.batch_tokens: {batch_tokens}" if batch_tokens < rules.batch_tokens else ""
            return f"it would with adapt.engine: {{{words}}}{less}" + (f" ({gb(host)} offloaded)" if host else "")
    return "no setting of adapt.engine and evaluate.batch_tokens makes it fit"


def check_machine(made: Plan, machine: Machine) -> tuple[Check, ...]:
    """Memory and disk of the machine."""
    on_cpu = machine.device.measured is not None
    needs = {stage.name: stage.host_memory + (stage.device_memory if on_cpu else 0) for stage in made.stages}
    name = max(needs, key=lambda stage: needs[stage])
    remark = f"stage {name}" + on_cpu * ", without a GPU"
    memory = _check("memory of this machine", needs[name], machine.ram, remark)
    if machine.one_disk:
        return memory, _check("disk: results, DVC, hub's cache", made.disk + made.fetched, machine.data_free)
    return (
        memory,
        _check("disk: results and DVC", made.disk, machine.data_free),
        _check("disk: hub's cache", made.fetched, machine.cache_free),
    )


def _check(what: str, needed: int, there: int, remark: str = "") -> Check:
    return Check(what, needed, there, needed <= there, remark)
