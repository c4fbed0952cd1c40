"""The project's state that a run belongs to: commit, what differs from it, and the files that say what was run."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.provenance import git_state
from odyssey.settings import PARAMS_FILE, STUDIES

UNKNOWN = "unknown"
"""Commit of what is not in a git checkout."""
DIFF = "dirty.diff"
LOCK = "dvc.lock"
CODE = ("odyssey", STUDIES)
"""Folders of which files that git does not know count, too: a user's other files are nobody's business."""


@dataclass(frozen=True)
class State:
    """What a run's tags and its artifacts under provenance/ are made of."""

    commit: str
    dirty: bool
    diff: bytes
    """What `git apply` makes of the commit; empty if nothing differs."""
    files: dict[str, Path] = field(default_factory=dict)
    """params.yaml, the study's file and dvc.lock, by their path in the project, as far as they are there."""


def state(root: Path, study: str) -> State:
    """The state of the project in `root`; raises OdysseyError if git fails to say what differs from the commit."""
    commit, dirty = git_state(root)
    names = (PARAMS_FILE, f"{STUDIES}/{study}.yaml", LOCK)
    files = {name: root / name for name in names if (root / name).is_file()}
    return State(commit, dirty, _diff(root) if dirty and commit != UNKNOWN else b"", files)


def _diff(root: Path) -> bytes:
    """What differs from the commit, files that git does not know under CODE included; without dvc.lock.

    Nor .dvc: what is set there of remotes changes no result, and may be a password.

    Staged into an index and an object store of its own, so that the checkout's are left as they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        objects = subprocess.run(
            ["git", "rev-parse", "--path-format=absolute", "--git-path", "objects"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        own = {
            "GIT_INDEX_FILE": str(Path(folder, "index")),
            "GIT_OBJECT_DIRECTORY": folder,
            # Quoted as git reads it: a colon would end the path.
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": json.dumps(objects, ensure_ascii=False),
        }

        def git(*arguments: str) -> bytes:
            done = subprocess.run(
                ["git", *arguments], cwd=root, capture_output=True, env={**os.environ, **own}, check=False
            )
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
                raise OdysseyError(
                    f"{root}: git cannot say what differs from the commit ({said[-1]}); mend that, so that results "
                    "can be traced to their code"
                )
            return done.stdout

        git("read-tree", "HEAD")
        git("add", "--update", "--", ".")
        if there := [name for name in CODE if (root / name).is_dir()]:
            git("add", "--", *there)
        # Not `git diff`, which takes prefixes, colour and programs from the user's configuration.
        plain = ("--cached", "--patch", "--binary", "--no-ext-diff", "--no-textconv")
        return git("diff-index", *plain, "HEAD", "--", ".", f":(exclude){LOCK}", ":(exclude).dvc")
