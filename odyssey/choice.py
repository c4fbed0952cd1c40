"""Which study is in use, a line of params.yaml, and which domains one adapts to, a file it can name."""

from __future__ import annotations

import csv
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from odyssey import yaml_files
from odyssey.complaints import printable
from odyssey.corpora import documents
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.science.perplexity import Score
from odyssey.sections import NAME, check_name
from odyssey.settings import SELECTIONS, STUDIES, Settings, load_choice, load_settings, studies, study_file
from odyssey.store import check_folder, read_json, write_text

Measure = Literal["mmd", "fd", "change"]


def use(params: Path, study: str | None, accept_licenses: bool = False) -> None:
    """Make `study` the one in use, if one is given; the rest of the file, comments too, stays as it is.

    The study is validated as a whole first, and results that DVC has taken away are brought back
    from its cache: `dvc exp run` and `dvc checkout` clear what is not of the study in use. Raises
    OdysseyError, and writes nothing, if there is no such study or something is wrong with it.
    """
    settings = load_settings(params, study)
    documents.look_at(settings, params.parent)
    text = _set(params, params.read_text(encoding="utf-8"), "study", settings.study)
    if accept_licenses:
        text = _set(params, text, "accept_licenses", "true")
    wanted = load_choice(params).model_dump() | {"study": settings.study}
    if yaml_files.parse(text, str(params)) != wanted | ({"accept_licenses": True} if accept_licenses else {}):
        raise OdysseyError(f"{params}: no line 'study: NAME' to write to; write each key and its value on a line")
    write_text(params, text)
    if absent := _absent_stages(params.parent, settings.study):
        print(f"looking in DVC's cache for what is not here: {', '.join(absent)}", flush=True)
        command = [sys.executable, "-m", "dvc", "checkout", "--quiet", "--allow-missing", *absent]
        subprocess.run(command, cwd=params.parent, check=False)  # what is not there is made again


def _absent_stages(root: Path, study: str) -> list[str]:
    """Stages of a study whose results dvc.lock knows and that are not in the workspace."""
    lock = root / "dvc.lock"
    if not lock.is_file():
        return []
    try:
        # Not by `yaml_files`: DVC writes it, and it grows with the studies.
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        return [
            name
            for name, stage in stages.items()
            if name.endswith(f"@{study}") and not all((root / out["path"]).exists() for out in stage.get("outs", ()))
        ]
    except (UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise OdysseyError(f"{lock}: not as DVC writes it; `git checkout dvc.lock`, or delete it") from None


def listing(params: Path) -> str:
    """The studies there are, the one in use marked, each with the first line of what its file says."""
    used = load_choice(params).study
    names = studies(params.parent)
    width = max(map(len, names), default=0)
    lines = (f"{name:<{width}}  {_about(study_file(name, params.parent))}".rstrip() for name in names)
    return "\n".join(f"{'*' if name == used else ' '} {line}" for name, line in zip(names, lines, strict=True))


def _about(file: Path) -> str:
    """The first sentence of the comment that a study's file begins with."""
    lines = []
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return printable(re.split(r"[.?]\s", " ".join(lines), maxsplit=1)[0])


def _set(params: Path, text: str, key: str, value: str) -> str:
    """A params file with a top-level key's value replaced, what follows it on the line kept."""
    new, count = re.subn(rf"(?m)^({key}:\s*)\S+", rf"\g<1>{value}", text)
    if count != 1:
        raise OdysseyError(f"{params}: expected one line '{key}: ...', found {count}; write it on a line of its own")
    return new


def select(
    settings: Settings, layout: Layout, root: Path, name: str, by: Measure, count: int, model: str | None
) -> Path:
    """Write the `count` domains at both ends of a measure as studies/selections/<name>.yaml.

    By "mmd" or "fd" these are the domains nearest to the source corpus and the farthest (the
    paper, section 2.2, chooses by similarity); by "change" of a model's perplexity those that
    improved and degraded most, the paper's "most extreme 20" (section 3). Raises OdysseyError if
    the results are not there, or a list of that name is.
    """
    if not re.fullmatch(NAME, name):
        raise OdysseyError(f"'{name}' cannot be a selection's name: letters, digits, '_', '.' and '-' only")
    try:
        check_name(name)
    except ValueError as error:
        raise OdysseyError(str(error)) from None
    if by != "change" and model is not None:
        raise OdysseyError(f"--model goes with --by change; the {by} of a domain is the same for every model")
    path = root / STUDIES / SELECTIONS / f"{name}.yaml"
    if path.exists():
        raise OdysseyError(f"{path}: is there already; choose another name or delete it")
    values = _changes(settings, layout, model) if by == "change" else _distances(layout, by)
    chosen = extremes(values, count)
    whose = f"of {model}'s perplexity" if by == "change" else "to the source corpus"
    study = f"in the study '{settings.study}', seed {settings.seed}"
    title = f"# By {by} {whose} {study}: the smallest first, then the largest."
    write_text(path, title + "\n" + yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True))
    return path


def extremes(values: Mapping[str, float], count: int) -> list[str]:
    """Names of the `count` most extreme values: half of the smallest, ascending, then half of the largest, descending.

    Of an odd count the smallest get one more; ties are in the order of the names. Raises OdysseyError for a count
    that there is not.
    """
    if not 2 <= count <= len(values):
        raise OdysseyError(f"cannot choose {count} of {len(values)} domains; give --count from 2 to {len(values)}")
    ranked = sorted(values, key=lambda name: (values[name], name))
    return ranked[: math.ceil(count / 2)] + ranked[::-1][: count // 2]


def _distances(layout: Layout, by: str) -> dict[str, float]:
    check_folder(layout.similarity, "similarity")
    with (layout.similarity / "similarity.csv").open(encoding="utf-8", newline="") as file:
        return {row["domain"]: float(row[by]) for row in csv.DictReader(file)}


def _changes(settings: Settings, layout: Layout, model: str | None) -> dict[str, float]:
    """Adapted minus zero-shot perplexity by domain: negative where it improved."""
    if model is None:
        raise OdysseyError(f"the change is a model's: name one with --model ({', '.join(settings.models)})")
    settings.model(model)
    changes = {}
    for domain in settings.adapted:
        folder = layout.evaluated(model, domain)
        check_folder(folder, "evaluate")
        scores = read_json(folder / "scores.json")
        before, after = (Score(**scores[key]).perplexity for key in ("zero_shot", "adapted"))
        changes[domain] = after - before
    return changes
