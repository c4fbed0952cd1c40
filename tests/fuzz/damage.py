"""Files that are nearly right: a whole one, cut, flipped, with something put in, taken out or said twice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from odyssey.errors import OdysseyError

T = TypeVar("T")

PUT = [b"\0", b"\r", b"\n", b"\r\n", b"\xff", b"\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b",", b"\\"]
PUT += [b"\\ud800", b"\\u0000", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xcc\x81", b"[" * 30, b"{", b"}", b"9" * 400, b"-1"]
PUT += [b"NaN", b"null", b" ", b"\x1f\x8b\x08\0", b"PAR1", b"\x7f" * 8, b"\x93NUMPY"]
MARKS = "\0\t\n\r\x0b\x0c\x1c\x85 \u00a0\u2028\u200b\u202e\u2066\ufeff\u0301\u0345\ufffd\uffff\"'\\,{}é中क्ष😀\U0010ffff"
TEXT = st.text(
    st.one_of(st.characters(max_codepoint=127), st.characters(exclude_categories=["Cs"]), st.sampled_from(MARKS)),
    max_size=12,
)
"""Any text but halves of surrogate pairs; line ends, marks without width and the like are frequent."""


@st.composite
def damaged(draw: Any, bases: Sequence[bytes]) -> bytes:
    """One of the files, with one thing wrong in one place; now and then as it is."""
    base: bytes = draw(st.sampled_from(bases))
    kind = draw(st.sampled_from(["flip", "cut", "put", "drop", "twice", "append", "whole", "byte"]))
    place = draw(st.integers(0, max(len(base) - 1, 0)))
    if kind == "flip":
        return base[:place] + bytes([base[place] ^ 1 << draw(st.integers(0, 7))]) + base[place + 1 :] if base else base
    if kind == "byte":
        other: bytes = draw(st.binary(min_size=1, max_size=1))
        return base[:place] + other + base[place + 1 :]
    if kind == "cut":
        return base[:place]
    if kind in ("put", "append"):
        more: bytes = draw(st.sampled_from(PUT))
        return base[:place] + more + base[place:] if kind == "put" else base + more
    stop: int = place + draw(st.integers(1, 40))
    if kind == "drop":
        return base[:place] + base[stop:]
    return base[:stop] + base[place:] if kind == "twice" else base


def refused(path: Path, call: Callable[[], T]) -> T | str:
    """What the call returns, or the error that it ends with: one line that names the file and what to do."""
    try:
        with in_time():
            return call()
    except OdysseyError as error:
        message = str(error)
        assert str(path) in message
        assert "; " in message.split(str(path), 1)[1]
        return message


@contextmanager
def in_time(seconds: int = 60) -> Iterator[None]:
    """Fail where a call does not come back: the limit is far above what any case takes."""

    def fail(*_: object) -> None:
        raise AssertionError(f"no answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
