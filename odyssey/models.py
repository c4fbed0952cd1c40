"""Language models: made, loaded and saved."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey import processes
from odyssey.allocation import is_out_of_memory, keep_freed_memory
from odyssey.corpora import hub
from odyssey.errors import OdysseyError
from odyssey.layout import PUBLISHED
from odyssey.progress import doing, verbose
from odyssey.sections import Architecture, Precision
from odyssey.store import read_json, sha256, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def new_model(architecture: Architecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A randomly initialised GPT-2 of this architecture; dropout is off, as one pass over the data is made."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=architecture.context,
        n_embd=architecture.width,
        n_layer=architecture.layers,
        n_head=architecture.heads,
        # GPT-2's 0.02 belongs to its width of 768. At a tenth of that it starts so slowly that
        # some seeds never catch up; scaled like this, activations have the same size at any width.
        initializer_range=0.02 * (768 / architecture.width) ** 0.5,
        # The same function as GPT-2's gelu_new, in one kernel: a third more tokens a second on a CPU.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def pin(checkpoint: str, revision: str | None, folder: Path) -> dict[str, Any]:
    """Fetch a published checkpoint and write published.json, which stands for it, into a folder; return it.

    It names the commit that the revision stood for, or the hashes of a user's own files, so that
    the same bytes are loaded later. Raises OdysseyError as `hub` does.
    """
    about: dict[str, Any] = {"checkpoint": checkpoint, "commit": None}
    if revision is None:
        about["files"] = checkpoint_files(checkpoint)
    else:
        about["commit"] = hub.resolve(checkpoint, revision, "model")
        _fetched(checkpoint, about["commit"])
    write_json(folder / PUBLISHED, about)
    return about


def checkpoint_files(folder: str) -> dict[str, str]:
    """sha256 of the files of a user's own checkpoint, by name."""
    return {path.name: sha256(path) for path in sorted(Path(folder).iterdir()) if path.is_file()}


def load(
    name: str | Path, precision: Precision = "float32", *, revision: str | None = None, on_gpu: bool = True
) -> Loaded:
    """A causal language model and its tokenizer, from a folder or the hub, ready to score.

    The model is on the GPU if there is one, without `on_gpu` for as long as it is `at_work`. A
    folder may hold published.json instead of a checkpoint. No code of a checkpoint is ever run,
    and no pickled weights are read.

    Raises OdysseyError if it is not there, damaged, or would have weights that the
    checkpoint does not hold (transformers would initialise them at random and go on).
    """
    folder = _checkpoint_folder(name, revision)
    with doing(f"loading {name}"):
        return _load(name, folder, precision, on_gpu)


def _load(name: str | Path, folder: Path, precision: Precision, on_gpu: bool) -> Loaded:
    quieten()
    _check_indices(folder)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, precision),
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # whatever a damaged or foreign checkpoint makes four libraries raise
        if is_out_of_memory(error):
            raise
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OdysseyError(
            f"model '{name}' cannot be loaded: {first}; check the name, or delete the folder and make it again"
        ) from None
    model: PreTrainedModel = loaded[0]
    loading: dict[str, Any] = loaded[1]
    lacking = sorted({str(key) for kind in ("missing_keys", "mismatched_keys") for key in loading[kind]})
    if lacking:
        raise OdysseyError(
            f"model '{name}': the checkpoint lacks {len(lacking)} weights ({', '.join(lacking[:3])}, ...), "
            "which would be random; fetch or make it again"
        )
    if torch.cuda.is_available():
        return model.eval().to("cuda" if on_gpu else "cpu"), tokenizer
    keep_freed_memory()
    return model.eval(), tokenizer


def _check_indices(folder: Path) -> None:
    """Raises OdysseyError for a list of weights that names others than safetensors of the folder itself."""
    for path in sorted(folder.glob("*.safetensors.index.json")):
        index = read_json(path)
        places = index.get("weight_map") if isinstance(index, dict) else None
        for place in places.values() if isinstance(places, dict) else [None]:
            if not isinstance(place, str) or place != Path(place).name or not place.endswith(".safetensors"):
                raise OdysseyError(f"{path}: {place!r} is no safetensors file beside it; fetch the checkpoint again")


def _checkpoint_folder(name: str | Path, revision: str | None) -> Path:
    """Where a checkpoint's files are; a published one is fetched, if it is not in the hub's cache."""
    if not str(name).strip():
        raise OdysseyError("the model's name is empty; give a folder or a hub id")
    folder = Path(name)
    if (folder / PUBLISHED).is_file():
        about = read_json(folder / PUBLISHED)
        if about["commit"] is not None:
            return _fetched(about["checkpoint"], about["commit"])
        _check_unchanged(Path(about["checkpoint"]), about["files"])
        return Path(about["checkpoint"])
    if folder.exists() and not (folder / "config.json").is_file():
        raise OdysseyError(f"{folder}: holds no config.json, so it is no model checkpoint")
    if folder.exists():
        return folder
    if folder.is_absolute() or len(folder.parts) > 2 or str(name).startswith("."):
        raise OdysseyError(f"{folder}: no such model folder")
    return _fetched(str(name), revision or "main")


def _fetched(repo: str, revision: str) -> Path:
    return processes.in_turns(lambda: hub.fetch_all(repo, hub.MODEL_FILES, revision, "model"))


def _check_unchanged(folder: Path, files: dict[str, str]) -> None:
    for name, expected in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise OdysseyError(
                f"{folder / name}: missing or changed since it was looked at; run `dvc repro -f pretrain`"
            )


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write checkpoint (safetensors) and tokenizer into a folder; of several processes the first does."""
    if not processes.is_first():
        return
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        # Its own words for what the system calls ENOSPC and EDQUOT.
        if full := next((code for code in (errno.ENOSPC, errno.EDQUOT) if f"(os error {code})" in str(error)), None):
            raise OSError(full, os.strerror(full), str(folder)) from None
        raise
    tokenizer.save_pretrained(folder)


@contextmanager
def at_work(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """A model on the GPU, if there is one, for as long as it scores; after that in the machine's memory."""
    import torch

    if not torch.cuda.is_available():
        yield model
        return
    module: torch.nn.Module = model
    try:
        module.to("cuda")
        yield model
    finally:
        module.to("cpu")
        torch.cuda.empty_cache()


def free_memory() -> None:
    """Give back what models that are no longer used held: DeepSpeed and autograd leave them in reference cycles."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def context_of(model: PreTrainedModel) -> int:
    """The model's context, in tokens."""
    return int(model.config.max_position_embeddings)


def parameters(model: PreTrainedModel) -> int:
    """How many parameters a model has; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def quieten() -> None:
    """Keep transformers' notices and bars off the terminal."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if verbose():
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
