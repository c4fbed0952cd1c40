"""From a run back to its code and data, in a project of its own with real git, DVC and MLflow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from odyssey.cli import main
from odyssey.errors import OdysseyError
from odyssey.record import Metric, Record
from odyssey.state import DIFF, State, state
from odyssey.tracking import runs
from odyssey.tracking.connection import experiment_id, store
from odyssey.tracking.restore import commands, restore, text

PIPELINE = """stages:
  double:
    cmd: python odyssey/double.py
    deps: [odyssey/double.py]
    params: [study]
    outs: [out.txt]
"""
CODE = "from pathlib import Path\nPath('out.txt').write_text({!r})\n"


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> str:
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "t")
    return run(folder, "git", "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A git checkout with a DVC pipeline of one stage, its result made, as the current folder."""
    folder = tmp_path_factory.mktemp("restore") / "a project"
    (folder / "odyssey").mkdir(parents=True)
    (folder / "studies").mkdir()
    (folder / "odyssey" / "double.py").write_text(CODE.format("one"))
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("study: mine\n")
    (folder / "studies" / "mine.yaml").write_text("a: 1\n")
    (folder / "texts").mkdir()
    run(folder, "git", "init", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
            patch.delenv(name)
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.chdir(folder)
        run(folder, "dvc", "init", "--quiet")
        (folder / ".gitignore").write_text("/mlflow*\n/mlartifacts/\n/out.txt\n")
        run(folder, "dvc", "repro", "--quiet")
        commit(folder)
        yield folder


def publish(name: str, now: State) -> str:
    record = Record(name, {"study": "mine"}, metrics=[Metric("Change", 1.0)])
    with store() as client:
        return runs.create(client, experiment_id(client, "mine"), record, {}, now)


def test_a_clean_state_comes_back(project: Path, tmp_path: Path) -> None:
    now = state(project, "mine")
    assert (now.dirty, now.diff) == (False, b"")
    run_id = publish("clean", now)
    (project / "odyssey" / "double.py").write_text(CODE.format("two"))
    run(project, "dvc", "repro", "--quiet")
    commit(project)
    restore(run_id, tmp_path / "then")
    assert (tmp_path / "then" / "out.txt").read_text() == "one"
    assert (project / "out.txt").read_text() == "two"
    assert run(tmp_path / "then", "git", "rev-parse", "HEAD").strip() == now.commit
    assert run(tmp_path / "then", "git", "status", "--porcelain") == ""
    assert "up to date" in run(tmp_path / "then", "dvc", "status")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout in which one file was changed; a colon in its path."""
    folder = tmp_path / "a: project"
    (folder / "odyssey").mkdir(parents=True)
    run(folder, "git", "init", "--quiet")
    (folder / "odyssey" / "code.py").write_text("A = 1\n")
    commit(folder)
    (folder / "odyssey" / "code.py").write_text("A = 2\n")
    return folder


def test_the_diff_applies_whatever_the_users_configuration(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"diff.noprefix": "true", "color.ui": "always", "diff.external": "false"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for place, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{place}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{place}", value)
    diff = state(checkout, "mine").diff
    assert diff.startswith(b"diff --git a/odyssey/code.py b/odyssey/code.py\n")
    run(checkout, "git", "checkout", "--quiet", ".")
    subprocess.run(["git", "apply"], cwd=checkout, input=diff, check=True)
    assert (checkout / "odyssey" / "code.py").read_text() == "A = 2\n"


def test_what_git_cannot_add_is_said(checkout: Path) -> None:
    run(checkout, "git", "init", "--quiet", "odyssey/repository")  # without a commit
    with pytest.raises(OdysseyError, match="a: project: git cannot say what differs from the commit"):
        state(checkout, "mine")


@pytest.mark.slow
def test_a_dirty_state_comes_back(project: Path, tmp_path: Path) -> None:
    """Edited, staged, new, deleted and binary files; not what is a user's own, and not as staged afterwards."""
    (project / "odyssey" / "old.bin").write_bytes(bytes(range(256)))
    commit(project)
    (project / "odyssey" / "double.py").write_text(CODE.format("three"))
    (project / "odyssey" / "old.bin").write_bytes(bytes(range(255, -1, -1)))
    (project / "odyssey" / "new.py").write_text("NEW = 1\n")
    (project / "studies" / "mine.yaml").unlink()
    (project / "params.yaml").write_text("study: other\n")
    (project / "studies" / "other.yaml").write_text("b: 2\n")
    (project / "private.txt").write_text("a secret\n")
    run(project, "dvc", "repro", "--quiet")
    staged = run(project, "git", "status", "--porcelain")
    now = state(project, "other")
    assert now.dirty
    assert b"secret" not in now.diff
    assert run(project, "git", "status", "--porcelain") == staged
    run_id = publish("dirty", now)
    run(project, "git", "stash", "--quiet", "--include-untracked")
    then = tmp_path / "then"
    restore(run_id, then)
    assert (then / "out.txt").read_text() == "three"
    assert (then / "odyssey" / "new.py").read_text() == "NEW = 1\n"
    assert (then / "odyssey" / "old.bin").read_bytes() == bytes(range(255, -1, -1))
    assert (then / "params.yaml").read_text() == "study: other\n"
    assert (then / "studies" / "other.yaml").is_file()
    assert not (then / "studies" / "mine.yaml").exists()
    assert not (then / "private.txt").exists()
    assert "up to date" in run(then, "dvc", "status")
    run(project, "git", "stash", "drop", "--quiet")


@pytest.mark.slow
def test_the_commands_that_are_printed_do_the_same(project: Path, tmp_path: Path) -> None:
    run(project, "dvc", "checkout", "--quiet", "--force")
    run_id = publish("printed", state(project, "mine"))
    script = text(commands(run_id))
    assert "git clone" in script
    place = project.with_name(f"{project.name}-{run_id[:8]}")
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True)
    assert (place / "out.txt").read_bytes() == (project / "out.txt").read_bytes()


