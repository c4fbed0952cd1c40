"""The store's connection: one process at a time, errors in one line, no secrets in it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        (ValueError("at postgresql://me:p@ss@host/db, says p@q"), "at postgresql://host/db, says p@q"),
        (ValueError("no http://host/x?token=secret here"), "no http://host/x here"),
    ],
)
def test_a_reason_is_one_line_without_a_password(error: Exception, told: str) -> None:
    assert connection.reason(error) == told


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://mlflow:S3cr/etPW@127.0.0.1:1/mlflow", "postgresql://127.0.0.1:1/mlflow"),
        ("postgresql://mlflow:S3cr#et@PW@host/mlflow", "postgresql://host/mlflow"),
        ("postgresql://mlflow:S3cr?et@host/mlflow", "postgresql://***"),
        ("https://host/x?token=S3cr@etPW", "https://***"),
        ("https://host/x?token=S3cret", "https://host/x"),
        ("file:///home/me@there/mlruns", "file:///home/me@there/mlruns"),
        ("/home/me@there/mlruns", "/home/me@there/mlruns"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_an_address_is_shown_without_a_password_whatever_is_in_it(address: str, told: str) -> None:
    assert connection.shown(address) == told


PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from("/#?@:&=% "))


@settings(max_examples=300, deadline=None)
@given(middle=PRINTABLE, tail=st.sampled_from(["", "/mlflow", ":5000", "/x?token=QUERYSECRET", "?a=b&key=QUERYSECRET"]))
def test_no_password_is_shown(middle: str, tail: str) -> None:
    """Of libraries that repeat an address as it is, as a client asks it, and in parts of it."""
    address = f"postgresql://mlflow:S3CR{middle}ETPW@host{tail}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        shown = connection.shown(address)
        rest = address.partition("://")[2]
        host = re.split("[/?#]", rest)[0]
        path = rest.removeprefix(host)
        told = [
            f"cannot connect to {address}",
            f"'{address}/api' is no address",
            f"HTTPConnectionPool(host='{host}'): Max retries exceeded with url: {path}/api/2.0/mlflow",
            *(f"invalid port '{part}'" for part in re.split("[/?#@:]", address)),
        ]
        for text in (shown, *(connection.reason(ValueError(one)) for one in told)):
            assert not {part for part in ("S3CR", "ETPW", "QUERYSECRET") if part in text}, text
    assert shown.startswith("postgresql://")


def test_a_store_that_cannot_be_used_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """By MLflow and SQLAlchemy themselves."""
    for address in (
        "postgresql://mlflow:S3cr/etPW@127.0.0.1:1/mlflow",
        "http://mlflow:12/etPW@127.0.0.1:1",
        "http://127.0.0.1:1/x?token=etPW",
        "nosuch://mlflow:S3cr@etPW@127.0.0.1:1/mlflow",
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(OdysseyError) as caught, connection.store(0.1):
            pass
        assert "etPW" not in str(caught.value), str(caught.value)


def test_a_file_system_without_locks_is_told_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OdysseyError, match=r"mlflow\.lock: cannot be locked on this file system"), connection.store():
        pass


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
