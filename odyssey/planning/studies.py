"""What `odyssey plan` says: of one study all of its arithmetic, of several a table; on several GPUs a schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from odyssey import yaml_files
from odyssey.complaints import validate_as
from odyssey.corpora import documents
from odyssey.layout import Layout
from odyssey.planning.plan import chosen, make_plan, plan
from odyssey.planning.render import render
from odyssey.planning.schedule import FAILURES, make_schedule
from odyssey.planning.schedule_text import render_schedule
from odyssey.sections import Engine
from odyssey.settings import Settings


def describe(
    studies: Sequence[Settings],
    layout: Layout,
    gpu: str | None,
    *,
    gpus: Sequence[int] = (),
    failures: float = FAILURES,
    as_json: bool = False,
    root: Path = Path(),
) -> str:
    """Studies' plan as text or JSON, as `plan` has it of one; with `gpus`, on each of these numbers of GPUs too.

    `failures` of a GPU are expected an hour. Raises OdysseyError as `plan` does, and where hours on several
    GPUs are asked for and nothing is known of the GPU's speed.
    """
    if len(studies) == 1 and not gpus:
        return plan(studies[0], layout, gpu, as_json, root)
    for settings in studies:
        documents.look_at(settings, root)
    named, machine = chosen(layout, gpu)
    made = make_schedule(studies, named, machine, gpus, failures)
    found: dict[str, Any] = {"schedule": made.as_dict()}
    text = [render_schedule(made)]
    if len(studies) == 1:
        own = make_plan(studies[0], named, machine)
        found, text = {**own.as_dict(), **found}, [render(own), "", *text]
    return json.dumps(found, indent=2) if as_json else "\n".join(text)


def changed(settings: Settings, *, engine: Path | None, all_domains: bool) -> Settings:
    """A study with the engine of a file, or adapting to every domain that it has.

    Raises OdysseyError for a file that is not there, or holds no engine.
    """
    if engine is not None:
        fits = validate_as(Engine, yaml_files.read(engine), str(engine))
        settings = settings.model_copy(update={"adapt": settings.adapt.model_copy(update={"engine": fits})})
    return settings.model_copy(update={"adapt_to": list(settings.domains)}) if all_domains else settings