def test_what_git_says_cannot_act_on_a_terminal(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b]0;owned\x07\rall is well"
    monkeypatch.setattr(
        "odyssey.tracking.restore.commands",
        lambda *_: [["echo", hostile], ["sh", "-c", f"echo '{hostile}' >&2; exit 3"]],
    )
    (project / "studies").mkdir(exist_ok=True)
    said = CliRunner().invoke(main, ["restore", "0" * 32, "--into", str(tmp_path / "then")])
    assert said.exit_code == 1
    assert "owned" in said.stdout.splitlines()[1]
    assert "owned" in said.stderr.splitlines()[-1]
    assert not {"\x1b", "\x07", "\r"} & {*said.stdout, *said.stderr}


def test_what_cannot_be_restored_is_said(project: Path, tmp_path: Path) -> None:
    with pytest.raises(OdysseyError, match="no run 'nothing'"):
        commands("nothing")
    with pytest.raises(OdysseyError, match="names no commit"):
        commands(publish("elsewhere", State("unknown", True, b"")))
    with pytest.raises(OdysseyError, match=r"dvc\.lock, so its data are not known"):
        commands(publish("no lock", State("0" * 40, False, b"")))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    good = publish("good", state(project, "mine"))
    with pytest.raises(OdysseyError, match="is there already"):
        restore(good, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"
    now = state(project, "mine")
    lost = publish("lost", State("0" * 40, now.dirty, now.diff, now.files))
    with pytest.raises(OdysseyError, match=r"git .*checkout.* failed"):
        restore(lost, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_the_artifacts_say_what_was_run(project: Path) -> None:
    (project / "odyssey" / "double.py").write_text(CODE.format("four"))
    run_id = publish("artifacts", state(project, "mine"))
    with store() as client:
        held = {entry.path for entry in client.list_artifacts(run_id, runs.PROVENANCE)}
        tags = client.get_run(run_id).data.tags
    assert held >= {f"provenance/{name}" for name in ("params.yaml", "studies", "dvc.lock", DIFF)}
    assert tags["git_dirty"] == "true"
    assert tags["git_commit"] == tags["mlflow.source.git.commit"]
