"""Checks of what a study reaches: the hub, MLflow's store, DVC and git."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from odyssey.doctor.check import Check, Subject
from odyssey.errors import OdysseyError
from odyssey.planning.sizes import hub_answers
from odyssey.provenance import git_state
from odyssey.sections import HubSource, M2D2Domain, PublishedModel
from odyssey.settings import Settings
from odyssey.tracking import connection

PATIENCE = 30
"""Seconds that a remote has to answer."""
LATE = 124
"""Status of what did not answer, as `timeout` has it."""


def hub(subject: Subject) -> Check:
    """Whether the Hugging Face hub answers, if the study needs it."""
    from huggingface_hub import constants

    settings = subject.settings
    needed = _from_hub(settings) if settings else []
    why = f"needed for {', '.join(needed)}" if needed else "not needed by the study"
    if constants.HF_HUB_OFFLINE:
        remedy = "unset HF_HUB_OFFLINE, unless all of it is in the hub's cache" if needed else ""
        return Check("hub", "warn" if needed else "ok", f"not asked, as HF_HUB_OFFLINE is set; {why}", remedy)
    endpoint = connection.without_secrets(constants.ENDPOINT)
    if hub_answers():
        return Check("hub", "ok", f"{endpoint} answers; {why}")
    remedy = "check the network, HTTPS_PROXY and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache"
    return Check("hub", "fail" if needed else "warn", f"{endpoint} does not answer; {why}", remedy)


def _from_hub(settings: Settings) -> list[str]:
    """What of a study comes from the hub."""
    needed = ["the source corpus"] if isinstance(settings.source, HubSource) else []
    needed += ["M2D2"] if any(isinstance(about, M2D2Domain) for about in settings.domains.values()) else []
    models = settings.models.items()
    needed += [name for name, about in models if isinstance(about, PublishedModel) and about.revision is not None]
    return needed + (["the encoder"] if settings.embed.revision is not None else [])


def mlflow(subject: Subject) -> Check:
    """Whether MLflow's store can be opened; one that is not there yet is not made."""
    address = connection.uri()
    shown, file = connection.shown(address), connection.database(address)
    if file is not None and not file.is_file():
        return Check("mlflow", "ok", f"{shown}: not there yet, made when it is first written to")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        with connection.store() as client:
            count = len(client.search_experiments())
    except OdysseyError as error:
        found, _, remedy = str(error).rpartition("; ")
        return Check("mlflow", "fail", found, remedy)
    return Check("mlflow", "ok", f"{shown}: {count} experiment{'' if count == 1 else 's'}")


def dvc(subject: Subject) -> Check:
    """Whether DVC is set up here and its lock file can be read."""
    if not (subject.root / ".dvc").is_dir():
        return Check("dvc", "fail", f"no .dvc in {subject.root.resolve()}", "run in a clone of the project, not a copy")
    lock = subject.root / "dvc.lock"
    if not lock.exists():
        return Check("dvc", "ok", "set up; no dvc.lock yet, `dvc repro` writes it")
    remedy = "`git checkout dvc.lock`, or delete it: DVC's cache and finished cells are used all the same"
    try:
        held = yaml.safe_load(lock.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError):
        return Check("dvc", "fail", f"{lock} cannot be read as YAML", remedy)
    if not isinstance(held, dict) or not isinstance(held.get("stages"), dict):
        return Check("dvc", "fail", f"{lock} is empty, as DVC leaves it when it is killed while writing", remedy)
    return Check("dvc", "ok", f"set up; dvc.lock knows {len(held['stages'])} stages")


def remote(subject: Subject) -> Check:
    """Whether DVC has a default remote, and reaches it."""
    name = _dvc(subject.root, "config", "core.remote").stdout.strip()
    if not name:
        remedy = "`dvc remote add -d NAME URL`; without it `dvc push` and `dvc pull` have nowhere to go"
        return Check("remote", "warn", "DVC has no default remote", remedy)
    url = _dvc(subject.root, "config", f"remote.{name}.url").stdout.strip()
    shown = f"'{name}' at {connection.without_secrets(url)}"
    if "://" not in url and not Path(url).exists():
        if Path(url).parent.is_dir():
            return Check("remote", "ok", f"{shown}: not there yet, the first `dvc push` makes it")
        return Check("remote", "warn", f"{shown}: no such folder", f"`dvc remote modify {name} url FOLDER`")
    found = _dvc(subject.root, "ls-url", f"remote://{name}")
    if found.returncode == 0:
        return Check("remote", "ok", f"{shown} answers")
    said = [line for line in found.stderr.splitlines() if line.startswith("ERROR: ")]
    late = f"no answer within {PATIENCE} s" if found.returncode == LATE else f"DVC ended with status {found.returncode}"
    reason = connection.without_secrets(said[0].removeprefix("ERROR: ")) if said else late
    remedy = "check network and credentials; the study runs without it, `dvc push` and `dvc pull` do not"
    return Check("remote", "warn", f"{shown} cannot be reached: {reason}", remedy)


def _dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, LATE, "", "")


def git(subject: Subject) -> Check:
    """Whether results can be traced to a commit."""
    commit, dirty = git_state(subject.root)
    if commit == "unknown":
        remedy = "clone the project with git, so that every result names the code that made it"
        return Check("git", "warn", f"{subject.root.resolve()} is not a git checkout with a commit", remedy)
    if dirty:
        remedy = "commit them, so that results can be traced to a commit"
        return Check("git", "warn", f"commit {commit[:12]} with uncommitted changes", remedy)
    return Check("git", "ok", f"commit {commit[:12]}, clean but for dvc.lock")
