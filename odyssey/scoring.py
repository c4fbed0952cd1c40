"""A text's likelihood under a language model, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from odyssey import processes
from odyssey.allocation import fitting
from odyssey.errors import OdysseyError
from odyssey.models import context_of
from odyssey.progress import bar
from odyssey.science.windows import windows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Scorer = Callable[[torch.Tensor], np.ndarray]

_in_parts: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
"""Whether a model's output layer alone makes its logits, once that was tried."""

CPU_LOGITS, GPU_LOGITS = 1 << 22, 1 << 27
"""Logits that are held at once: on a CPU what its caches hold, on a GPU enough to keep it busy.

Those of a whole batch would be most of the memory that scoring takes, and on a CPU a third of its time.
"""


def token_nll(
    model: PreTrainedModel, ids: np.ndarray, context: int, batch_tokens: int, *, label: str | None = None
) -> np.ndarray:
    """NLL in nats, float32 (n - 1,), of every token of ids (n,) but the first; see `windows`.

    As `texts_nll`, of one text.
    """
    return texts_nll(model, [ids], context, batch_tokens, label=label)


def texts_nll(
    model: PreTrainedModel, texts: Sequence[np.ndarray], context: int, batch_tokens: int, *, label: str | None = None
) -> np.ndarray:
    """NLL in nats, float32, of every token but the first of each of some texts (n,), one text after the other.

    About `batch_tokens` tokens are scored at once. With a label, a progress bar is shown. Of several processes
    each scores its share of the batches, which are the same as one's, and all get the whole.
    Raises OdysseyError if `context` exceeds the model's.
    """
    nll = np.empty(sum(max(len(ids) - 1, 0) for ids in texts), dtype=np.float32)
    done = 0
    progress = bar(None, label, total=len(nll), unit="tok") if label else None
    one_by_one = chain.from_iterable(iter_nll(model, [ids], context, batch_tokens) for ids in texts)
    for some in one_by_one if processes.count() == 1 else _dealt(model, texts, context, batch_tokens):
        nll[done : done + len(some)] = some
        done += len(some)
        if progress is not None:
            progress.update(len(some))
    if progress is not None:
        progress.close()
    return nll


