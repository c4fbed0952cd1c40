"""Where results go: the MLflow store of MLFLOW_TRACKING_URI, or mlflow.db in the project's folder."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from odyssey.errors import OdysseyError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE = 1.0
"""Seconds of waiting for another process of which nothing is said."""
FIRST_ANSWER = 20
"""Seconds that a store has for its first answer; a server is asked twice. Later requests may carry large files."""
HIDDEN = "***"
"""In the place of a secret."""
CUTS = r"[/?#@:&=\s]"
"""Where libraries cut an address."""
TELLING = 3
"""Characters of a part of a password that say something of it, at least."""


@contextmanager
def store(patience: float | None = None) -> Iterator[MlflowClient]:
    """A client for the store, which it initialises; one process of this folder at a time.

    Processes that initialise one sqlite file together break it for good, and two that
    publish the same results together would publish them twice. With `patience` such a process is
    waited for no longer than so many seconds.

    Raises OdysseyError naming the address if it cannot be used, or fails inside of the block.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Otherwise a line or two for each run, to the same output as ours.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # A server that does not answer is reported after seconds, not after four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with _locked((database(uri()) or root() / "mlflow.db").with_suffix(".lock"), patience):
        import mlflow
        from mlflow.exceptions import MlflowException

        # How it makes its tables is of no interest on every first run, and what fails is raised, too.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        try:
            with limits(FIRST_ANSWER if patience is None else patience, 1 if patience is None else 0):
                client = mlflow.MlflowClient(tracking_uri=uri())
                client.search_experiments(max_results=1)
        except OdysseyError:
            raise
        except Exception as error:
            raise _unusable(error) from None
        try:
            yield client
        except MlflowException as error:
            raise OdysseyError(f"{shown(uri())}: {reason(error)}; run the command again") from None


@contextmanager
def limits(seconds: float, retries: int = 0) -> Iterator[None]:
    """Requests inside end after so long: a server's with its answer or an error, and again at each retry.

    An sqlite file's do if another program holds it only for a while: MLflow itself would wait for
    20 seconds with each request. Raises OdysseyError if it is held for longer now.
    """
    _check_free(seconds)
    told = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(seconds))), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries)}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _check_free(seconds: float) -> None:
    """Raise OdysseyError if an sqlite store cannot be written, or another program holds it locked for so long."""
    file = database(uri())
    if file is None or not file.is_file():
        return
    try:
        with closing(sqlite3.connect(file, timeout=seconds, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" not in str(error):
            raise _unusable(error) from None
        raise OdysseyError(
            f"{shown(uri())}: locked by another program for {seconds:g} s; end that, then run `odyssey track`: "
            "all results are under data/"
        ) from None


def _unusable(error: Exception) -> OdysseyError:
    return OdysseyError(
        f"{shown(uri())}: not usable as an MLflow store ({reason(error)}); correct MLFLOW_TRACKING_URI, or "
        "move a damaged file away and run `odyssey track`: all results are under data/"
    )


@contextmanager
def _locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold the lock file, alone; says what it waits for if that takes long.

    Raises OdysseyError if the file cannot be made, or is held for longer than `patience` seconds.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise OdysseyError(
            f"{path}: cannot be written ({error.strerror}), and only one process may use {shown(uri())} at a time; "
            "correct MLFLOW_TRACKING_URI, or run where you may write"
        ) from None
    with file:
        end = time.monotonic() + (PATIENCE if patience is None else patience)
        while not _take(file):
            if time.monotonic() >= end:
                if patience is not None:
                    raise OdysseyError(f"another command uses {shown(uri())}")
                print(f"waiting for another command that uses {shown(uri())}", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
                break
            time.sleep(PATIENCE / 20)
        yield


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # Lustre without -o flock, NFS without its lock daemon
        raise OdysseyError(
            f"{file.name}: cannot be locked on this file system ({error.strerror}), and only one process may use "
            f"{shown(uri())} at a time; run where files can be locked, or name another store with MLFLOW_TRACKING_URI"
        ) from None
    return True


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the study's experiment, made if it is not there; raises OdysseyError if it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise OdysseyError(
            f"experiment '{name}' is deleted; `mlflow experiments restore -x {found.experiment_id}` brings it back"
        )
    if found is not None:
        return str(found.experiment_id)
    file = database(uri())
    artifacts = (file.parent / "mlartifacts" / name).as_uri() if file else None
    return str(client.create_experiment(name, artifacts))


def find_run(client: MlflowClient, run_id: str) -> Run:
    """A run by its id; raises OdysseyError if the store has none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise OdysseyError(
            f"{shown(uri())}: no run '{run_id}'; its page in the MLflow UI has the id, and MLFLOW_TRACKING_URI "
            "says which store is asked"
        ) from None


def handed_down() -> str | None:
    """Id of the run that `mlflow run` started this command for, if it is ours to write to.

    Through `dvc repro` the id reaches every stage: there it is none of ours.
    """
    return None if "DVC_STAGE" in os.environ else os.environ.get("MLFLOW_RUN_ID")


def root() -> Path:
    """The project's folder; inside a DVC stage, DVC says which."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def uri() -> str:
    """The store's address."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def database(address: str) -> Path | None:
    """The file of an sqlite store."""
    prefix = "sqlite:///"
    return Path(address.removeprefix(prefix).split("?")[0]).resolve() if address.startswith(prefix) else None


def shown(address: str) -> str:
    """An address fit to print and keep: without credentials, and the same on every machine where possible."""
    file = database(address)
    if file is not None:
        return f"sqlite:///{file.relative_to(root()) if file.is_relative_to(root()) else file}"
    scheme, there, _ = address.partition("://")
    # A folder's name may have an @ in it, and has no password.
    if not there or scheme == "file":
        parts = urlsplit(address)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return f"{scheme}://{_bare(address.removeprefix(f'{scheme}://'))}"


def reason(error: BaseException) -> str:
    """The first line of what an error says, or its kind, fit to print: MLflow repeats the address with its password.

    What libraries make of an address that is none, a password with a slash in it say, may have parts of it anywhere.
    """
    told = (str(error).strip() or type(error).__name__).splitlines()[0]
    told = without_secrets(told.replace(uri(), shown(uri())))
    for part in _secret_parts(uri()):
        told = told.replace(part, HIDDEN)
    return told


def without_secrets(text: str) -> str:
    """A text in which addresses have no user, no password and no query."""
    return re.sub(r"(?<=://)\S+", lambda found: _bare(found[0]), text)


def _bare(rest: str) -> str:
    """What of an address after its :// is no secret: a password may hold @, / and all else, and a query a token.

    Of a ? before an @ nobody knows which of both it is in, so that all is hidden.
    """
    before, _, after = rest.rpartition("@")
    return HIDDEN if "?" in before else re.split(r"[?#]", after, maxsplit=1)[0]


def _secret_parts(address: str) -> list[str]:
    """Of an address's password and query what libraries may cut it into, the longest first; not single letters."""
    if database(address) is not None:
        return []
    rest = address.partition("://")[2]
    user, _, after = rest.rpartition("@")
    secrets = [user.partition(":")[2] or user, *re.findall(r"=([^&#]*)", after.partition("?")[2])]
    parts = {part for secret in secrets for one in (secret, unquote(secret)) for part in [one, *re.split(CUTS, one)]}
    return sorted((part for part in parts if len(part) >= TELLING), key=lambda part: (-len(part), part))
