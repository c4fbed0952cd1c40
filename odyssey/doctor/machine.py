"""Checks of the machine: what computes, memory and disk, each against what the study is planned to take."""

from __future__ import annotations

import os
from functools import cache

from odyssey.doctor.check import Check, Subject
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.planning.amounts import gb
from odyssey.planning.machine import Machine, look_around
from odyssey.planning.parts import Check as Need
from odyssey.planning.plan import make_plan
from odyssey.sections import PublishedModel

FULL = 10**9
"""Bytes free below which a disk counts as full, whatever is to be written."""
PLAN = "`odyssey plan` shows what takes it"


def processor(subject: Subject) -> Check:
    """Cores, and the GPU if there is one that torch can use."""
    device = _around(subject.layout).device
    told = f"{os.cpu_count()} cores; {device.describe()}"
    settings = subject.settings
    if device.measured is None or settings is None:
        return Check("processor", "ok", told)
    published = [name for name, model in settings.models.items() if isinstance(model, PublishedModel)]
    if published:
        remedy = "use a machine with a GPU, and torch with CUDA from PyPI; `odyssey plan` says how long it takes here"
        return Check("processor", "warn", f"{told}; no GPU for {', '.join(published)}", remedy)
    return Check("processor", "ok", told)


def memory(subject: Subject) -> Check:
    """Memory of the machine, and of its GPU."""
    there = f"{gb(_around(subject.layout).ram)} of memory"
    needs = _needs(subject)
    if isinstance(needs, str):
        return Check("memory", "warn", f"{there}; what the study needs is not known: {needs}", "mend that first")
    own = [need for need in needs if need.what.startswith("memory")]
    told = "; ".join(f"{need.what}: {gb(need.there)}, the study needs {gb(need.needed)}" for need in own)
    if all(need.fits for need in own):
        return Check("memory", "ok", told)
    return Check("memory", "fail", told, f"use a larger machine or a smaller study; {PLAN}")


def disk(subject: Subject) -> Check:
    """Free space where results are written and where the hub's cache is."""
    free = _around(subject.layout).data_free
    told = f"{gb(free)} free for {subject.data}"
    if free < FULL:
        return Check("disk", "fail", told, "free some space, or keep results elsewhere with --data")
    needs = _needs(subject)
    if isinstance(needs, str):
        return Check("disk", "ok", told)
    own = [need for need in needs if need.what.startswith("disk")]
    told = "; ".join(f"{gb(need.there)} free, {gb(need.needed)} needed ({need.what})" for need in own)
    if all(need.fits for need in own):
        return Check("disk", "ok", told)
    # What is there already counts as needed, too.
    return Check("disk", "warn", told, f"free some space unless results or downloads are there already; {PLAN}")


@cache
def _around(layout: Layout) -> Machine:
    return look_around(layout)


def _needs(subject: Subject) -> tuple[Need, ...] | str:
    """What the plan of the study holds against this machine, or why there is none."""
    settings = subject.settings
    if settings is None:
        return "the study is not valid"
    try:
        return make_plan(settings, None, _around(subject.layout), ask_hub=False).checks
    except OdysseyError as error:
        return str(error)
