"""What a study takes, before anything is fetched: downloads, disk, tokens, operations, memory, hours.

Sizes are the hub's where it can be reached, else those recorded here, else estimates, and each
number says which. The arithmetic of cost is in `science.cost`.
"""

from __future__ import annotations

import configparser
import json
import math
import os
import re
import shutil
import statistics
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from odyssey.corpora import hub, m2d2
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.published import CHECKPOINTS, CORPORA, M2D2, find_checkpoint, licenses_of
from odyssey.science import cost
from odyssey.science.cost import GPUS, PLAIN_GELU, Gpu, Memory, Shape
from odyssey.settings import (
    Architecture,
    HubSource,
    LocalDomain,
    LocalSource,
    M2D2Domain,
    Model,
    PublishedModel,
    Recipe,
    Settings,
    SplitName,
    TrainedModel,
    nearest,
)
from odyssey.stages.embed import sample_size

Origin = Literal["hub", "recorded", "bound", "estimate"]
"""Where a size comes from: the hub, this package, a limit of the study's, or a guess."""

WIDTH = 100
"""Columns of the printed plan."""

# Estimates, ours unless said otherwise.
BYTES_PER_TOKEN = 4.2
"""UTF-8 bytes of a GPT-2 token in the domains' text: English prose has 4.3 to 4.6, formulas fewer."""
ARCHIVE_RATIO = 3.2
"""Bytes of text in a byte of an M2D2 archive, as seen in several."""
TOKENS_PER_ROW = 75
"""Of M2D2, whose rows are paragraphs of about 50 to 100 tokens."""
HELD_OUT_BYTES = 5_000_000
"""Of M2D2's validation and test splits: exactly that in cs.CL; others are known from 0.7 to 12 million tokens."""
RECORDED_ARCHIVES: Mapping[str, int] = MappingProxyType(
    {
        "Culture_and_the_arts": 753_000_000,
        "Culture_and_the_arts__The_arts_and_Entertainment": 1_700_000,
        "Culture_and_the_arts__Games_and_Toys": 8_800_000,
    }
)
"""Bytes of M2D2 archives that are known without asking the hub."""
TOKENS_PER_WORD = ((4096, 2.5), (16384, 1.9), (10**9, 1.4))
"""By the largest vocabulary they hold for; 2.3 was counted with 2048 entries, 1.3 is usual with 50,000."""
TOKENS_PER_GPT2_TOKEN = 1.15
"""Of a vocabulary of at most 32,000 entries such as LLaMA's."""
MODULE_ROWS = 5000
"""Rows of a package's documentation, where the study sets no limit."""
STORED_TEXT = 0.6
"""Bytes of a Parquet file of rows for a byte of text."""
TOKEN_TABLE_ROW = 60
"""Bytes of a line of the token tables."""
REPORT_BYTES = 20_000_000
DOWNLOAD_RATE = 50e6
"""Bytes a second."""
TEXT_RATE = 30e6
"""Bytes of text a second that a core unpacks, cuts into rows and writes."""
HOST_PER_TOKEN = 16
"""Bytes of the machine's memory for a token of a text: its id as int64, twice while texts are joined."""
TIGHT = 0.1
"""Share of a GPU's memory that, if that little is left, makes a fit a tight one."""
PROCESSOR_SHARE = 0.5
"""Of the rate that a processor was measured at in large products."""

MINILM = Shape(6, 384, 12, 12, 1536, 30522, 256, False, True, True, True, "layer")
"""all-MiniLM-L6-v2: 22.7 million parameters; reads 256 tokens of a row. Its output layer is not used."""
ENCODER_SLOWER: Mapping[str, float] = MappingProxyType({"mpnet": 5.0})
"""Cost of other encoders against MiniLM's, by a part of the name."""


def _gpt2(layers: int, width: int, heads: int) -> Shape:
    return Shape(
        layers,
        width,
        heads,
        heads,
        4 * width,
        50257,
        1024,
        gated=False,
        tied=True,
        learned_positions=True,
        biases=True,
        norm="layer",
        gelu_tensors=PLAIN_GELU,
        dropout=True,
    )


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "openai-community/gpt2": _gpt2(12, 768, 12),
        "openai-community/gpt2-large": _gpt2(36, 1280, 20),
        "openai-community/gpt2-xl": _gpt2(48, 1600, 25),
        "allenai/OLMo-1B-hf": Shape(16, 2048, 16, 16, 8192, 50304, 2048, True, True, False, False, "plain"),
        "huggyllama/llama-7b": Shape(32, 4096, 32, 32, 11008, 32000, 2048, True, False, False, False, "rms"),
    }
)
"""Of the paper's models, by hub id, as their config.json has them."""


# -- what a plan consists of


@dataclass(frozen=True)
class Download:
    """Something that is fetched into the hub's cache."""

    what: str
    files: int
    bytes: int
    origin: Origin
    license: str
    non_commercial: bool | None
    gated: bool | None
    """None if not known."""


@dataclass(frozen=True)
class Stage:
    """What one stage takes; hours are on the plan's device."""

    name: str
    downloads: tuple[Download, ...] = ()
    disk: int = 0
    """Bytes of its result."""
    tokens: int = 0
    """Read by a language model or the encoder, all passes together."""
    flops: float = 0
    device_memory: int = 0
    """Bytes of tensors where it computes, at the highest."""
    host_memory: int = 0
    """Bytes of the machine's own memory, besides."""
    hours: float | None = 0
    """None where nothing is known of the device's speed."""
    how: tuple[str, ...] = ()
    """The arithmetic, a sentence each."""

    @property
    def fetched(self) -> int:
        """Bytes of the downloads."""
        return sum(download.bytes for download in self.downloads)


@dataclass(frozen=True)
class Device:
    """What computes: a GPU, or the processor at a measured rate."""

    name: str
    memory: int
    """Bytes."""
    gpu: Gpu | None
    """None for a processor, and for a GPU that is not in the table."""
    measured: float | None = None
    """Operations a second that a processor reached in large float32 products."""

    def rate(self, number: cost.Number) -> float | None:
        """Peak operations a second; None if not known."""
        return self.measured if self.gpu is None else self.gpu.rate(number)

    def needs(self, tensors: int) -> int:
        """Bytes of its memory that so many bytes of tensors take."""
        return tensors if self.measured is not None else cost.on_gpu(tensors)


