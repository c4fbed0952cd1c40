"""How long publication of 200 runs takes, to a file and to a tracking server, beside MLflow's plain calls.

The runs hold invented results of all 199 domains of M2D2 with one model, and the summary. The
peer logs the content of some of them as MLflow's tutorials do: a call for each parameter, metric
and table.

    python benchmarks/publish.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from results import QUICK, write_results  # noqa: E402

from odyssey.layout import Layout  # noqa: E402
from odyssey.record import Record  # noqa: E402
from odyssey.records import cell_record  # noqa: E402
from odyssey.settings import Settings, load_settings  # noqa: E402
from odyssey.stages import report  # noqa: E402
from odyssey.tracking.publication import publish  # noqa: E402

PEERS = 20
"""Runs that the peer logs."""


def main() -> None:
    """Print seconds a run and for 200, by store and way."""
    chosen = load_settings(ROOT / "params.yaml", "gpt2-small")
    settings = chosen.model_copy(update={"adapt_to": list(chosen.domains), "claims": QUICK})
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        layout = Layout(Path("data"))
        write_results(settings, layout)
        report.run(settings, layout)
        with server(Path(folder)) as address:
            for name, uri in (("sqlite file", f"sqlite:///{folder}/file.db"), ("server", address)):
                print(f"{name}: {_compare(settings, layout, uri)}", flush=True)


def _compare(settings: Settings, layout: Layout, uri: str) -> str:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    start = time.monotonic()
    n = publish(settings, layout)["new"]
    ours = time.monotonic() - start
    model = next(iter(settings.models))
    records = [cell_record(settings, layout, model, domain) for domain in list(settings.adapted)[:PEERS]]
    start = time.monotonic()
    for record in records:
        plain(record, uri)
    peer = (time.monotonic() - start) / len(records)
    return (
        f"{n} runs in {ours:.1f} s, {ours / n:.3f} s each; plain calls {peer:.3f} s each, {peer * n / ours:.1f} times"
    )


def plain(record: Record, uri: str) -> None:
    """Log a record with a call for each thing."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("plain")
    with mlflow.start_run(run_name=record.name):
        for key, value in record.tags.items():
            mlflow.set_tag(key, value)
        for key, value in record.params.items():
            mlflow.log_param(key, value)
        for metric in record.metrics:
            mlflow.log_metric(metric.key, metric.value, step=metric.step)
        for name, table in record.tables.items():
            mlflow.log_table(table, name)
        for name, path in record.files.items():
            mlflow.log_artifact(str(path), str(Path(name).parent))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """An `mlflow server` on sqlite for as long as the block lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host, _, port = address.partition(":")
    options = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/kept"]
    command = [sys.executable, "-m", "mlflow", "server", *options, "--host", host, "--port", port, "--workers", "1"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://{address}/health", timeout=5):
                    break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError("the server ended") from None
                time.sleep(0.2)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
