"""A plan as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from odyssey.planning.amounts import duration, gb, sci
from odyssey.planning.parts import Check, Plan, Stage

WIDTH = 100
"""Columns of the printed plan."""
INDENT = " " * 12
"""Of what is said of a stage."""


def render(made: Plan) -> str:
    """A plan for a terminal, at most `WIDTH` columns wide."""
    lines = [
        *wrap(f"Study {made.study}: ", made.summary),
        *wrap("Sizes: ", made.sizes),
        *wrap("Hours: ", f"on {made.device}"),
    ]
    for stage in made.stages:
        lines += ["", *_stage_lines(stage)]
    lines += ["", *_table_row("TOTAL", _amounts(made.fetched, made.disk, made.hours))]
    if made.dvc_copies:
        lines += wrap(INDENT, "disk counts results twice: DVC keeps a copy, unless the file system shares blocks")
    lines += [*_license_lines(made), "", *_fit_lines(made), "", "How far to trust it"]
    for remark in made.remarks:
        lines += wrap("  ", remark)
    return "\n".join(line.rstrip() for line in lines)


def _stage_lines(stage: Stage) -> list[str]:
    lines = _table_row(stage.name, _amounts(stage.fetched, stage.disk, stage.hours, stage))
    for one in stage.downloads:
        mark = "~" if one.origin == "estimate" else ""
        limits = [one.license, *(["non-commercial"] if one.non_commercial else []), *(["gated"] if one.gated else [])]
        lines += wrap(INDENT + "fetch: ", f"{one.what}, {one.files} files, {mark}{gb(one.bytes)} ({'; '.join(limits)})")
    for sentence in stage.how:
        lines += wrap(INDENT, sentence)
    return lines


def _amounts(fetched: int, disk: int, hours: float | None, stage: Stage | None = None) -> Sequence[str]:
    parts = [f"fetch {gb(fetched)}"] if fetched else []
    parts.append(f"disk {gb(disk)}")
    if stage is not None:
        parts += [f"{sci(stage.tokens)} tokens"] if stage.tokens else []
        parts += [f"{sci(stage.flops)} FLOPs"] if stage.flops else []
        parts += [f"tensors {gb(stage.device_memory)}"] if stage.device_memory else []
        parts += [f"RAM {gb(stage.host_memory)}"] if stage.host_memory else []
    return [*parts, duration(hours)]


def _license_lines(made: Plan) -> list[str]:
    if not made.licenses:
        return []
    lines = ["", "Licences"]
    for what, terms, url, restricted in made.licenses:
        mark = {True: "[NON-COMMERCIAL] ", False: "", None: "[look at it] "}[restricted]
        lines += wrap("  ", f"{what}: {terms} {mark}{url}")
    if any(restricted for *_, restricted in made.licenses) and not made.accepted:
        lines += wrap("  ", "not accepted yet: `accept_licenses: true` in params.yaml, or --accept-licenses")
    return lines


def _fit_lines(made: Plan) -> list[str]:
    """One verdict, or where a GPU is named one for it and one for this machine, which may have none."""
    width = max(len(check.what) for check in (*made.gpu_checks, *made.checks))
    here = [line for check in made.checks for line in _check_lines(check, width)]
    if made.fits_gpu is None:
        return ["Does it fit?", *here]
    there = [line for check in made.gpu_checks for line in _check_lines(check, width)]
    memory = max(stage.host_memory for stage in made.stages)
    besides = f"not checked: its machine needs {gb(memory)} of memory, {gb(made.disk + made.fetched)} of disk"
    return [
        f"Fits the named GPU: {_yes(made.fits_gpu)}",
        *there,
        *wrap(" " * 7, besides),
        "",
        f"Fits this machine as it is: {_yes(made.fits_machine)}",
        *here,
    ]


def _yes(fits: bool) -> str:
    return "yes" if fits else "no"


def _check_lines(check: Check, width: int) -> list[str]:
    verdict = "yes" if check.fits else "NO "
    start = f"  {verdict}  {check.what:<{width}}  {gb(check.needed):>8} of {gb(check.there):>8}"
    return wrap(start + "  ", check.remark, indent=7) if check.remark else [start]


def _table_row(name: str, parts: Sequence[str]) -> list[str]:
    return wrap(f"{name:<12}", "   ".join(parts))


def wrap(start: str, text: str, indent: int | None = None) -> list[str]:
    """A text in lines of `WIDTH` columns, after a start; later lines are indented likewise, or by `indent`."""
    hanging = " " * (min(len(start), 14) if indent is None else indent)
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=hanging, break_long_words=False)
