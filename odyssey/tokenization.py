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
PIECES = 256
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
    pieces = tokenizer.convert_ids_to_tokens(list(ids))
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
    marks = _piece_marks(tokenizer, separator)
    ids: list[np.ndarray] = []
    n_bytes = 0
    pieces = _pieces(rows, separator)
    while some := list(islice(pieces, PIECES)):
        n_bytes += sum(len(text.encode()) for text in some)
        found = tokenizer(some, add_special_tokens=False, verbose=False, return_attention_mask=False)["input_ids"]
        for own in found:
            ids.append(np.asarray(own[marks if ids else 0 :], dtype=np.int32))
    return np.concatenate([*ids, np.empty(0, dtype=np.int32)]), n_bytes


def _piece_marks(tokenizer: PreTrainedTokenizerBase, separator: str) -> int:
    """How many ids a text that begins with the separator has more than the same text inside another one."""
    inside, alone = (tokenizer(f"{first}{separator}a", add_special_tokens=False)["input_ids"] for first in ("a", ""))
    extra = next((k for k in range(len(alone)) if inside[-len(alone) + k :] == alone[k:]), 0)
    return extra if str(tokenizer.convert_ids_to_tokens(alone[:1])[0]).startswith(WORD_START) else 0


def _pieces(rows: Iterable[str], separator: str) -> Iterator[str]:
    """The joined rows, cut into texts of little more than PIECE characters.

    Only before a separator of white space that stands between two other characters: elsewhere a
    token could reach over the cut.
    """
    held: list[str] = []
    size = 0
    for count, row in enumerate(rows):
        if size > PIECE and separator.isspace() and row[:1].strip() and held[-1][-1:].strip():
            yield "".join(held)
            held, size = [], 0
        held.append(separator + row if count else row)
        size += len(held[-1])
    if held:
        yield "".join(held)
