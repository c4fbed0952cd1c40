"""Files and folders that a study names: they are there, and a relative path stays in the project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.sections import Embed, Local, PublishedModel


def check_places(named: Mapping[str, object], embed: Embed, root: Path, origin: str) -> None:
    """Raises OdysseyError for texts, a checkpoint or an encoder of the user's that are not there or not in the project.

    `named` are corpora and models by their keys in the study `origin`, `root` is the project's folder.
    An absolute path says openly that something else is read, and is allowed; nothing is ever
    written to any of these.
    """
    for key, about in named.items():
        if isinstance(about, Local):
            _check_inside(root, about.path, f"{origin}: key '{key}.path'")
            if not os.path.exists(root / about.path):  # noqa: PTH110 - Path's fails for a name too long
                raise OdysseyError(
                    f"{origin}: key '{key}.path': no file or folder {about.path}; "
                    "put the texts there or correct the path"
                )
        elif isinstance(about, PublishedModel) and about.revision is None:
            _check_inside(root, about.checkpoint, f"{origin}: key '{key}.checkpoint'")
            if not os.path.isfile(root / about.checkpoint / "config.json"):  # noqa: PTH113 - as above
                raise OdysseyError(
                    f"{origin}: key '{key}.checkpoint': no folder {about.checkpoint} with a config.json; "
                    "correct the path, or give the revision of a hub id"
                )
    if embed.revision is None and not embed.encoder.startswith("package:"):
        _check_inside(root, embed.encoder, f"{origin}: key 'embed.encoder'")


def _check_inside(root: Path, path: str, where: str) -> None:
    """Raises OdysseyError for a relative path that leads out of the project, by `..` or by a link."""
    if Path(path).is_absolute() or Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root)):
        return
    raise OdysseyError(
        f"{where}: {path} leads out of the project's folder; put it there, or give the absolute path if you mean it"
    )
