"""The MLflow UI, opened at a study's runs."""

from __future__ import annotations

import os
import socket
import sys
from importlib.metadata import entry_points

from odyssey.errors import OdysseyError
from odyssey.settings import Settings
from odyssey.tracking import landing, views
from odyssey.tracking.connection import database, shown, store, uri


def serve(settings: Settings, port: int) -> None:
    """Print where the study's runs are and become the MLflow UI on 127.0.0.1, until interrupted.

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
        except (OSError, OverflowError) as error:
            raise OdysseyError(f"port {port} cannot be used ({error}); choose another with --port") from None
    print(f"The study's runs, in some seconds and until Ctrl-C: http://127.0.0.1:{port}{landing.PATH}", flush=True)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Not as an option: an address may hold a password, and everyone sees a command's options.
    os.environ |= {landing.TARGET: page, "MLFLOW_BACKEND_STORE_URI": address}
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", "--app-name", landing.NAME, *options])
