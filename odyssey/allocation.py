"""Memory: how the C library keeps it where models work on the CPU, and whether it was too little."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the GPU, or of the machine, does not hold what was asked for."""
    said = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported to ask
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in said and "memory" in said)
    )


def is_lost_device(error: BaseException) -> bool:
    """Whether an error of torch says that the GPU itself failed, as when it is taken away or has hung."""
    return type(error).__name__ == "AcceleratorError" or str(error).startswith("CUDA error")


def fitting(run: Callable[[Any], np.ndarray], unit: str) -> Callable[[Any], np.ndarray]:
    """`run` of a batch (n, ...), in parts where memory does not hold it: each time that it does not, half as large.

    Results are joined along their first axis. What does not fit by itself raises what `run` does.
    """
    import numpy as np

    most: int | None = None

    def parts(batch: Any) -> np.ndarray:
        nonlocal most
        found: list[np.ndarray] = []
        done = 0
        while done < len(batch):
            some = batch[done : done + (most or len(batch))]
            try:
                found.append(run(some))
                done += len(some)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(some) == 1 or not is_out_of_memory(error):
                    raise
            # Not in the handler: the error holds what was in memory.
            most = len(some) // 2
            print(f"out of memory: at most {most} {unit} at once from here on", file=sys.stderr)
        return np.concatenate(found)

    return parts
