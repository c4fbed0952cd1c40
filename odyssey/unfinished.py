"""Training that is not finished: its state on disk, so that a killed run goes on from there."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from odyssey import processes
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.sections import Recipe
from odyssey.signals import held
from odyssey.store import is_current, new_folder

_LOCK = "lock"
_PREFIX = "step-"


class Unfinished:
    """Checkpoints of one training run, a folder each of which the newest is kept.

    They hold for what they were made from, byte for byte: a damaged one, or one that was begun
    with other settings, is named, deleted and not used.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any], minutes: float) -> None:
        self.folder = folder
        """That they are in; what begins with a dot and ends in .tmp there is deleted when the run is begun again."""
        self._made_from = dict(made_from)
        self._seconds = 60 * minutes
        self._saved = time.monotonic()
        self.at_the_end = ExitStack()
        """What is let go of when the run is over."""

    def due(self) -> bool:
        """Whether the last one, or the start, is so long ago that one is to be written."""
        return processes.agreed(lambda: time.monotonic() - self._saved >= self._seconds)

    def begun(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self._all())

    def put_off(self) -> None:
        """Have the next one due when it would be if one was written now."""
        self._saved = time.monotonic()

    def hold(self) -> None:
        """Have signals that would end the command wait until the run is over: no checkpoint is written any more."""
        self.at_the_end.enter_context(held())

    def save(self, place: str, write: Callable[[Path], object]) -> None:
        """Have `write` fill a checkpoint's folder, then delete the older ones; a failed one leaves them.

        `place` says how far training is; of two it is the greater one, as text, that is newer.
        Each of several processes writes what it has of it.
        """
        folder = self.folder / f"{_PREFIX}{place}"
        if not processes.agreed(folder.exists):  # else it holds the same: nothing has been done since
            with new_folder(folder, self._made_from, by_all=True) as temporary:
                write(temporary)
        for other in self._all() if processes.is_first() else ():
            if other != folder:
                shutil.rmtree(other)
        self.put_off()

    def newest(self) -> Path | None:
        """The checkpoint to go on from, if there is one that holds."""
        name = processes.agreed(self._newest)
        return None if name is None else self.folder / name

    def _newest(self) -> str | None:
        for folder in reversed(self._all()):
            if is_current(folder, self._made_from):
                return folder.name
            print(f"{folder}: not used, as it is damaged or was begun with other settings, texts or code; deleted")
            shutil.rmtree(folder)
        return None

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))


@contextmanager
def unfinished(folder: Path, made_from: Mapping[str, Any], minutes: float) -> Iterator[Unfinished]:
    """A run's checkpoints in `folder`, one every so many minutes, for as long as the block lasts.

    They are deleted once the block is done; they stay if it ends by an exception.
    Raises OdysseyError if another process trains the same, or if the file system cannot tell.
    """
    state = Unfinished(folder, made_from, minutes)
    with state.at_the_end, _alone(folder) if processes.is_first() else nullcontext():
        try:
            yield state
        except BaseException:
            if processes.is_first() and not state.begun():
                shutil.rmtree(folder)
            raise
        if processes.is_first():
            shutil.rmtree(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have a run's folder, without what a process left there that was killed while it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as alone:
        if not alone:
            raise OdysseyError(f"{folder}: another process trains this now; wait until it is done, or end it")
        for left in folder.glob(".*.tmp"):
            shutil.rmtree(left)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether no other process has the lock on a folder; if so, it is had for as long as the block lasts."""
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError as error:  # Lustre and some NFS, as they are mounted at times
            raise OdysseyError(
                f"{folder}: files cannot be locked there ({error.strerror}), so two processes could train the same; "
                "have the file system mounted with locks (Lustre: flock), or give a folder elsewhere by --data"
            ) from None
        else:
            yield True


def resumable(
    layout: Layout, recipe: Recipe, made_from: Mapping[str, Any], *run: str
) -> AbstractContextManager[Unfinished]:
    """`unfinished` of a stage's run, which is named by stage, model and what else tells it apart.

    To be left after the result is in its place: else an interruption between the two would lose both.
    """
    # What else decides whether an engine can read what another one wrote.
    engine = recipe.engine.model_dump(include={"zero_stage", "offload_optimizer", "offload_parameters"})
    origin = {**made_from, "engine": {**engine, "processes": processes.count()}}
    return unfinished(layout.unfinished(*run), origin, recipe.engine.checkpoint_minutes)


def discard(layout: Layout, *run: str) -> None:
    """Delete the checkpoints of a run, or of all whose names begin so, that are finished or that nobody asks for now.

    A process that ends right after its result was put in place leaves them; one that is at work keeps its own.
    """
    named = layout.unfinished(*run)
    for folder in sorted(named.parent.glob("*")) if processes.is_first() else ():
        if folder.name == named.name or folder.name.startswith(f"{named.name}@"):
            with _locked(folder) as alone:
                if alone:
                    shutil.rmtree(folder)
