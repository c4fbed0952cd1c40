"""The MLflow UI, opened at a study's runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import entry_points

from odyssey.errors import OdysseyError
from odyssey.progress import verbose
from odyssey.settings import Settings
from odyssey.tracking import landing, views
from odyssey.tracking.connection import database, shown, store, uri

PATIENCE = 10
"""Seconds that the server has to end by itself."""


def serve(settings: Settings, port: int) -> None:
    """Print where the study's runs are and keep the MLflow UI on 127.0.0.1, until interrupted.

    For a store that a server keeps already only the address is printed. Raises OdysseyError
    if nothing is published or the port is taken.
    """
    address, file = uri(), database(uri())
    nothing = OdysseyError(
        f"{shown(address)}: no study '{settings.study}' there yet; run `make reproduce` or `odyssey track` first"
    )
    if file is not None and not file.is_file():
        raise nothing
    with store() as client:
        experiment = client.get_experiment_by_name(settings.study)
    if experiment is None:
        raise nothing
    page = views.page(experiment.experiment_id)
    if address.startswith("http"):
        print(f"The study's runs: {shown(address).rstrip('/')}{page}")
        return
    if landing.NAME not in entry_points(group="mlflow.app").names:
        raise OdysseyError("this installation is older than the code; `make ui` brings it up to date")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OdysseyError(f"port {port} cannot be used ({error}); choose another with --port") from None
    print(f"The study's runs, in some seconds and until Ctrl-C: http://127.0.0.1:{port}{landing.PATH}", flush=True)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Not as an option: an address may hold a password, and everyone sees a command's options.
    os.environ |= {landing.TARGET: page, "MLFLOW_BACKEND_STORE_URI": address}
    _run([sys.executable, "-m", "mlflow", "server", "--app-name", landing.NAME, *options])


def _run(command: list[str]) -> None:
    """Keep a server running until it ends or this process is interrupted.

    What it says is shown with `odyssey -v`, and if it ends by itself: then OdysseyError is raised.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        output = None if verbose() else said
        # In a session of its own, so that Ctrl-C reaches this process only, which ends all of the server's.
        with subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as server:
            try:
                status = server.wait()
            except BaseException:
                _end(server)
                raise
        said.seek(0)
        raise OdysseyError(f"the MLflow server ended with status {status}: {said.read().strip()[-2000:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and the processes that it started, by force if need be."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(PATIENCE)
            return
