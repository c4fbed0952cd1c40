"""Servers for tests: a free port, patience until they answer, and an end of all that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 30
"""Seconds that a server has to end by itself."""


@dataclass(frozen=True)
class Server:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """What it has printed so far, to both outputs."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def page(self, address: str, seconds: float = 120) -> str:
        """What an address answers, once it does."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(OSError), urllib.request.urlopen(address, timeout=30) as answer:
                return str(answer.read().decode())
            assert self.process.poll() is None, f"the server ended, and said:\n{self.said()}"
            assert time.monotonic() < deadline, f"{address} does not answer; the server said:\n{self.said()}"
            time.sleep(0.2)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(*command: str, folder: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Server]:
    """A command in a session of its own, which is ended with all that belongs to it."""
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield Server(process, Path(log.name))
        finally:
            # Not SIGINT: it is ignored by what a shell runs in the background, as these tests may be.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
                    break
