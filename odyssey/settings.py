"""A study as frozen, validated settings: params.yaml names it, studies/<study>.yaml describes it.

Every number of a study is written once, in its file. No field here has a default except
those that may be left out by their nature. Unknown keys are errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from odyssey import yaml_files
from odyssey.complaints import nearest, printable, validate_as
from odyssey.corpora import m2d2
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE
from odyssey.places import check_places
from odyssey.sections import (
    Adapt,
    Claims,
    DocstringsDomain,
    Domain,
    Embed,
    Engine,
    Evaluate,
    Join,
    Model,
    Name,
    Recipe,
    Report,
    Sample,
    Section,
    Source,
    Tokens,
    TrainedModel,
)

PARAMS_FILE = "params.yaml"
STUDIES = "studies"
"""Folder of the studies' files, beside params.yaml."""
SELECTIONS = "selections"
"""Folder in that of the studies, of lists of domains that `adapt_to` can name."""
ENGINES = "engines"
"""Folder in that of the studies, of ways to fit training into a GPU's memory that `engine` can name."""
TEXTS = "texts"
"""Folder of a user's own texts, beside params.yaml, whose changes DVC notices."""
CHOICE = ("study", "seed", "accept_licenses")
"""Keys of params.yaml: which study, drawn how, and the user's consent. All else is the study's."""

RECIPES = ("pretrain", "adapt")
"""Keys of the sections that say how models are trained."""

T = TypeVar("T")


class Settings(Section):
    """A study: corpora x domains x models, and how each stage treats them."""

    study: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    accept_licenses: bool = Field(default=False, exclude=True)
    """The user's consent to non-commercial licences of what is fetched; it changes no result."""
    source: Source
    domains: Annotated[dict[Name, Domain], Field(min_length=1)]
    """By name; `{all_of: m2d2, revision: ...}` stands for all of M2D2 that the paper measures."""
    adapt_to: Annotated[list[Name], Field(min_length=1)]
    """Domains that models are adapted to; the other ones are only measured. `all` stands for every
    domain, and the path of a file for the list of names in it, such as `odyssey choose` writes."""
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    sample: Sample
    pretrain: Recipe | None
    """For models that are trained here; null if all are published ones."""
    embed: Embed
    adapt: Adapt
    evaluate: Evaluate
    tokens: Tokens
    joins: Annotated[list[Join], Field(min_length=2)] | None
    """Ways of joining rows that are tried against each other, in adaptation and in evaluation; null for none."""
    claims: Claims
    report: Report

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, raw: Any) -> Any:
        domains = raw.get("domains") if isinstance(raw, dict) else None
        if not isinstance(domains, dict):
            return raw
        expanded = _expand_domains(domains)
        return {**raw, "domains": expanded} | ({"adapt_to": list(expanded)} if raw.get("adapt_to") == "all" else {})

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if SOURCE in self.domains:
            raise ValueError(f"a domain cannot be called '{SOURCE}': that is the source corpus; rename it")
        _check_case("domains", [*self.domains, SOURCE])
        _check_case("models", self.models)
        for name in self.adapt_to:
            if name not in self.domains:
                raise ValueError(f"'adapt_to': no domain '{name}' under 'domains'{nearest(name, self.domains)}")
            if self.adapt_to.count(name) > 1:
                raise ValueError(f"'adapt_to' names '{name}' twice")
        if self.joins and len(set(self.joins)) < len(self.joins):
            raise ValueError("'joins' names a way of joining rows twice")
        _check_modules({name: d.modules for name, d in self.domains.items() if isinstance(d, DocstringsDomain)})
        trained = [name for name, model in self.models.items() if isinstance(model, TrainedModel)]
        if trained and self.pretrain is None:
            raise ValueError(f"model '{trained[0]}' is trained here, so the section 'pretrain' cannot be null")
        return self

    @property
    def adapted(self) -> dict[str, Domain]:
        """The domains that models are adapted to, in the order in which `adapt_to` names them."""
        return {name: self.domains[name] for name in self.adapt_to}

    def model(self, name: str) -> Model:
        """The model called `name`; raises OdysseyError with the nearest name."""
        return _pick(self.models, name, "model", "models")

    def domain(self, name: str) -> Domain:
        """The domain called `name`, one that models are adapted to; raises OdysseyError with the nearest name."""
        return _pick(self.adapted, name, "domain", "adapt_to")


def _expand_domains(domains: dict[Any, Any]) -> dict[Any, Any]:
    """M2D2's domains with what its table knows of them; raises ValueError for one that it does not have."""
    if "all_of" in domains:
        if domains["all_of"] != "m2d2" or set(domains) != {"all_of", "revision"}:
            raise ValueError("'domains.all_of' must be m2d2, and 'revision' the only other key")
        return {
            name: {"corpus": "m2d2", "revision": domains["revision"], "portion": about.portion}
            for name, about in m2d2.domains().items()
        }
    expanded = dict(domains)
    for name, about in domains.items():
        if isinstance(about, dict) and about.get("corpus") == "m2d2":
            if name not in m2d2.domains():
                raise ValueError(f"'domains.{name}': M2D2 has no such config{nearest(str(name), m2d2.domains(), 3)}")
            portion = m2d2.domains()[name].portion
            if about.get("portion", portion) != portion:
                raise ValueError(f"'domains.{name}.portion' is {portion} in M2D2; leave the key out")
            expanded[name] = {**about, "portion": portion}
    return expanded


