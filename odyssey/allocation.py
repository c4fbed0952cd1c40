"""How the C library keeps memory, where models work on the CPU."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LARGEST = 1 << 26


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors of up to 64 MiB, for what is allocated next.

    Else glibc gives it back to the system, which clears it page by page when it is asked for again:
    every step of training, and every batch, anew. Larger ones still go: some of each size would be kept.
    Without glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    # Before some version glibc took half of that at most; to set the other threshold alone would do harm, as the first
    # one, which adapts itself to what is freed, would stay where it starts.
    if mallopt(_MMAP_THRESHOLD, _LARGEST) or mallopt(_MMAP_THRESHOLD, _LARGEST // 2):
        mallopt(_TRIM_THRESHOLD, 16 * _LARGEST)