def _dealt(
    model: PreTrainedModel, texts: Sequence[np.ndarray], context: int, batch_tokens: int
) -> Iterator[np.ndarray]:
    """What `iter_nll` gives of each text, a round of batches at a time, one for each process."""
    _check(model, context)
    size = max(1, batch_tokens // context)
    batches = [(ids, batch) for ids in texts for batch in _batches(windows(len(ids), context), size)]
    scorer = _scorer(model, most=max((_scored(batch) for _, batch in batches), default=0))
    # Where each process holds a part of the weights, one cannot try a smaller batch by itself.
    scorer = scorer if _is_divided(model) else fitting(scorer, "windows")
    for start in range(0, len(batches), processes.count()):
        processes.together()
        some = batches[start : start + processes.count()]
        own = [_score_batch(model, scorer, *some[k]) for k in processes.dealt(len(some))]
        yield from processes.collected(own, [_scored(batch) for _, batch in some])


def iter_nll(
    model: PreTrainedModel, parts: Iterable[np.ndarray], context: int, batch_tokens: int
) -> Iterator[np.ndarray]:
    """What `token_nll` gives, a batch (k,) at a time, of a text whose ids come in parts (m,) of any length.

    Memory does not grow with the text. Raises OdysseyError if `context` exceeds the model's.
    """
    _check(model, context)
    size = max(1, batch_tokens // context)
    stride = size * (context - 1)
    scorer = fitting(_scorer(model), "windows")
    held = np.empty(0, dtype=np.int32)
    for part in parts:
        held, done = np.concatenate([held, part]), 0
        while len(held) - done > stride:
            yield from _score(model, scorer, held[done : done + stride + 1], context, size)
            done += stride
        held = held[done:]
    yield from _score(model, scorer, held, context, size)


def _check(model: PreTrainedModel, context: int) -> None:
    if context > context_of(model):
        raise OdysseyError(f"a context of {context} tokens is longer than the model's {context_of(model)}; lower it")


def _score(model: PreTrainedModel, scorer: Scorer, ids: np.ndarray, context: int, size: int) -> Iterator[np.ndarray]:
    for batch in _batches(windows(len(ids), context), size):
        yield _score_batch(model, scorer, ids, batch)


def _score_batch(model: PreTrainedModel, scorer: Scorer, ids: np.ndarray, batch: list[tuple[int, int]]) -> np.ndarray:
    """NLL of the windows of a batch, joined."""
    import torch

    tokens = torch.from_numpy(ids)
    x = torch.stack([tokens[start:stop] for start, stop in batch]).to(model.device).long()  # (B, T)
    with torch.inference_mode():
        return scorer(x)


def _scorer(model: PreTrainedModel, most: int = 0) -> Scorer:
    """NLL (B * (T - 1),) of x (B, T), row by row: each token but a row's first, given what stands before it there.

    Some positions' logits at a time, where the model's output layer alone makes them of its last hidden states,
    which is tried. All of a batch's, where its code does more, as scaling or capping them. Where several processes
    each hold a part of the weights, the layer is asked as often for each batch as for one of `most` tokens: else
    some would wait for others' parts that never come.
    """
    import torch
    from torch.nn.functional import cross_entropy

    head, base = model.get_output_embeddings(), model.base_model
    divided = _is_divided(model)

    def logits(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(input_ids=x, use_cache=False).logits  # (B, T, V)
        return found

    def hidden(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = base(input_ids=x, use_cache=False).last_hidden_state  # (B, T, d)
        return found

    def at_once(x: torch.Tensor) -> np.ndarray:
        nll = cross_entropy(logits(x)[:, :-1].flatten(0, 1).float(), x[:, 1:].flatten(), reduction="none")
        return nll.cpu().numpy()

    def in_parts(x: torch.Tensor) -> np.ndarray:
        rows = max(1, (GPU_LOGITS if x.is_cuda else CPU_LOGITS) // int(model.config.vocab_size))
        h, ids = hidden(x)[:, :-1].flatten(0, 1), x[:, 1:].flatten()
        parts = -(-len(ids) // rows)  # of about one size: a few rows by themselves are rounded otherwise
        nll = torch.empty(len(ids), device=x.device)
        # Written into one tensor: small ones that stay would lie where logits were, and the next would not fit there.
        for some in zip(nll.tensor_split(parts), h.tensor_split(parts), ids.tensor_split(parts), strict=True):
            some[0].copy_(cross_entropy(head(some[1]).float(), some[2], reduction="none"))
        for _ in range(-(-most // rows) - parts if divided else 0):
            head(h[:1])
        return nll.cpu().numpy()

    if model not in _in_parts:
        x = torch.arange(min(8, context_of(model)), device=model.device)[None] % int(model.config.vocab_size)
        try:
            with torch.inference_mode():
                _in_parts[model] = head is not None and torch.equal(head(hidden(x)), logits(x))
        except (AttributeError, RuntimeError):  # no such states, or states that the layer does not take as they are
            _in_parts[model] = False
    return in_parts if _in_parts[model] else at_once


def _is_divided(model: PreTrainedModel) -> bool:
    """Whether each of several processes holds a part of the weights: DeepSpeed's, of ZeRO stage 3."""
    return processes.count() > 1 and any(hasattr(weights, "ds_id") for weights in model.parameters())


def _batches(spans: list[tuple[int, int]], size: int) -> Iterable[list[tuple[int, int]]]:
    """Windows of one length together; only the last can be shorter."""
    full = spans if not spans or len(spans) == 1 or _length(spans[-1]) == _length(spans[0]) else spans[:-1]
    for k in range(0, len(full), size):
        yield full[k : k + size]
    if len(full) < len(spans):
        yield spans[-1:]


def _scored(batch: list[tuple[int, int]]) -> int:
    """How many tokens are scored in windows: of each, all but the first."""
    return sum(map(_length, batch)) - len(batch)


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]
