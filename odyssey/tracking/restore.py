"""From a run back to its exact code and data: the git and dvc commands that bring them back."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.state import DIFF, LOCK, UNKNOWN
from odyssey.tracking.connection import find_run, root, store, uri
from odyssey.tracking.runs import PROVENANCE


def commands(run_id: str, into: Path | None = None) -> list[list[str]]:
    """The commands, in their order, that make a clone of this checkout in the state of the run.

    The clone is a folder of its own, `into` or one beside the project's; this checkout stays as it
    is, and the clone uses its DVC cache. What the run's artifacts hold of the state is downloaded to
    the clone's .git/, out of git's and DVC's sight.

    Raises OdysseyError if there is no such run, or it names no commit or has no dvc.lock.
    """
    with store() as client:
        run = find_run(client, run_id)
        held = {Path(entry.path).name for entry in client.list_artifacts(run_id, PROVENANCE)}
    commit = run.data.tags.get("git_commit", UNKNOWN)
    if not re.fullmatch("[0-9a-f]{40,64}", commit):  # what else a store says would be an option of git's
        raise OdysseyError(f"run '{run_id}': it names no commit, as it was not made in a git checkout by odyssey")
    if LOCK not in held:
        raise OdysseyError(f"run '{run_id}': its artifacts have no {PROVENANCE}/{LOCK}, so its data are not known")
    here, place = root(), (into or root().with_name(f"{root().name}-{run_id[:8]}")).resolve()
    kept = place / ".git" / PROVENANCE
    where = [] if "MLFLOW_TRACKING_URI" in os.environ else ["env", f"MLFLOW_TRACKING_URI={uri()}"]
    found = [
        ["git", "clone", "--quiet", "--no-checkout", str(here), str(place)],
        ["git", "-C", str(place), "checkout", "--quiet", "--detach", commit],
        [*where, "mlflow", "artifacts", "download", "-r", run_id, "-a", PROVENANCE, "-d", str(place / ".git")],
    ]
    if DIFF in held:
        found.append(["git", "-C", str(place), "apply", "--whitespace=nowarn", str(kept / DIFF)])
    return [
        *found,
        ["cp", str(kept / LOCK), str(place / LOCK)],
        ["dvc", "--cd", str(place), "cache", "dir", "--local", _cache(here)],
        ["dvc", "--cd", str(place), "checkout", "--quiet", "--allow-missing"],
        ["dvc", "--cd", str(place), "status"],
    ]


def text(found: Sequence[Sequence[str]]) -> str:
    """Commands as one types them."""
    return "\n".join(shlex.join(command) for command in found)


def restore(run_id: str, into: Path, tell: Callable[[str], None] = print) -> None:
    """Run the commands; `tell` takes each as it begins, and then what it says.

    Raises OdysseyError if `into` is not new, or a command fails; then `into` is removed again.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise OdysseyError(f"{into}: is there already; name a new folder with --into")
    found = commands(run_id, into)
    try:
        for command in found:
            tell(f"$ {shlex.join(command)}")
            if said := _run(command, run_id):
                tell(said)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def _run(command: Sequence[str], run_id: str) -> str:
    """Run one command; returns what it says."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise OdysseyError(f"run '{run_id}': `{shlex.join(command)}` failed: {lines[-1]}")
    return done.stdout.rstrip("\n")


def _cache(project: Path) -> str:
    """Folder of a project's DVC cache."""
    done = subprocess.run(["dvc", "cache", "dir"], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OdysseyError(f"{project}: not a DVC project; run this where the study was run")
    return str((project / done.stdout.strip()).resolve())
