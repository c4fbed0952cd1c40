"""A terminal for tests."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def on_a_terminal(code: str) -> str:
    """What a program writes to a terminal of 80 columns."""
    own, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", code], stdout=other, stderr=other) as process:
        os.close(other)
        said = b""
        while True:
            try:
                some = os.read(own, 4096)
            except OSError:  # closed by the other side
                break
            if not some:
                break
            said += some
    os.close(own)
    assert process.returncode == 0, said
    return said.decode()
