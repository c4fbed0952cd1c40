"""Texts as token ids: a tokenizer trained, a text encoded in bounded memory, and what a token's text is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
WORD_START = "\u2581"
"""What a sentencepiece puts in the place of the space before a word."""
PIECE = 16 * 1024
"""Characters of a piece of a text that is tokenised."""
PIECES = 64
"""Pieces that are tokenised at once."""


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE in GPT-2's manner, with at most `vocabulary` entries, learned from the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def newline_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens whose text is newlines and nothing else, whatever the tokenizer calls them."""
    texts = token_texts(tokenizer, range(len(tokenizer)))
    return [token for token, text in enumerate(texts) if text and not text.strip("\n")]


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
    """The text of each token by itself, with the space that a sentencepiece marks its start with."""
    ids = list(ids)
    if not ids:
        return []  # of none, `batch_decode` makes one
    pieces = tokenizer.convert_ids_to_tokens(ids)
    texts = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
    return [
        f" {text}" if str(piece).startswith(WORD_START) and not text.startswith(" ") else str(text)
        for piece, text in zip(pieces, texts, strict=True)
    ]


def encode(tokenizer: PreTrainedTokenizerBase, rows: Iterable[str], separator: str) -> tuple[np.ndarray, int]:
    """Join rows, tokenise without special tokens: ids (n,) int32 and the text's length in bytes.

    Long texts are tokenised in pieces that begin with the separator, many at once on all cores.
    The ids are those of the whole text, as no token of the tokenizers at hand reaches over the
    start of a row; the mark of a word's start that a sentencepiece would put before each piece
    is taken off.
    """
    ids, n_bytes = [np.empty(0, dtype=np.int32)], 0
    for own, size in iter_encoded(tokenizer, rows, separator):
        ids.append(own)
        n_bytes += size
    return np.concatenate(ids), n_bytes


def iter_encoded(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[str], separator: str
) -> Iterator[tuple[np.ndarray, int]]:
    """What `encode` gives, piece by piece: ids (m,) int32, and bytes.

    Memory does not grow with the text where the separator is white space or a special token.
    """
    for piece, _, own, _ in _encoded(tokenizer, rows, separator):
        yield own, len(piece.encode())


def encode_by_row(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[str], separator: str
) -> tuple[np.ndarray, int, np.ndarray]:
    """As `encode`, and the row of each token, counted from 0: int32 (n,), never falling.

    A separator belongs to the row that it precedes, and so does a token that reaches from one row
    into the next, to the row that it begins in.
    """
    ids, places, n_bytes, first = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int32)], 0, 0
    for piece, starts, own, offsets in _encoded(tokenizer, rows, separator, offsets=True):
        ids.append(own)
        places.append((first + np.searchsorted(starts, offsets, side="right") - 1).astype(np.int32))
        n_bytes += len(piece.encode())
        first += len(starts)
    return np.concatenate(ids), n_bytes, np.concatenate(places)


def _encoded(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[str], separator: str, offsets: bool = False
) -> Iterator[tuple[str, list[int], np.ndarray, np.ndarray]]:
    """The joined rows piece by piece: text, where each row begins in it, ids, and where each token does, if asked."""
    marks = _piece_marks(tokenizer, separator)
    special = separator in tokenizer.all_special_tokens
    cut = marks is not None and (special or separator.isspace())
    pieces = _pieces(rows, separator, cut, special, tuple(tokenizer.get_added_vocab()))
    skipped = 0
    while some := list(islice(pieces, PIECES)):
        found = tokenizer(
            [piece for piece, _ in some],
            add_special_tokens=False,
            verbose=False,
            return_attention_mask=False,
            return_offsets_mapping=offsets,
        )
        spans = found["offset_mapping"] if offsets else [[]] * len(some)
        for (piece, starts), own, span in zip(some, found["input_ids"], spans, strict=True):
            where = np.asarray([start for start, _ in span[skipped:]], dtype=np.int64)
            yield piece, starts, np.asarray(own[skipped:], dtype=np.int32), where
            skipped = marks or 0


def _piece_marks(tokenizer: PreTrainedTokenizerBase, separator: str) -> int | None:
    """How many ids, marks of a word's start, a text that begins with the separator has more than inside another one.

    None if it begins otherwise, for example with a token of the mark and the separator: then it cannot be cut off.
    """
    inside, alone = (tokenizer(f"{first}{separator}a", add_special_tokens=False)["input_ids"] for first in ("a", ""))
    extra = next((k for k in range(len(alone)) if inside[-len(alone) + k :] == alone[k:]), None)
    if extra is None:
        return None
    marks = tokenizer.convert_ids_to_tokens(alone[:extra])
    return extra if all(mark == WORD_START for mark in marks) else None


def _pieces(
    rows: Iterable[str], separator: str, cut: bool, special: bool, apart: tuple[str, ...]
) -> Iterator[tuple[str, list[int]]]:
    """The joined rows, cut into texts of little more than PIECE characters, and where each row begins in its text.

    Only before a separator that is a special token (tokenizers take the text apart there first) or white space
    before a row that begins with none, and only after another character: elsewhere a token could reach over the
    cut. Nor after one of the tokens that stand `apart`: what follows these begins a text, with its mark. Where texts
    may not be `cut` at the separator, the text is one piece.
    """
    held: list[str] = []
    starts: list[int] = []
    size = 0
    for count, row in enumerate(rows):
        between = held and held[-1][-1:].strip() and (special or row[:1].strip())
        if cut and size > PIECE and between and not held[-1].endswith(apart):
            yield "".join(held), starts
            held, starts, size = [], [], 0
        held.append(separator + row if count else row)
        starts.append(size)
        size += len(held[-1])
    if held:
        yield "".join(held), starts
