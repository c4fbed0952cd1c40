"""Processes that do one run together, a GPU each, as `torchrun` or DeepSpeed's launcher starts them.

All run the same code on the same files, and what they compute of a batch or a text is added up or put
together. The first one alone writes, speaks and decides. Where there is only one, nothing is done here.
"""

from __future__ import annotations

import atexit
import ipaddress
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from odyssey.signals import ENDING

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""For which the others wait while the first fetches or reads something. A process that ends ends all: its launcher
sees to that."""
MEETING = "ODYSSEY_MEETING"
"""Environment variable: the file by which processes of one machine find each other."""
LOCAL = "lo"
"""The network interface that no other machine reaches."""


@dataclass
class _Together:
    """What a process that has joined others knows of them."""

    rank: int
    count: int
    group: Any
    """torch's group of them all for what the processor holds."""
    came: list[int] = field(default_factory=list)
    """Signals that would end this process and wait for the others."""
    before: dict[int, Any] = field(default_factory=dict)
    """What was to be done about them."""


_joined: _Together | None = None


def count() -> int:
    """How many processes do this run."""
    return _joined.count if _joined else 1


def rank() -> int:
    """This one's number, from 0."""
    return _joined.rank if _joined else 0


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def started_together(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the launcher of this one started, if one did; 1 else."""
    return int(environment["WORLD_SIZE"]) if "RANK" in environment and "WORLD_SIZE" in environment else 1


def join() -> None:
    """Meet the other processes that the launcher started, if it did; from now on only the first one is heard.

    From now on, a signal that would end this one waits for `together`, so that all end at the same place; a
    second one ends it at once.
    """
    global _joined
    if _joined is not None or started_together() == 1:
        return
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend, rank, world = "nccl" if on_gpu else "gloo", int(os.environ["RANK"]), started_together()
    stay_inside()
    if MEETING in os.environ:
        # Left to itself, PyTorch listens on all of the machine's addresses for them.
        meeting = distributed.FileStore(os.environ[MEETING], world)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=meeting, rank=rank, world_size=world, timeout=PATIENCE)
    else:
        distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)
    group = distributed.new_group(backend="gloo", timeout=PATIENCE) if on_gpu else distributed.group.WORLD
    _joined = _Together(distributed.get_rank(), distributed.get_world_size(), group)
    if not is_first():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            _joined.before[number] = signal.signal(number, _wait)


def stay_inside(address: str | None = None) -> None:
    """Have the libraries that processes talk by be reached by this machine only, if the first process is."""
    if _is_loopback(address or os.environ.get("MASTER_ADDR", "127.0.0.1")):
        for backend in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{backend}_SOCKET_IFNAME", LOCAL)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _wait(number: int, frame: FrameType | None) -> None:
    assert _joined is not None
    _joined.came.append(number)
    if len(_joined.came) > 1:
        _act(number, frame)


def _act(number: int, frame: FrameType | None) -> None:
    assert _joined is not None
    usual = _joined.before.get(number)
    if callable(usual):
        usual(number, frame)
    elif usual != signal.SIG_IGN:
        raise KeyboardInterrupt


def is_lost(error: BaseException) -> bool:
    """Whether an error of torch says that another process is not there any more."""
    said = str(error)
    return _joined is not None and any(word in said for word in ("Connection closed", "reset by peer", "ncclRemote"))


def together() -> None:
    """Act on a signal that any of the processes has got, in all of them at this place.

    Raises what its handler does, a KeyboardInterrupt.
    """
    if _joined is None:
        return
    number = max(_values(_joined.came[0] if _joined.came else 0))
    if number:
        _joined.came.clear()
        _act(int(number), None)


def agreed(decide: Callable[[], T]) -> T:
    """What the first process decides, a JSON value, in all of them; the others do not ask themselves."""
    if _joined is None:
        return decide()
    import torch
    from torch import distributed

    said = json.dumps(decide()).encode() if is_first() else b""
    size = torch.tensor([len(said)])
    distributed.broadcast(size, 0, group=_joined.group)
    content = torch.frombuffer(bytearray(said or bytes(int(size))), dtype=torch.uint8)
    distributed.broadcast(content, 0, group=_joined.group)
    found: T = json.loads(content.numpy().tobytes())
    return found


def in_turns(action: Callable[[], T]) -> T:
    """Do something in the first process, then in the others, which find what it left behind."""
    if is_first():
        found = action()
        meet()
        return found
    meet()
    return action()


def meet() -> None:
    """Wait until all processes are here."""
    if _joined is not None:
        from torch import distributed

        distributed.barrier(group=_joined.group)


def summed(value: float) -> float:
    """The sum of each process's value, the same to the last bit in all of them."""
    return sum(_values(value)) if _joined else value


def dealt(n: int) -> list[int]:
    """Which of n pieces of work this process does, as many as any other: the last one may be done more than once.

    So that all make the same calls, which they must where each holds a part of a model.
    """
    return _dealt_to(rank(), n)


def collected(own: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
    """The results of all n pieces of work, in their order, of which each process has those that it was `dealt`.

    `sizes` (n,) are the lengths of their first axes; all are of one type and of one shape beside that.
    """
    if _joined is None or not sizes:
        return list(own)
    import numpy as np

    mine = np.concatenate(own)
    one = mine.shape[1:]
    lengths = [sum(sizes[k] for k in _dealt_to(who, len(sizes))) for who in range(count())]
    padded = np.zeros((max(lengths), *one), dtype=mine.dtype)
    padded[: len(mine)] = mine
    found: list[np.ndarray] = [np.empty(0)] * len(sizes)
    for who, all_of_it in enumerate(_each(padded)):
        start = 0
        for k in _dealt_to(who, len(sizes)):
            found[k] = all_of_it[start : start + sizes[k]]
            start += sizes[k]
    return found


def _dealt_to(who: int, n: int) -> list[int]:
    return [min(k, n - 1) for k in range(who, -(-n // count()) * count(), count())]


def _values(own: float) -> list[float]:
    """Every process's value."""
    import numpy as np

    return [float(one[0]) for one in _each(np.array([own], dtype=np.float64))]


def _each(own: np.ndarray) -> list[np.ndarray]:
    """Every process's array, of one shape and type, in their order."""
    import torch
    from torch import distributed

    assert _joined is not None
    tensor = torch.from_numpy(own).contiguous()
    found = [torch.empty_like(tensor) for _ in range(_joined.count)]
    distributed.all_gather(found, tensor, group=_joined.group)
    return [one.numpy() for one in found]
