"""The store's connection: one process at a time, errors in one line, no secrets in it."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

import pytest

from odyssey.errors import OdysseyError
from odyssey.tracking import connection


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def test_what_fails_inside_of_the_block_is_one_line(store: Path) -> None:
    with pytest.raises(OdysseyError, match=r"mlflow\.db: .*; run the command again"), connection.store() as client:
        client.get_experiment("no such experiment")


def test_a_run_that_is_not_there_is_told_from_a_store_that_fails(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    with connection.store() as client:
        with pytest.raises(OdysseyError, match="no run 'abc'"):
            connection.find_run(client, "abc")

        def fail(run_id: str) -> None:
            raise MlflowException("API request to http://me:secret@host/api failed")

        monkeypatch.setattr(client, "get_run", fail)
        with pytest.raises(MlflowException):
            connection.find_run(client, "abc")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no host at https://me:secret@host:5000/x\nand more"), "no host at https://host:5000/x"),
        (ValueError(" \n"), "ValueError"),
        (KeyError("plain@name"), "'plain@name'"),
    ],
)
def test_a_reason_is_one_line_without_a_password(error: Exception, told: str) -> None:
    assert connection.reason(error) == told


def test_a_lock_that_cannot_be_written_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/file/mlflow.db")
    with pytest.raises(OdysseyError, match=r"file/mlflow\.lock: cannot be written"), connection.store():
        pass


def test_waiting_for_another_process_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    began = time.monotonic()
    with (folder / "mlflow.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.5, fcntl.flock, (other, fcntl.LOCK_UN)).start()
        with connection._locked(folder / "mlflow.lock"):
            assert time.monotonic() - began > 0.4
    assert capsys.readouterr().err == "waiting for another command that uses sqlite:///mlflow.db\n"
    with connection._locked(folder / "mlflow.lock"):
        pass
    assert capsys.readouterr().err == ""
