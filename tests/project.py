"""A copy of the project in a folder of its own, for tests that run it as its users do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from mlflow.entities import Run

ROOT = Path(__file__).parents[1]


def heeding() -> None:
    """In a child, before it begins: Ctrl-C ends it, which what a shell runs in the background ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Project:
    """A checkout of the project as it is now, committed, with the given study in use and nothing run."""

    def __init__(
        self, folder: Path, study: str, studies: Mapping[str, Path | dict[str, object]], **environment: str
    ) -> None:
        """`studies` are added to the project's own: files, or what is to be in them."""
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_SITE_CACHE_DIR": str(folder.with_name("site")),
            **environment,
        }
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in {name for name in names if name and name != "dvc.lock" and (ROOT / name).is_file()}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        for name, content in studies.items():
            text = (
                content.read_text(encoding="utf-8")
                if isinstance(content, Path)
                else yaml.safe_dump(content, sort_keys=False)
            )
            (folder / "studies" / f"{name}.yaml").write_text(text, encoding="utf-8")
        (folder / "params.yaml").write_text(f"study: {study}\nseed: 0\naccept_licenses: false\n", encoding="utf-8")
        self.run("git", "init", "--quiet")
        self.commit("--all")

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command in the copy, show what it says as it goes, and return that."""
        print("\n$", *command, flush=True)
        said = []
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                print(line, end="", flush=True)
        assert process.returncode == status, f"{' '.join(command)}: exit status {process.returncode}"
        return "".join(said)

    def commit(self, what: str) -> None:
        """Take what is named, or all of it, into git."""
        self.run("git", "add", what)
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "test")

    def changed(self) -> list[str]:
        """What git sees as changed."""
        return self.run("git", "status", "--porcelain").split("\n")[:-1]

    def files(self, *folders: str) -> dict[str, Path]:
        """Files below folders of data/, by path."""
        data = self.folder / "data"
        files = (path for folder in folders for path in (data / folder).rglob("*") if path.is_file())
        return {path.relative_to(data).as_posix(): path for path in files}

    def runs(self, experiment: str) -> list[Run]:
        """Runs of an experiment in the copy's store."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id])) if found else []