@dataclass(frozen=True)
class Machine:
    """The machine that a study would run on."""

    cores: int
    ram: int
    device: Device
    data_free: int
    """Bytes free where results are written."""
    cache_free: int
    """Bytes free where the hub's cache is."""
    one_disk: bool
    """Whether those are the same bytes."""


@dataclass(frozen=True)
class Check:
    """Something needed against what there is, in bytes."""

    what: str
    needed: int
    there: int
    fits: bool
    remark: str = ""


@dataclass(frozen=True)
class Plan:
    """All of it."""

    study: str
    summary: str
    sizes: str
    """Where sizes come from."""
    device: str
    stages: tuple[Stage, ...]
    dvc_copies: bool
    """Whether DVC's cache holds results a second time."""
    licenses: tuple[tuple[str, str, str, bool | None], ...]
    """What, licence, where it is stated, whether it excludes commercial use."""
    accepted: bool
    checks: tuple[Check, ...]
    remarks: tuple[str, ...] = field(default=())

    @property
    def disk(self) -> int:
        """Bytes of results and of DVC's copies of them."""
        return sum(stage.disk for stage in self.stages) * (2 if self.dvc_copies else 1)

    @property
    def fetched(self) -> int:
        """Bytes that end in the hub's cache."""
        return sum(stage.fetched for stage in self.stages)

    @property
    def hours(self) -> float | None:
        """On the plan's device; None if any stage's are not known."""
        known = [stage.hours for stage in self.stages if stage.hours is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the totals."""
        totals = {
            "fetched": self.fetched,
            "disk": self.disk,
            "flops": sum(stage.flops for stage in self.stages),
            "tokens": sum(stage.tokens for stage in self.stages),
            "hours": self.hours,
        }
        return {**asdict(self), "totals": totals, "fits": all(check.fits for check in self.checks)}


def plan(settings: Settings, layout: Layout, gpu: str | None, as_json: bool = False) -> str:
    """The plan of a study as text or JSON: for the named GPU, or for what this machine has.

    Raises OdysseyError for a GPU that is not in the table, and for a published model whose
    architecture can neither be looked up nor read.
    """
    named = None if gpu is None else find_gpu(gpu)
    made = make_plan(settings, named, look_around(layout, cpu_needed=named is None))
    return json.dumps(made.as_dict(), indent=2) if as_json else render(made)


def make_plan(settings: Settings, gpu: Gpu | None, machine: Machine, *, ask_hub: bool = True) -> Plan:
    """Plan a study for a GPU, or without one for the machine's own device, and check both."""
    sizes = Sizes(settings, online=ask_hub and hub_answers())
    device = machine.device if gpu is None else Device(gpu.name, round(gpu.memory * 1e9), gpu)
    models = {
        name: Planned(name, model, shape_of(name, model, sizes.online)) for name, model in settings.models.items()
    }
    work = Work(settings, sizes, device, models)
    stages = (
        work.sample(),
        work.pretrain(),
        work.embed(),
        work.similarity(),
        work.adapt(),
        work.evaluate(),
        work.tokens(),
        Stage("report", disk=REPORT_BYTES, hours=0.02, how=("figures, tables and a page: about 20 MB, a minute",)),
    )
    named = ", ".join(f"{name} ({one.shape.parameters():,} parameters)" for name, one in models.items())
    made = Plan(
        study=settings.study,
        summary=f"{len(settings.domains)} domains, {len(settings.adapted)} adapted to; {named}",
        sizes=sizes.explain(),
        device=_describe(device),
        stages=stages,
        dvc_copies=dvc_copies(Path()),
        licenses=tuple((what, terms.name, terms.url, terms.non_commercial) for what, terms in licenses_of(settings)),
        accepted=settings.accept_licenses,
        checks=(),
    )
    checks = [*_check_device(made, settings, models, device)]
    if gpu is not None and machine.device != device:
        checks += _check_device(made, settings, models, machine.device)
    return replace(made, checks=(*checks, *_check_host(made, machine)), remarks=work.remarks())


# -- models


@dataclass(frozen=True)
class Planned:
    """A model with its shape."""

    name: str
    model: Model
    shape: Shape

    @property
    def context(self) -> int:
        """Tokens in a sequence."""
        return self.model.context

    @property
    def tokens_per_word(self) -> float:
        """Estimate, by the vocabulary."""
        return next(ratio for limit, ratio in TOKENS_PER_WORD if self.shape.vocabulary <= limit)

    @property
    def factor(self) -> float:
        """Tokens of this model's for a token of GPT-2's, for texts whose size is known in those."""
        if isinstance(self.model, TrainedModel):
            return self.tokens_per_word / TOKENS_PER_WORD[-1][1]
        return TOKENS_PER_GPT2_TOKEN if self.shape.vocabulary <= 32000 else 1.0


def shape_of(name: str, model: Model, online: bool) -> Shape:
    """A model's architecture: from the study, the table, or its config.json; raises OdysseyError if none has it."""
    if isinstance(model, TrainedModel):
        return _trained_shape(model.architecture)
    known = find_checkpoint(model.checkpoint)
    if known is not None:
        return SHAPES[known.repo]
    folder = Path(model.checkpoint)
    if not folder.exists():
        if not online:
            raise OdysseyError(
                f"model '{name}': {model.checkpoint} is not among the models that are known here "
                f"({', '.join(CHECKPOINTS)}), and the hub cannot be reached for its config.json; plan it online"
            )
        folder = hub.fetch(model.checkpoint, "config.json", model.revision or "main", "model").parent
    return read_shape(folder)


def _trained_shape(about: Architecture) -> Shape:
    return Shape(
        about.layers,
        about.width,
        about.heads,
        about.heads,
        4 * about.width,
        about.vocabulary,
        about.context,
        gated=False,
        tied=True,
        learned_positions=True,
        biases=True,
        norm="layer",
    )


def read_shape(folder: Path) -> Shape:
    """The architecture that a checkpoint's config.json describes; parameters are exact for any that transformers has.

    Kinds other than GPT-2's, OLMo's and LLaMA's are taken for the nearest of these. Raises
    OdysseyError if there is no readable config.json, or it is of no language model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            real = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        gpt2 = config.model_type == "gpt2"
        norm: cost.Norm = "layer" if gpt2 else "plain" if config.model_type == "olmo" else "rms"
        heads = config.num_attention_heads
        inner = getattr(config, "n_inner", None) if gpt2 else config.intermediate_size
        shape = Shape(
            config.num_hidden_layers,
            config.hidden_size,
            heads,
            getattr(config, "num_key_value_heads", None) or heads,
            inner or 4 * config.hidden_size,
            config.vocab_size,
            config.max_position_embeddings,
            gated=not gpt2 and "gelu" not in getattr(config, "hidden_act", "silu"),
            tied=config.tie_word_embeddings,
            learned_positions=gpt2,
            biases=gpt2,
            norm=norm,
            gelu_tensors=PLAIN_GELU if getattr(config, "activation_function", "") == "gelu_new" else cost.FUSED_GELU,
            dropout=gpt2 and config.resid_pdrop > 0,
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise OdysseyError(f"{folder}: its config.json is of no language model that can be planned: {first}") from None
    return replace(shape, extra=real - shape.parameters())


# -- sizes of texts


@dataclass(frozen=True)
class Text:
    """Size of a corpus or split: tokens are GPT-2's, or words where it comes from documents."""

    rows: int
    bytes: int
    tokens: int
    words: int
    """Limit on its words, for texts that are cut into rows here; else 0."""
    origin: Origin

    def counted(self, model: Planned) -> int:
        """Tokens in this model's vocabulary."""
        if self.words:
            return round(self.words * model.tokens_per_word)
        return round(self.tokens * model.factor)


class Sizes:
    """What is known of the sizes of a study's texts and checkpoints."""

    def __init__(self, settings: Settings, online: bool) -> None:
        self.online = online
        self._settings = settings
        self._listed: dict[tuple[str, str], list[hub.HubFile]] = {}
        known = [about.tokens for about in m2d2.domains().values() if about.tokens]
        recorded = [round(size * ARCHIVE_RATIO / BYTES_PER_TOKEN) for size in RECORDED_ARCHIVES.values()]
        self.median = round(statistics.median([*known, *recorded]))
        self.archives = {name: self._archive(name, about) for name, about in self._m2d2().items()}

    def _m2d2(self) -> dict[str, M2D2Domain]:
        return {name: about for name, about in self._settings.domains.items() if isinstance(about, M2D2Domain)}

    def _files(self, repo: str, revision: str, kind: hub.Kind) -> list[hub.HubFile]:
        """Files of a repository, or nothing where the hub does not tell."""
        if self.online and (repo, revision) not in self._listed:
            try:
                self._listed[repo, revision] = hub.list_files(repo, revision, kind)
            except OdysseyError:
                self._listed[repo, revision] = []
        return self._listed.get((repo, revision), [])

    def _archive(self, name: str, about: M2D2Domain) -> tuple[int, Origin]:
        """Bytes of a domain's archive."""
        path = m2d2.archive(name)
        for file in self._files(m2d2.REPO, about.revision, "dataset"):
            if file.path == path:
                return file.size, "hub"
        if name in RECORDED_ARCHIVES:
            return RECORDED_ARCHIVES[name], "recorded"
        tokens = m2d2.domains()[name].tokens
        return round((tokens or self.median) * BYTES_PER_TOKEN / ARCHIVE_RATIO), "recorded" if tokens else "estimate"

    def corpus(self, source: HubSource, pattern: str) -> tuple[int, int, Origin]:
        """Files and bytes of a source corpus; Dolma's are on another host, and not asked for."""
        about = CORPORA[source.corpus]
        files = [f for f in self._files(about.repo, source.revision, "dataset") if fnmatchcase(f.path, pattern)]
        if files and source.corpus != "dolma":
            return len(files), sum(file.size for file in files), "hub"
        return about.files, about.bytes or 0, "recorded"

    def checkpoint(self, model: PublishedModel, shape: Shape) -> tuple[int, int, Origin]:
        """Files and bytes of a checkpoint: its weights, as far as is known, and small files."""
        files = [
            file
            for file in self._files(model.checkpoint, model.revision or "main", "model")
            if any(fnmatchcase(file.path, pattern) for pattern in hub.MODEL_FILES)
        ]
        if files:
            return len(files), sum(file.size for file in files), "hub"
        known = find_checkpoint(model.checkpoint)
        if known is not None:
            return 5, known.bytes, "estimate" if known.inferred else "recorded"
        return 5, 4 * shape.parameters(), "estimate"

    def split(self, name: str, split: SplitName) -> Text:
        """Size of one split of a domain, as `sample` would write it."""
        limit = getattr(self._settings.sample.rows, split)
        domain = self._settings.domains[name]
        if not isinstance(domain, M2D2Domain):
            return self._documents(domain, limit, {"train": 0.8, "valid": 0.1, "test": 0.1}[split])
        tokens, origin = self._m2d2_tokens(name)
        if split != "train":
            held_out = min(HELD_OUT_BYTES / BYTES_PER_TOKEN, tokens)
            tokens, origin = round(held_out), "estimate"
        rows = math.ceil(tokens / TOKENS_PER_ROW)
        if limit is not None and limit < rows:
            tokens, rows = limit * TOKENS_PER_ROW, limit
        return Text(rows, round(tokens * BYTES_PER_TOKEN), tokens, 0, origin)

    def _m2d2_tokens(self, name: str) -> tuple[int, Origin]:
        """GPT-2 tokens of a domain: as published, else from its archive's size."""
        known = m2d2.domains()[name].tokens
        if known:
            return known, "recorded"
        archive, origin = self.archives[name]
        return round(archive * ARCHIVE_RATIO / BYTES_PER_TOKEN), "estimate" if origin != "hub" else "hub"

    def source(self) -> Text:
        """Size of the source corpus's sample."""
        source = self._settings.source
        if not isinstance(source, HubSource):
            return self._documents(source, source.rows, 1.0)
        about = CORPORA[source.corpus]
        rows = min(source.rows or 10**12, about.rows or 10**12)
        size = rows * (about.row_bytes or 0)
        return Text(rows, size, round(size / BYTES_PER_TOKEN), 0, "estimate")

    def _documents(self, corpus: Any, limit: int | None, share: float) -> Text:
        """Rows cut from documents: at most `limit` rows of `row_words` words, and no more than there is."""
        words = self._settings.sample.row_words
        rows = limit
        origin: Origin = "bound"
        if isinstance(corpus, LocalSource | LocalDomain):
            there = math.ceil(_text_bytes(Path(corpus.path)) * share / 6 / words)  # 6 bytes a word, the space included
            if limit is None or there < limit:
                rows, origin = max(there, 1), "estimate"
        elif limit is None:
            rows, origin = math.ceil(MODULE_ROWS * len(corpus.modules) * share), "estimate"
        assert rows is not None
        return Text(rows, rows * words * 6, 0, rows * words, origin)

    def explain(self) -> str:
        """Where sizes come from, in a sentence."""
        start = "asked of the hub" if self.online else "offline: sizes from recorded facts"
        if not self._m2d2():
            return f"{start}; rows x words of the study are upper bounds"
        guessed = sum(origin == "estimate" for _, origin in self.archives.values())
        ending = f"; {guessed} of {len(self.archives)} M2D2 archives are taken to be the median of the known ones"
        return start + (f"{ending}, {self.median:,} tokens" if guessed else "")


def _text_bytes(path: Path) -> int:
    """Bytes of a user's texts; compressed ones are taken to be `ARCHIVE_RATIO` times as long."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    packed = (".gz", ".zst", ".parquet")
    return round(sum(file.stat().st_size * (ARCHIVE_RATIO if file.suffix in packed else 1) for file in files))


def hub_answers(timeout: float = 3.0) -> bool:
    """Whether the hub can be reached, within some seconds and without trying again."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception:  # whatever keeps it from answering
        return False
    return True


# -- stages


class Work:
    """Turns a study's settings and sizes into its stages."""

    def __init__(self, settings: Settings, sizes: Sizes, device: Device, models: Mapping[str, Planned]) -> None:
        self.settings, self.sizes, self.device, self.models = settings, sizes, device, models

    def sample(self) -> Stage:
        """Download and text."""
        settings, sizes = self.settings, self.sizes
        downloads, how = [], []
        source = sizes.source()
        if isinstance(settings.source, HubSource):
            about = CORPORA[settings.source.corpus]
            pattern = {"openwebtext": "*.parquet", "redpajama": "*.jsonl"}.get(settings.source.corpus, "")
            files, size, origin = sizes.corpus(settings.source, pattern)
            terms = about.license
            downloads.append(Download(about.repo, files, size, origin, terms.name, terms.non_commercial, about.gated))
            how.append(f"source: all files, to draw {source.rows:,} of {about.rows:,} texts uniformly ({about.origin})")
        if sizes.archives:
            terms = CORPORA[M2D2].license
            total = sum(size for size, _ in sizes.archives.values())
            origins = {origin for _, origin in sizes.archives.values()}
            worst: Origin = "estimate" if "estimate" in origins else origins.pop()
            downloads.append(
                Download(m2d2.REPO, len(sizes.archives), total, worst, terms.name, terms.non_commercial, False)
            )
            how.append(
                f"archives: tokens x {BYTES_PER_TOKEN} bytes / {ARCHIVE_RATIO} where the hub does not say (estimate)"
            )
        written = {
            name: [sizes.split(name, split) for split in ("train", "valid", "test")] for name in settings.domains
        }
        text = source.bytes + sum(part.bytes for parts in written.values() for part in parts)
        # All of an archive or a corpus is read, also where few of its rows are kept.
        read = text
        if isinstance(settings.source, HubSource):
            about = CORPORA[settings.source.corpus]
            read += (about.rows or 0) * (about.row_bytes or 0) - source.bytes
        fetched = sum(download.bytes for download in downloads)
        workers = settings.sample.workers
        seconds = fetched / DOWNLOAD_RATE + read / TEXT_RATE / min(workers, 4)
        how.append(
            f"text: {_gb(text)} in {source.rows + sum(p.rows for ps in written.values() for p in ps):,} rows; "
            f"stored at {STORED_TEXT} of that (estimate)"
        )
        if fetched:
            how.append(f"time: {_gb(fetched)} at 50 MB/s, {_gb(read)} of text at 30 MB/s a worker (estimate)")
        return Stage(
            "sample",
            tuple(downloads),
            disk=round(text * STORED_TEXT),
            host_memory=2_000_000_000 * min(workers, 4) if fetched else 1_000_000_000,
            hours=seconds / 3600,
            how=tuple(how),
        )

    def pretrain(self) -> Stage:
        """Published models are fetched, others are trained from scratch."""
        downloads, how = [], []
        disk, tokens, flops, gpu, host = 0, 0, 0.0, 0, 0
        hours: float | None = 0.0
        for name, one in self.models.items():
            if isinstance(one.model, PublishedModel):
                download = self._checkpoint(one)
                downloads += [download] if download else []
                gpu = max(gpu, one.shape.parameters() * cost.BYTES[self.settings.evaluate.precision])
                host = max(host, one.shape.parameters() * 4)
                hours = _add(hours, 0 if download is None else download.bytes / DOWNLOAD_RATE / 3600)
                continue
            recipe = self.settings.pretrain
            assert recipe is not None  # Settings sees to it
            source = self.sizes.source()
            own = source.counted(one) * recipe.epochs
            memory = _training_memory(one, recipe)
            spent, sentence = self._training(one, recipe, own)
            waiting, told = self._offloading(one, recipe, own)
            how += [
                f"{name}: at most {source.rows:,} rows x {self.settings.sample.row_words} words x "
                f"{one.tokens_per_word} tokens a word = {own:,} tokens"
                if source.words
                else f"{name}: {own:,} tokens",
                sentence,
                *told,
                _explain_memory(memory),
            ]
            tokens, flops = tokens + own, flops + spent
            disk += one.shape.parameters() * cost.BYTES[recipe.precision]
            gpu, host = max(gpu, memory.peak), max(host, memory.host + own * HOST_PER_TOKEN)
            hours = _add(hours, self._hours(spent, recipe.precision, "training"), waiting)
        if not how:
            how = ["published models are fetched and loaded once; a file of some bytes stands for each"]
        return Stage("pretrain", tuple(downloads), disk, tokens, flops, gpu, host, hours, tuple(how))

    def _checkpoint(self, one: Planned) -> Download | None:
        """What is fetched of a published model; nothing of a folder."""
        model = one.model
        assert isinstance(model, PublishedModel)
        known = find_checkpoint(model.checkpoint)
        if known is None and Path(model.checkpoint).exists():
            return None
        files, size, origin = self.sizes.checkpoint(model, one.shape)
        if known is None:
            return Download(model.checkpoint, files, size, origin, "unknown, see its page", None, None)
        terms = known.license
        return Download(known.repo, files, size, origin, terms.name, terms.non_commercial, known.gated)

    def embed(self) -> Stage:
        """Rows through the sentence encoder."""
        rule, sizes = self.settings.embed, self.sizes
        source = sizes.source()
        populations = [(source, rule.source_fraction)]
        populations += [(sizes.split(name, "train"), rule.fraction) for name in self.settings.domains]
        rows = tokens = 0
        for text, fraction in populations:
            n = sample_size(text.rows, fraction, rule.max_texts)
            per_row = text.words * 1.4 / text.rows if text.words else text.tokens / text.rows
            rows, tokens = rows + n, tokens + round(n * min(per_row, MINILM.context))
        slower = next((factor for part, factor in ENCODER_SLOWER.items() if part in rule.encoder), 1.0)
        # The encoder has no output layer.
        each = cost.forward_flops(MINILM, MINILM.context) - 2 * MINILM.vocabulary * MINILM.width
        flops = each * tokens * slower
        d = MINILM.width if slower == 1 else 2 * MINILM.width
        batch = rule.batch_size * MINILM.context
        how = (
            f"{rows:,} rows of {len(populations)} corpora (the larger of {rule.fraction:g} of a domain and "
            f"{rule.max_texts:,} rows), at most {MINILM.context} tokens a row: {tokens:,} tokens",
            f"{_sci(tokens)} tokens x {_sci(each * slower)} (MiniLM: 2 x 1.06e7 parameters, and attention) = "
            f"{_sci(flops)} FLOPs",
            f"vectors: {rows:,} x {d} x 4 bytes = {_gb(rows * d * 4)}",
        )
        download: tuple[Download, ...] = ()
        if not (rule.encoder.startswith("package:") or Path(rule.encoder).exists()):
            download = (Download(rule.encoder, 8, 90_000_000, "estimate", "unknown, see its page", None, None),)
        return Stage(
            "embed",
            download,
            disk=rows * d * 4,
            tokens=tokens,
            flops=flops,
            device_memory=22_700_000 * 4 * round(slower) + batch * (4 * MINILM.width + MINILM.ffn) * 4,
            host_memory=2 * max(sizes.source().bytes, 1),
            hours=self._hours(flops, "float32", "encoding"),
            how=how,
        )

    def similarity(self) -> Stage:
        """Moments and Frechet distances, on the processor."""
        d, n = MINILM.width, len(self.settings.domains)
        rows = self.embed().disk // (4 * d)
        flops = 2.0 * rows * d * d + n * 30.0 * d**3
        how = (
            f"covariances: {rows:,} rows x 2 x {d}^2; {n} distances x 30 x {d}^3: {_sci(flops)} FLOPs in float64, "
            "at 2e10 a second on the processor (estimate)",
        )
        return Stage(
            "similarity", disk=n * 100, host_memory=500_000_000, flops=flops, hours=flops / 2e10 / 3600, how=how
        )

    def adapt(self) -> Stage:
        """Training on each domain, and the probes on the way."""
        recipe, rules = self.settings.adapt, self.settings.evaluate
        splits = {name: self._splits(name) for name in self.settings.adapted}
        how: list[str] = []
        disk, tokens, flops, gpu, host = 0, 0, 0.0, 0, 0
        hours: float | None = 0.0
        for name, one in self.models.items():
            trained = sum(train.counted(one) for train, _, _ in splits.values()) * recipe.epochs
            watched = recipe.curve_points * sum(
                round(train.counted(one) * recipe.train_start) + valid.counted(one) + test.counted(one)
                for train, valid, test in splits.values()
            )
            spent, sentence = self._training(one, recipe, trained)
            waiting, told = self._offloading(one, recipe, trained)
            forward = cost.forward_flops(one.shape, one.context)
            scored = float(forward * watched)
            memory = _training_memory(one, recipe)
            probing = memory.states + _scoring_memory(one, recipe.precision, rules.batch_tokens, models=0)
            longest = max(
                train.counted(one) + valid.counted(one) + test.counted(one) for train, valid, test in splits.values()
            )
            checkpoint = one.shape.parameters() * cost.BYTES[recipe.precision]
            how += [
                f"{name}: {len(splits)} domains, {self._origins(train for train, _, _ in splits.values())}; {sentence}",
                *told,
                f"curves: {recipe.curve_points} points x ({recipe.train_start:g} of train, valid, test) = "
                f"{_sci(watched)} tokens x {_forward(one)} = {_sci(scored)} FLOPs",
                _explain_memory(memory) + f"; while curves are scored {_gb(probing)}",
                f"checkpoints: {len(splits)} x {one.shape.parameters():,} x {cost.BYTES[recipe.precision]} bytes",
            ]
            disk += checkpoint * len(splits)
            tokens, flops = tokens + trained + watched, flops + spent + scored
            gpu, host = max(gpu, memory.peak, probing), max(host, memory.host + longest * HOST_PER_TOKEN + checkpoint)
            hours = _add(hours, self._hours(spent, recipe.precision, "training"), waiting)
            hours = _add(hours, self._hours(scored, recipe.precision, "scoring"))
        return Stage("adapt", (), disk, tokens, flops, gpu, host, hours, tuple(how))

    def evaluate(self) -> Stage:
        """Test splits through two models."""
        read = {
            name: 2 * sum(self._splits(d)[2].counted(one) for d in self.settings.adapted)
            for name, one in self.models.items()
        }
        return self._scoring("evaluate", read, "2 models x test split", disk=lambda one, n: n // 2 * 12)

    def tokens(self) -> Stage:
        """Chunks of train and test through two models."""
        rules = self.settings.tokens
        whole = rules.chunks * rules.chunk_tokens
        read = {
            name: 2 * sum(min(whole, part.counted(one)) for d in self.settings.adapted for part in self._splits(d)[::2])
            for name, one in self.models.items()
        }
        count = len(self.settings.adapted)
        label = f"2 models x 2 splits x at most {rules.chunks} x {rules.chunk_tokens} tokens"
        return self._scoring(
            "tokens", read, label, disk=lambda one, n: 2 * count * min(one.shape.vocabulary, n) * TOKEN_TABLE_ROW
        )

    def _scoring(self, stage: str, read: Mapping[str, int], label: str, disk: Any) -> Stage:
        rules = self.settings.evaluate
        how, flops, gpu, size, host = [], 0.0, 0, 0, 0
        hours: float | None = 0.0
        for name, one in self.models.items():
            forward = cost.forward_flops(one.shape, one.context)
            memory = _scoring_memory(one, rules.precision, rules.batch_tokens)
            how += [
                f"{name}: {label}, {len(self.settings.adapted)} domains: {_sci(read[name])} tokens x "
                f"{_forward(one)} = {_sci(forward * read[name])} FLOPs",
                f"memory: 2 models x {one.shape.parameters():,} x {cost.BYTES[rules.precision]} bytes + "
                f"{max(1, rules.batch_tokens // one.context) * one.context:,} tokens x {one.shape.vocabulary:,} x "
                f"{cost.BYTES[rules.precision] + 8} bytes of logits and what a layer holds = {_gb(memory)}",
            ]
            flops += float(forward * read[name])
            gpu, size = max(gpu, memory), size + disk(one, read[name])
            host = max(host, 2 * one.shape.parameters() * cost.BYTES[rules.precision])
            hours = _add(hours, self._hours(float(forward * read[name]), rules.precision, "scoring"))
        return Stage(stage, (), size, sum(read.values()), flops, gpu, host, hours, tuple(how))

    def _splits(self, name: str) -> tuple[Text, Text, Text]:
        return self.sizes.split(name, "train"), self.sizes.split(name, "valid"), self.sizes.split(name, "test")

    def _origins(self, texts: Iterable[Text]) -> str:
        """How many sizes come from where."""
        words = {
            "hub": "by size on the hub",
            "recorded": "known",
            "bound": "at most",
            "estimate": "estimated",
        }
        counts: dict[str, int] = {}
        for text in texts:
            counts[words[text.origin]] = counts.get(words[text.origin], 0) + 1
        return "sizes " + ", ".join(f"{word} ({count})" for word, count in counts.items())

    def _training(self, one: Planned, recipe: Recipe, tokens: int) -> tuple[float, str]:
        """Operations, and how they come about."""
        each = cost.training_flops(one.shape, one.context, recipe.engine.activation_checkpointing)
        products = one.shape.matrices() + one.shape.vocabulary * one.shape.width
        plain = cost.training_flops(one.shape, one.context)
        parts = [f"6 x {_sci(products)} parameters", f"{_sci(plain - 6 * products)} of attention"]
        parts += [f"{_sci(each - plain)} of layers computed again"] if each > plain else []
        return float(each * tokens), f"{_sci(tokens)} tokens x ({' + '.join(parts)}) = {_sci(each * tokens)} FLOPs"

    def _offloading(self, one: Planned, recipe: Recipe, tokens: int) -> tuple[float, tuple[str, ...]]:
        """Hours of an optimiser that works in the machine's memory, and how they come about."""
        if not recipe.engine.offload_optimizer or self.device.measured is not None:
            return 0.0, ()
        steps = math.ceil(tokens / (recipe.batch_size * one.context))
        each = cost.offloaded_step(one.shape.parameters(), recipe.precision)
        return steps * each / 3600, (
            f"offloading: {steps:,} steps x {each:.2g} s to bring gradients out, update in memory and bring weights "
            f"back (at {cost.HOST_BANDWIDTH / 1e9:g} and {cost.LINK_BANDWIDTH / 1e9:g} GB/s, estimates) = "
            f"{steps * each / 3600:.0f} h",
        )

    def _hours(self, flops: float, number: cost.Number, kind: str) -> float | None:
        rate = self.device.rate(number)
        share = cost.UTILISATION[kind] if self.device.measured is None else PROCESSOR_SHARE
        return cost.seconds(flops, rate, share) / 3600 if rate else None

    def remarks(self) -> tuple[str, ...]:
        """What to keep in mind when reading the numbers."""
        shares = ", ".join(f"{kind} {share:g}" for kind, share in cost.UTILISATION.items())
        found = [
            f"hours: operations / (peak x utilisation), the shares of the peak being guesses ({shares}); reading, "
            "tokenising and writing come on top; what the hub's cache holds already is not taken off",
            "tokens: of GPT-2's vocabulary where a source states them; else bytes of text / "
            f"{BYTES_PER_TOKEN}; times {TOKENS_PER_GPT2_TOKEN} for vocabularies of up to 32,000; all estimates",
            "memory: tensors as counted in runs of DeepSpeed in one process; a GPU is taken to need "
            f"{cost.FRAGMENTATION:.0%} more, and {cost.CUDA_CONTEXT / 1e9:.1f} GB for CUDA",
        ]
        return tuple(found)


def _forward(one: Planned) -> str:
    """Operations of a token's forward pass, in words."""
    products = one.shape.matrices() + one.shape.vocabulary * one.shape.width
    attention = cost.forward_flops(one.shape, one.context) - 2 * products
    return f"(2 x {_sci(products)} parameters + {_sci(attention)} of attention)"


def _add(*hours: float | None) -> float | None:
    """Their sum; None if one is not known."""
    known = [value for value in hours if value is not None]
    return sum(known) if len(known) == len(hours) else None


def _training_memory(one: Planned, recipe: Recipe) -> Memory:
    engine = recipe.engine
    return cost.training_memory(
        one.shape,
        one.context,
        number=recipe.precision,
        micro_batch=engine.micro_batch_size,
        micro_batches=recipe.batch_size // engine.micro_batch_size,
        zero_stage=engine.zero_stage,
        offload=engine.offload_optimizer,
        checkpointing=engine.activation_checkpointing,
    )


def _scoring_memory(one: Planned, number: cost.Number, batch_tokens: int, models: int = 2) -> int:
    return cost.scoring_memory(one.shape, one.context, number=number, batch_tokens=batch_tokens, models=models)


def _explain_memory(memory: Memory) -> str:
    parts = (
        f"memory: weights and optimiser {_gb(memory.states)}, gradients kept {_gb(memory.gradients)}, "
        f"activations {_gb(memory.activations)}, logits {_gb(memory.logits)}; "
        f"in the step {_gb(memory.step)}: {_gb(memory.peak)} at most"
    )
    return parts + (f"; offloaded {_gb(memory.host)}" if memory.host else "")


# -- the machine


def find_gpu(name: str) -> Gpu:
    """The GPU of the table that is meant by a name or its unmistakable beginning; raises OdysseyError if none is."""
    plain = {_plain(known): gpu for known, gpu in GPUS.items()}
    found = [gpu for known, gpu in plain.items() if known == _plain(name)] or [
        gpu for known, gpu in plain.items() if known.startswith(_plain(name)) and name.strip()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise OdysseyError(f"GPU '{name}': which one, {' or '.join(gpu.name for gpu in found)}?")
    raise OdysseyError(f"GPU '{name}' is not in the table{nearest(name, GPUS, 3)}")


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def look_around(layout: Layout, *, cpu_needed: bool = True) -> Machine:
    """This machine: cores, memory, GPU or processor, free disk. Measures the processor for a moment if need be."""
    from huggingface_hub import constants

    data, cache = _existing(layout.data), _existing(Path(constants.HF_HUB_CACHE))
    cores, ram = len(os.sched_getaffinity(0)), _ram()
    return Machine(
        cores,
        ram,
        _own_gpu() or Device("this machine's processor", ram, None, _measure() if cpu_needed else 0.0),
        shutil.disk_usage(data).free,
        shutil.disk_usage(cache).free,
        data.stat().st_dev == cache.stat().st_dev,
    )


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _ram() -> int:
    """Bytes of memory, or of what a container may use of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else ""
    return min(total, int(allowed)) if allowed.isdigit() else total


def _own_gpu() -> Device | None:
    import torch

    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(0)
    gigabytes = about.total_memory / 1e9
    # "NVIDIA A100-SXM4-80GB": the table's entries of that kind, the one that is nearest in memory.
    kinds = [gpu for gpu in GPUS.values() if _plain(re.sub(r"-\d+GB$", "", gpu.name)) in _plain(about.name)]
    known = min(kinds, key=lambda gpu: abs(gpu.memory - gigabytes), default=None)
    return Device(about.name, about.total_memory, known)


def _measure(trials: int = 12) -> float:
    """Operations a second in float32 products of 768 x 768, the best of some trials, as others may be at work."""
    import torch

    x = torch.ones(768, 768)
    best = math.inf
    for _ in range(trials):
        start = time.perf_counter()
        x @ x
        best = min(best, time.perf_counter() - start)
    return 2 * 768**3 / best


def dvc_copies(root: Path) -> bool:
    """Whether DVC keeps results twice: always, unless `cache.type` in .dvc/config says links.

    Its default is to clone blocks where the file system can (XFS, Btrfs, APFS), which is not found out here.
    """
    config = configparser.ConfigParser(strict=False)
    for file in (root / ".dvc" / "config", root / ".dvc" / "config.local"):
        if file.is_file():
            # DVC indents keys, which configparser would take for the line before going on.
            config.read_string("\n".join(line.strip() for line in file.read_text(encoding="utf-8").splitlines()))
    kinds = config.get("cache", "type", fallback="copy")
    return not any(kind in kinds for kind in ("hardlink", "symlink"))


def _describe(device: Device) -> str:
    if device.measured is not None:
        speed = f"{device.measured / 1e9:.0f} GFLOP/s, measured just now" if device.measured else "not measured"
        return f"{device.name} ({speed})"
    if device.gpu is None:
        return f"{device.name} ({_gb(device.memory)}; not in the table of GPUs, so hours are not known)"
    peak = device.gpu.bfloat16 or device.gpu.float32
    return f"{device.name} ({_gb(device.memory)}, {peak:g} TFLOP/s bfloat16, {device.gpu.float32:g} float32)"


# -- does it fit?


def _check_device(made: Plan, settings: Settings, models: Mapping[str, Planned], device: Device) -> Iterable[Check]:
    """Whether each stage's tensors fit into the memory of what computes."""
    stage = max(made.stages, key=lambda stage: stage.device_memory)
    needed = device.needs(stage.device_memory)
    if device.measured is not None:
        return  # the machine's own memory, which is checked in any case
    fits = needed <= device.memory
    remark = f"stage {stage.name}"
    if not fits:
        remark += "; " + _remedy(settings, models, device)
    elif needed > device.memory * (1 - TIGHT):
        remark += "; tight: estimates are good to about a tenth"
    yield Check(f"memory of {device.name}", needed, device.memory, fits, remark)


def _remedy(settings: Settings, models: Mapping[str, Planned], device: Device) -> str:
    """The least change of the engine, and of the tokens scored at once, that makes it fit; or that there is none."""
    recipe, rules = settings.adapt, settings.evaluate
    engine, fewest = recipe.engine, max(one.context for one in models.values())
    sizes = [n for n in range(engine.micro_batch_size, 0, -1) if recipe.batch_size % n == 0]
    for zero_stage, offload, checkpointing, micro, batch_tokens in (
        (zero_stage, offload, checkpointing, micro, batch_tokens)
        for zero_stage, offload in dict.fromkeys([(engine.zero_stage, engine.offload_optimizer), (2, True)])
        for checkpointing in dict.fromkeys([engine.activation_checkpointing, True])
        for micro in sizes
        for batch_tokens in dict.fromkeys([rules.batch_tokens, min(rules.batch_tokens, fewest)])
    ):
        changes = {"micro_batch_size": micro, "zero_stage": zero_stage}
        changes |= {"offload_optimizer": offload, "activation_checkpointing": checkpointing}
        tried = recipe.model_copy(update={"engine": engine.model_copy(update=changes)})
        memories = {name: _training_memory(one, tried) for name, one in models.items()}
        needed = [memory.peak for memory in memories.values()]
        for name, one in models.items():
            needed.append(memories[name].states + _scoring_memory(one, recipe.precision, batch_tokens, models=0))
            needed.append(_scoring_memory(one, rules.precision, batch_tokens))
        if max(map(device.needs, needed)) <= device.memory:
            words = ", ".join(f"{key}: {str(value).lower()}" for key, value in changes.items())
            less = f" and evaluate.batch_tokens: {batch_tokens}" if batch_tokens < rules.batch_tokens else ""
            host = max(memory.host for memory in memories.values())
            return f"it would with adapt.engine: {{{words}}}{less}" + (f" ({_gb(host)} offloaded)" if host else "")
    return "no setting of adapt.engine and evaluate.batch_tokens makes it fit"


def _check_host(made: Plan, machine: Machine) -> Iterable[Check]:
    """Memory and disk of the machine."""
    on_cpu = machine.device.measured is not None
    needs = {stage.name: stage.host_memory + (stage.device_memory if on_cpu else 0) for stage in made.stages}
    name = max(needs, key=lambda stage: needs[stage])
    what = "memory of this machine"
    yield Check(
        what, needs[name], machine.ram, needs[name] <= machine.ram, f"stage {name}" + on_cpu * ", without a GPU"
    )
    if machine.one_disk:
        total = made.disk + made.fetched
        yield Check("disk: results, DVC, hub's cache", total, machine.data_free, total <= machine.data_free)
        return
    yield Check("disk: results and DVC", made.disk, machine.data_free, made.disk <= machine.data_free)
    yield Check("disk: hub's cache", made.fetched, machine.cache_free, made.fetched <= machine.cache_free)


# -- rendering


def render(made: Plan) -> str:
    """A plan for a terminal, at most `WIDTH` columns wide."""
    lines = [
        *_wrap(f"Study {made.study}: ", made.summary),
        *_wrap("Sizes: ", made.sizes),
        *_wrap("Hours: ", f"on {made.device}"),
    ]
    for stage in made.stages:
        lines += ["", *_stage_lines(stage)]
    lines += ["", *_table_row("TOTAL", _amounts(made.fetched, made.disk, made.hours))]
    if made.dvc_copies:
        lines += _wrap(
            "            ", "disk counts results twice: DVC keeps a copy, unless the file system shares blocks"
        )
    if made.licenses:
        lines += ["", "Licences"]
        for what, terms, url, restricted in made.licenses:
            mark = {True: "NON-COMMERCIAL", False: "", None: "look at it"}[restricted]
            lines += _wrap("  ", f"{what}: {terms} {f'[{mark}] ' if mark else ''}{url}")
        if any(restricted for *_, restricted in made.licenses) and not made.accepted:
            lines += _wrap("  ", "not accepted yet: `accept_licenses: true` in params.yaml, or --accept-licenses")
    lines += ["", "Does it fit?"]
    width = max(len(check.what) for check in made.checks)
    for check in made.checks:
        verdict = "yes" if check.fits else "NO "
        start = f"  {verdict}  {check.what:<{width}}  {_gb(check.needed):>8} of {_gb(check.there):>8}"
        lines += _wrap(start + ("  " if check.remark else ""), check.remark, indent=7) if check.remark else [start]
    lines += ["", "How far to trust it"]
    for remark in made.remarks:
        lines += _wrap("  ", remark)
    return "\n".join(line.rstrip() for line in lines)


def _stage_lines(stage: Stage) -> list[str]:
    lines = _table_row(stage.name, _amounts(stage.fetched, stage.disk, stage.hours, stage))
    for one in stage.downloads:
        mark = "~" if one.origin == "estimate" else ""
        limits = [one.license, *(["non-commercial"] if one.non_commercial else []), *(["gated"] if one.gated else [])]
        lines += _wrap(
            " " * 12 + "fetch: ", f"{one.what}, {one.files} files, {mark}{_gb(one.bytes)} ({'; '.join(limits)})"
        )
    for sentence in stage.how:
        lines += _wrap(" " * 12, sentence)
    return lines


def _amounts(fetched: int, disk: int, hours: float | None, stage: Stage | None = None) -> Sequence[str]:
    parts = [f"fetch {_gb(fetched)}"] if fetched else []
    parts.append(f"disk {_gb(disk)}")
    if stage is not None and stage.tokens:
        parts += [f"{_sci(stage.tokens)} tokens"]
    if stage is not None and stage.flops:
        parts += [f"{_sci(stage.flops)} FLOPs"]
    if stage is not None and stage.device_memory:
        parts += [f"tensors {_gb(stage.device_memory)}"]
    if stage is not None and stage.host_memory:
        parts += [f"RAM {_gb(stage.host_memory)}"]
    return [*parts, _time(hours)]


def _table_row(name: str, parts: Sequence[str]) -> list[str]:
    return _wrap(f"{name:<12}", "   ".join(parts))


def _wrap(start: str, text: str, indent: int | None = None) -> list[str]:
    hanging = " " * (min(len(start), 14) if indent is None else indent)
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=hanging, break_long_words=False)
    return wrapped or [start]


def _sci(number: float) -> str:
    """1.23e9."""
    return f"{number:.2e}".replace("e+0", "e").replace("e+", "e")


def _gb(size: float) -> str:
    if not size:
        return "0"
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}" if size < 100 * limit else f"{size / limit:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _time(hours: float | None) -> str:
    if hours is None:
        return "hours not known"
    if hours >= 1:
        return f"~{hours:.1f} h"
    return f"~{hours * 60:.0f} min" if hours * 60 >= 1 else "< 1 min"