def _check_case(key: str, names: Iterable[str]) -> None:
    """Raises ValueError for names that are one folder where the file system does not mind the case."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"'{key}': '{other}' and '{name}' differ in upper and lower case only; rename one")


def _check_modules(modules: dict[str, list[str]]) -> None:
    """Raises ValueError if a documentation string could belong to two domains."""
    owner = {module: name for name, own in modules.items() for module in own}
    for name, own in modules.items():
        for module in own:
            parts = module.split(".")
            for above in (".".join(parts[:k]) for k in range(1, len(parts) + 1)):
                if owner.get(above, name) != name:
                    raise ValueError(
                        f"domains '{owner[above]}' and '{name}' share modules; a document can be of one only"
                    )


class Choice(Section):
    """What params.yaml says: which study, how it is drawn, and what the user agrees to."""

    study: Name
    """A file of studies/, without its suffix."""
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    accept_licenses: bool


def load_settings(path: str | Path = PARAMS_FILE, study: str | None = None) -> Settings:
    """Read and validate the study that a params file names, or another one of its folder's studies.

    All of it is checked here, before anything runs: keys, values, names, and that the files it
    names are there. Raises OdysseyError naming the file, the key, and the nearest valid key or
    the reason, for the first thing that is wrong.
    """
    path = Path(path)
    choice = load_choice(path)
    name = choice.study if study is None else study
    file = study_file(name, path.parent)
    raw = yaml_files.read(file)
    if isinstance(raw, dict):
        if misplaced := [key for key in CHOICE if key in raw]:
            raise OdysseyError(f"{file}: key '{misplaced[0]}' belongs into {path}, where it holds for every study")
        raw = {**raw, "adapt_to": _names(raw.get("adapt_to"), path.parent, str(file))}
        raw |= {key: _with_engine(raw[key], path.parent, f"{file}: key '{key}") for key in RECIPES if key in raw}
        raw = {key: value for key, value in raw.items() if value is not None or key != "adapt_to"}
        raw |= {**choice.model_dump(), "study": name}
    settings = validate(raw, str(file))
    named: dict[str, object] = {"source": settings.source}
    named |= {f"domains.{key}": domain for key, domain in settings.domains.items()}
    named |= {f"models.{key}": model for key, model in settings.models.items()}
    check_places(named, settings.embed, path.parent, str(file))
    return settings


def load_choice(path: Path) -> Choice:
    """What params.yaml says; raises OdysseyError naming the key that is wrong in it."""
    content = yaml_files.read(path, "run from the project's folder or pass --params")
    return validate_as(Choice, content, str(path))


def studies(root: Path) -> list[str]:
    """Names of the studies that there are beside a params file."""
    return sorted(path.stem for path in (root / STUDIES).glob("*.yaml"))


def study_file(name: str, root: Path) -> Path:
    """Where a study is described; raises OdysseyError with the nearest names if it is nowhere."""
    if name not in studies(root):
        raise OdysseyError(f"no study '{name}': {root / STUDIES} has no {name}.yaml{nearest(name, studies(root))}")
    return root / STUDIES / f"{name}.yaml"


def validate(raw: Any, origin: str) -> Settings:
    """Turn a parsed study, with what params.yaml says, into Settings; `origin` is the name used in errors."""
    return validate_as(Settings, raw, origin)


def _names(value: Any, root: Path, origin: str) -> Any:
    """The list of names in the file that `adapt_to` may be the path of; anything else as it is."""
    if not isinstance(value, str) or value == "all":
        return value
    # Only there does DVC look for changes.
    file = _named(value, SELECTIONS, root, f"{origin}: key 'adapt_to'", "'all', a list of domains")
    found = yaml_files.read(file)
    if not isinstance(found, list):
        raise OdysseyError(f"{file}: expected a list of domains' names, found {type(found).__name__}")
    return found


def _with_engine(recipe: Any, root: Path, where: str) -> Any:
    """A recipe with the settings in the file that its `engine` may be the path of; anything else as it is."""
    if not isinstance(recipe, dict) or not isinstance(recipe.get("engine"), str):
        return recipe
    file = _named(recipe["engine"], ENGINES, root, f"{where}.engine'", "its settings")
    return {**recipe, "engine": validate_as(Engine, yaml_files.read(file), str(file))}


def _named(value: str, folder: str, root: Path, where: str, instead: str) -> Path:
    """The file of a folder of the studies' that a value names; raises OdysseyError with what to write `instead`."""
    if Path(value).parent != Path(STUDIES, folder) or not os.path.isfile(root / value):  # noqa: PTH113 - Path's fails for a name too long
        raise OdysseyError(
            f"{where}: {printable(value)} is no file in {STUDIES}/{folder}; write {instead}, or such a file"
        )
    return root / value


def _pick(table: dict[str, T], name: str, kind: str, section: str) -> T:
    if name not in table:
        raise OdysseyError(f"no {kind} '{name}' under '{section}' in the study{nearest(name, table)}")
    return table[name]
