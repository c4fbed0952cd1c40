"""Sizes of what is published, for when the hub cannot be asked: from its pages, as known in 2025, or worked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class CorpusSize:
    """A source corpus of the hub."""

    files: int
    """Files that are fetched."""
    bytes: int
    """Of those files."""
    row_bytes: int
    """UTF-8 bytes of a text on average."""
    origin: str
    """Where the sizes come from."""


@dataclass(frozen=True)
class CheckpointSize:
    """A language model of the hub."""

    bytes: int
    """Of its safetensors files: parameters x bytes of a number, if `inferred`."""
    dtype: str
    """Of the weights as they are stored."""
    inferred: bool
    """Whether `bytes` was worked out rather than read on its page."""


CORPUS_SIZES: Mapping[str, CorpusSize] = MappingProxyType(
    {
        # 39.7 GB of text in all
        "openwebtext": CorpusSize(80, 80 * 301_000_000, 4_950, "80 Parquet files of about 301 MB"),
        # about 10e9 tokens in 13.1e6 texts, 4.5 bytes a token
        "dolma": CorpusSize(103, 16_400_000_000, 3_400, "v1_6-sample: 16.4 GB on its page, in 103 gzip files"),
        # the files, which are plain JSON, less their metadata
        "redpajama": CorpusSize(11, 5_400_000_000, 5_500, "11 JSON-lines files, 5.4 GB in all"),
    }
)
"""By the name that a study's `source.corpus` has."""

CHECKPOINT_SIZES: Mapping[str, CheckpointSize] = MappingProxyType(
    {
        "openai-community/gpt2": CheckpointSize(548_105_171, "float32", inferred=False),
        "openai-community/gpt2-large": CheckpointSize(3_250_000_000, "float32", inferred=False),
        "openai-community/gpt2-xl": CheckpointSize(6_430_000_000, "float32", inferred=False),
        "allenai/OLMo-1B-hf": CheckpointSize(4_707_057_664, "float32", inferred=True),
        "huggyllama/llama-7b": CheckpointSize(13_476_831_232, "float16", inferred=True),
    }
)
"""By id."""
