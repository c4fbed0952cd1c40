"""All checks, in the order in which one would mend things."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from odyssey.doctor import installed, machine, reached
from odyssey.doctor.check import Check, Subject

CHECKS: tuple[Callable[[Subject], Check], ...] = (
    installed.python,
    installed.packages,
    installed.study,
    installed.licences,
    machine.processor,
    machine.memory,
    machine.disk,
    reached.hub,
    reached.mlflow,
    reached.dvc,
    reached.remote,
    reached.git,
)


def examine(subject: Subject) -> Iterator[Check]:
    """Make every check, one after the other, each as it is asked for."""
    for check in CHECKS:
        yield check(subject)
