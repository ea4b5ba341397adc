"""The gateway as its worker sees it: the other end of stdin, which closes with the gateway, however that ends.

A worker that is started ahead is told there what it is to load, says that it has, and waits until it may go.
"""

import os
import signal
import threading
from queue import SimpleQueue

LOADED, GO = b"loaded", b"go"


class Parent:
    """Listens on a thread of its own; when the gateway ends, this process gets a SIGTERM."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    def line(self) -> bytes:
        """Wait for the next line from the gateway and return it."""
        return self._lines.get()

    def tell(self, line: bytes) -> None:
        """Send the gateway a line; one that has ended needs none."""
        try:
            os.write(0, line + b"\n")
        except OSError:
            return

    def _listen(self) -> None:
        left = b""
        while received := _received():
            *lines, left = (left + received).split(b"\n")
            for line in lines:
                self._lines.put(line)
        os.kill(os.getpid(), signal.SIGTERM)


def _received() -> bytes:
    try:
        return os.read(0, 1 << 16)
    except ConnectionError:  # it has ended with something unread
        return b""
