"""`odyssey doctor`: every check finds what is broken on purpose, and says what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from conftest import ROOT
from huggingface_hub import constants

from odyssey.cli import main
from odyssey.doctor import examination, installed, machine, reached
from odyssey.doctor.check import Check, Subject
from odyssey.layout import Layout
from odyssey.planning.machine import Device, Machine

GB = 10**9


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    """A project's folder that is in order, but for git and DVC."""
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    shutil.copyfile(ROOT / "requirements.lock", tmp_path / "requirements.lock")
    (tmp_path / "params.yaml").write_text("study: mini\nseed: 0\naccept_licenses: false\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ):
        for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
            os.environ.pop(name, None)
        os.environ["DVC_NO_ANALYTICS"] = "1"  # `dvc init` would have it on
        yield Subject(tmp_path / "params.yaml", tmp_path / "data")


def choose(subject: Subject, study: str, *, accept: bool = False) -> None:
    text = f"study: {study}\nseed: 0\naccept_licenses: {str(accept).lower()}\n"
    subject.params.write_text(text, encoding="utf-8")
    vars(subject).pop("settings", None)  # which a subject reads once


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# --- Python, packages, study


def test_python(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.python(subject).status == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    found = installed.python(subject)
    assert (found.status, found.found) == ("fail", "3.13.1, not 3.11")
    assert "python3.11" in found.remedy


def test_the_python_checked_for_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    major, minor = installed.PYTHON
    assert project["requires-python"] == f">={major}.{minor},<{major}.{minor + 1}"


def test_packages(subject: Subject) -> None:
    lock = subject.root / "requirements.lock"
    pins = lock.read_text(encoding="utf-8").count("==")
    assert installed.packages(subject) == Check("packages", "ok", f"all {pins} are those of requirements.lock")
    edit(lock, "\nclick==", "\nclick==1.")
    with lock.open("a", encoding="utf-8") as file:
        file.write("no-such-package==1.0\n")
    found = installed.packages(subject)
    assert found.status == "fail"
    assert ", not 1." in found.found
    assert found.found.startswith("click is ")
    assert "no-such-package is missing" in found.found
    assert "make test" in found.remedy
    lock.unlink()
    assert installed.packages(subject).status == "fail"


def test_a_build_for_this_machine_is_the_package_of_the_lock(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    (subject.root / "requirements.lock").write_text("torch==2.0\n", encoding="utf-8")
    monkeypatch.setattr(installed, "version", lambda name: "2.0+cpu")
    assert installed.packages(subject).status == "ok"
    monkeypatch.setattr(installed, "version", lambda name: "2.1+cpu")
    assert installed.packages(subject).found.startswith("torch is 2.1, not 2.0")


def test_study(subject: Subject) -> None:
    assert installed.study(subject) == Check("study", "ok", "'mini', seed 0: 2 models x 20 domains")
    edit(subject.root / "studies" / "mini.yaml", "epochs:", "epocs:")
    found = installed.study(subject)
    assert found.status == "fail"
    assert "did you mean 'epochs'?" in found.found
    choose(subject, "nonesuch")
    assert "no study 'nonesuch'" in installed.study(subject).found


def test_licences(subject: Subject) -> None:
    assert installed.licences(subject).status == "ok"
    choose(subject, "gpt2-small")
    found = installed.licences(subject)
    assert found.status == "fail"
    assert "non-commercial" in found.found
    assert "accept_licenses: true" in found.remedy
    choose(subject, "gpt2-small", accept=True)
    assert installed.licences(subject).status == "ok"


# --- the machine


def around(monkeypatch: pytest.MonkeyPatch, *, ram: int = 64 * GB, free: int = 999 * GB, gpu: int = 0) -> None:
    """Another machine: bytes of memory, of free disk, and of a GPU's memory (0: none)."""
    device = Device("GPU", gpu, None) if gpu else Device("processor", ram, None, 1e11)
    monkeypatch.setattr(machine, "_around", lambda layout: Machine(ram, device, free, free, True))


def test_processor(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    around(monkeypatch)
    assert machine.processor(subject).status == "ok"
    choose(subject, "gpt2-small")
    found = machine.processor(subject)
    assert found.status == "warn"
    assert "no GPU for gpt2-small" in found.found
    around(monkeypatch, gpu=80 * GB)
    assert machine.processor(subject).status == "ok"


def test_memory(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    around(monkeypatch)
    assert machine.memory(subject).status == "ok"
    around(monkeypatch, ram=GB // 10)
    found = machine.memory(subject)
    assert found.status == "fail"
    assert "odyssey plan" in found.remedy
    choose(subject, "gpt2-xl")
    around(monkeypatch, gpu=8 * GB)
    assert "memory of GPU: 8 GB" in machine.memory(subject).found
    choose(subject, "nonesuch")
    assert machine.memory(subject).status == "warn"


@pytest.mark.parametrize(
    ("study", "free", "status"), [("mini", 99, "ok"), ("mini", 0.5, "fail"), ("gpt2-xl", 99, "warn")]
)
def test_disk(subject: Subject, monkeypatch: pytest.MonkeyPatch, study: str, free: float, status: str) -> None:
    choose(subject, study)
    around(monkeypatch, free=round(free * GB), gpu=80 * GB)
    found = machine.disk(subject)
    assert found.status == status
    assert bool(found.remedy) == (status != "ok")


def test_this_machine_is_looked_at(subject: Subject) -> None:
    found = machine._around(Layout(subject.data))
    assert found.ram > GB / 10
    assert found.data_free == pytest.approx(shutil.disk_usage(subject.root).free, rel=0.1)


# --- what is reached


@pytest.mark.parametrize(
    ("study", "answers", "status"),
    [("mini", False, "warn"), ("mini", True, "ok"), ("gpt2-small", False, "fail"), ("gpt2-small", True, "ok")],
)
def test_hub(subject: Subject, monkeypatch: pytest.MonkeyPatch, study: str, answers: bool, status: str) -> None:
    choose(subject, study)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reached, "hub_answers", lambda: answers)
    found = reached.hub(subject)
    assert found.status == status
    assert constants.ENDPOINT in found.found
    assert ("HF_HUB_OFFLINE=1" in found.remedy) == (not answers)


def test_a_hub_that_refuses_does_not_answer(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert reached.hub(subject).found.startswith("http://127.0.0.1:9 does not answer")


def test_an_offline_hub_is_not_asked(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(reached, "hub_answers", lambda: pytest.fail("asked"))
    assert reached.hub(subject).status == "ok"
    choose(subject, "gpt2-small")
    found = reached.hub(subject)
    assert found.status == "warn"
    assert "needed for the source corpus, M2D2, gpt2-small" in found.found


def test_mlflow(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    found = reached.mlflow(subject)
    assert (found.status, found.found) == ("ok", "sqlite:///mlflow.db: not there yet, made when it is first written to")
    assert not (subject.root / "mlflow.db").exists()
    (subject.root / "mlflow.db").write_bytes(b"no database " * 500)
    found = reached.mlflow(subject)
    assert found.status == "fail"
    assert "move a damaged file away" in found.remedy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = reached.mlflow(subject)
    assert found.status == "fail"
    assert found.found.startswith("http://127.0.0.1:9")
    assert "secret" not in str(found)


def test_dvc(subject: Subject) -> None:
    assert reached.dvc(subject).status == "fail"
    (subject.root / ".dvc").mkdir()
    assert reached.dvc(subject).found.endswith("no dvc.lock yet, `dvc repro` writes it")
    lock = subject.root / "dvc.lock"
    lock.write_text("schema: '2.0'\nstages:\n  sample@mini: {cmd: x}\n  embed@mini: {cmd: x}\n", encoding="utf-8")
    assert reached.dvc(subject) == Check("dvc", "ok", "set up; dvc.lock knows 2 stages")
    for damaged, said in (("", "is empty"), ("stages: {a: [", "cannot be read as YAML")):
        lock.write_text(damaged, encoding="utf-8")
        found = reached.dvc(subject)
        assert found.status == "fail"
        assert said in found.found
        assert "git checkout dvc.lock" in found.remedy


@pytest.fixture
def with_dvc(subject: Subject) -> Subject:
    run(subject, sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet")
    return subject


def run(subject: Subject, *command: str) -> None:
    subprocess.run(command, cwd=subject.root, check=True, capture_output=True)


def test_no_remote(with_dvc: Subject) -> None:
    found = reached.remote(with_dvc)
    assert found.status == "warn"
    assert "dvc remote add" in found.remedy


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("there", "ok", "answers"),
        ("later", "ok", "the first `dvc push` makes it"),
        ("no/such/folder", "warn", "no such folder"),
        ("http://user:secret@127.0.0.1:9/x", "warn", "cannot be reached"),
    ],
)
def test_remote(with_dvc: Subject, url: str, status: str, said: str) -> None:
    (with_dvc.root / "there").mkdir()
    place = url if "://" in url else str(with_dvc.root / url)
    run(with_dvc, sys.executable, "-m", "dvc", "remote", "add", "--default", "store", place)
    found = reached.remote(with_dvc)
    assert found.status == status
    assert said in found.found
    assert "secret" not in found.found


def test_git(subject: Subject) -> None:
    found = reached.git(subject)
    assert found.status == "warn"
    assert "git" in found.remedy
    run(subject, "git", "init", "--quiet")
    run(subject, "git", "add", ".")
    run(subject, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "test")
    assert reached.git(subject).status == "ok"
    (subject.root / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    assert reached.git(subject).status == "ok"
    choose(subject, "newline")
    assert "uncommitted changes" in reached.git(subject).found


# --- the command


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_exit_status_is_1_only_if_a_check_failed(
    monkeypatch: pytest.MonkeyPatch, subject: Subject, status: str, code: int
) -> None:
    fine = Check("fine", "ok", "as it should be")
    other = Check("other", status, "found", "remedy" if status != "ok" else "")  # type: ignore[arg-type]
    monkeypatch.setattr(examination, "CHECKS", (lambda subject: other, lambda subject: fine))
    said = CliRunner().invoke(main, ["--params", str(subject.params), "doctor"])
    assert said.exit_code == code
    assert said.stderr.startswith("doctor: 2 checks of ")
    remedy = " -> remedy" if status != "ok" else ""
    assert said.stdout == f"{status:<4}  other      found{remedy}\nok    fine       as it should be\n"
    said = CliRunner().invoke(main, ["--params", str(subject.params), "doctor", "--json"])
    assert said.exit_code == code
    assert [check["status"] for check in json.loads(said.stdout)["checks"]] == [status, "ok"]


def test_every_remedy_is_there_and_every_name_is_its_own(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which most is wrong: each check still answers in a line."""
    choose(subject, "nonesuch")
    (subject.root / "requirements.lock").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    around(monkeypatch, free=0)
    made = list(examination.examine(subject))
    assert len({check.name for check in made}) == len(made) == len(examination.CHECKS)
    assert all("\n" not in check.found + check.remedy for check in made)
    assert all(bool(check.remedy) == (check.status != "ok") for check in made)
    assert {check.name for check in made if check.status == "fail"} == {"packages", "study", "disk", "dvc"}
