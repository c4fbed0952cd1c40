"""Documents to rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLANK = re.compile(r"\n\s*\n")


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs (separated by blank lines) as single lines; lines without any word, such as underlines, go."""
    for block in _BLANK.split(text):
        line = " ".join(" ".join(part.split()) for part in block.splitlines() if any(c.isalnum() for c in part))
        if line:
            yield line


def pack(lines: Iterator[str], row_words: int) -> list[str]:
    """Join consecutive lines, and cut long ones, to rows of at most `row_words` words.

    No word is lost or moved: the rows' words, in order, are the lines' words.
    """
    rows: list[str] = []
    current: list[str] = []
    for line in lines:
        words = line.split()
        if current and len(current) + len(words) > row_words:
            rows.append(" ".join(current))
            current = []
        current += words
        while len(current) > row_words:
            rows.append(" ".join(current[:row_words]))
            current = current[row_words:]
    return [*rows, " ".join(current)] if current else rows
