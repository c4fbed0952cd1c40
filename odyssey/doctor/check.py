"""One finding, and what all checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.settings import PARAMS_FILE, Settings, load_settings

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was found of one thing."""

    name: str
    status: Status
    found: str
    remedy: str = ""
    """What to do about it; empty if nothing."""


@dataclass(frozen=True)
class Subject:
    """An installation: its project's folder, and the study in use, if that can be read."""

    params: Path = Path(PARAMS_FILE)
    data: Path = Path("data")

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.params.parent

    @cached_property
    def settings(self) -> Settings | None:
        """The study in use; None if something is wrong with it, which the check of it says."""
        try:
            return load_settings(self.params)
        except OdysseyError:
            return None

    @property
    def layout(self) -> Layout:
        """Where the study's results lie, or would."""
        settings = self.settings
        return Layout(self.data / settings.study if settings else self.data)
