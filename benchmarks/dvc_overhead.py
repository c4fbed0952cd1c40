"""`dvc repro` and `dvc status` with nothing to do, against DVC with an empty pipeline of as many stages.

The mini-study's eleven stages, and a study of 2,000 cells, 10 models on 200 domains: for DVC the
cells are files of the same eleven stages, where one stage a cell would be 2,000. Both are the
project's own dvc.yaml with small invented files and commands that do nothing; no study is run.
The peer's stages have a command and one dependency they all share (without any, DVC runs a stage
each time) and nothing else. Takes about 6 minutes on two cores, or one with `mini` as
argument, which leaves out the 2,000.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness
import yaml

STUDY = "mini"
MODELS, DOMAINS = 10, 200
REACH = "at most 1.5 times the peer's time"
PEER = "an empty pipeline"
DVC = str(Path(sys.executable).with_name("dvc"))
OF_CELLS = ("adapt", "evaluate", "tokens")
FILES = ("manifest.json", "summary.json", "table.csv")
"""In each cell's folder."""


def main(large: bool) -> None:
    """Make the projects, measure both commands in both, and record."""
    sizes: dict[str, tuple[int, int, int | None]] = {"the mini-study": (2, 20, None)}
    if large:
        sizes["a study of 2,000 cells"] = (MODELS, DOMAINS, MODELS * DOMAINS)
    results: list[harness.Result] = []
    with tempfile.TemporaryDirectory() as parent:
        for name, (models, domains, as_stages) in sizes.items():
            ours, peer = Path(parent, f"{len(results)}-ours"), Path(parent, f"{len(results)}-peer")
            stages = pipeline()
            make(ours, stages, models, domains)
            make_peer(peer, as_stages or len(stages))
            for command in ("repro", "status"):
                label = f"dvc {command}, {name}, peer of {as_stages or len(stages):,} stages"
                results.append(measured(command, label, ours, peer))
    harness.record("dvc_overhead", results)


def measured(command: str, label: str, ours: Path, peer: Path) -> harness.Result:
    """One command in both projects."""

    def run(folder: Path) -> harness.Run:
        return harness.process([sys.executable, "-c", IN_FOLDER, folder, DVC, command], **environment(folder))

    def same(values: Mapping[str, Any]) -> str:
        wanted = "Data and pipelines are up to date."
        assert set(values.values()) == {wanted}, values
        return "both have nothing to do"

    ways = {harness.OURS: lambda: run(ours), PEER: lambda: run(peer)}
    return harness.alternate(label, REACH, ways, same)


IN_FOLDER = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"


def pipeline() -> dict[str, Any]:
    """The project's own stages for the mini-study, with nothing to run."""
    text = (harness.ROOT / "dvc.yaml").read_text(encoding="utf-8").replace("${study}", STUDY)
    stages: dict[str, Any] = yaml.safe_load(text)["stages"]
    for stage in stages.values():
        stage.pop("matrix", None)
        stage["cmd"] = "true"
    return stages


def make(folder: Path, stages: dict[str, Any], models: int, domains: int) -> None:
    """A finished project of these stages: what they name is there, and dvc.lock knows it."""
    start(folder, stages)
    for name in ("params.yaml", ".dvcignore", f"studies/{STUDY}.yaml"):
        copy(folder, name)
    outs = {path for stage in stages.values() for path in map(plain, stage.get("outs", ()))}
    deps = {path for stage in stages.values() for path in map(plain, stage["deps"])}
    for path in (path for path in deps if not path.startswith("data/")):
        if (harness.ROOT / path).is_file():
            copy(folder, path)
        else:
            write(folder / path / "file.txt", path)
    for path in outs | {path for path in deps if path.startswith("data/")}:
        fill(folder / path, models, domains)
    dvc(folder, "commit", "--force", "--quiet")


def make_peer(folder: Path, stages: int) -> None:
    """A finished project of so many stages without outputs or parameters; `dvc commit` would take an hour for 2,000."""
    start(folder, {f"stage{k}": {"cmd": "true", "deps": ["file.txt"]} for k in range(stages)})
    content = b"file"
    (folder / "file.txt").write_bytes(content)
    dep = {"path": "file.txt", "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}
    known = {f"stage{k}": {"cmd": "true", "deps": [dict(dep)]} for k in range(stages)}
    write(folder / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": known}, sort_keys=False))


def start(folder: Path, stages: dict[str, Any]) -> None:
    """A repository of git's and DVC's with a dvc.yaml."""
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, "init", "--quiet")
    dvc(folder, "config", "core.analytics", "false")
    dvc(folder, "config", "core.check_update", "false")
    write(folder / "dvc.yaml", yaml.safe_dump({"stages": stages}, sort_keys=False))


def dvc(folder: Path, *words: str) -> None:
    """Run a command of DVC's in a project."""
    subprocess.run([DVC, *words], cwd=folder, check=True, env=os.environ | environment(folder))


def plain(path: str | dict[str, Any]) -> str:
    """The path of a dependency or output, whether it has options or not."""
    return path if isinstance(path, str) else next(iter(path))


def fill(target: Path, models: int, domains: int) -> None:
    """An output: a file, or a folder with one folder for each domain, of each model where it has cells."""
    if target.suffix:
        write(target, target.name)
        return
    for model in range(models if target.name in OF_CELLS else 1):
        for domain in range(domains):
            for name in FILES:
                write(target / str(model) / str(domain) / name, f"{target.name} {model} {domain} {name}")


def copy(folder: Path, name: str) -> None:
    """Have a file of the project in another one."""
    write(folder / name, (harness.ROOT / name).read_text(encoding="utf-8"))


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def environment(folder: Path) -> dict[str, str]:
    """DVC's own state kept beside the project, and no word about its use."""
    return {"DVC_SITE_CACHE_DIR": f"{folder}-site", "DVC_NO_ANALYTICS": "1"}


if __name__ == "__main__":
    main(sys.argv[1:] != ["mini"])
