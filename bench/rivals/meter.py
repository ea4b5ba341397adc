"""What a contestant costs: CPU time and memory of all its processes."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import msgspec
import psutil

EVERY = 0.25
MIB = 1 << 20


class Cost(msgspec.Struct):
    """CPU seconds (user and system) and the highest memory in MiB; shared pages are shared out."""

    cpu: float
    peak: float


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants that live."""
    found = 0.0
    for process in family(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found += times.user + times.system
    return found


def memory(pid: int) -> float:
    """Return the memory of a process and its descendants in MiB."""
    found = 0
    for process in family(pid):
        with contextlib.suppress(psutil.Error):
            found += process.memory_full_info().pss
    return found / MIB


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """Hold a process and its descendants (SIGSTOP) meanwhile."""
    held = family(pid)
    for process in held:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in held:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


class Meter:
    """Measures from entering to leaving; `cost` holds it then."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.cost = Cost(0.0, 0.0)

    def __enter__(self) -> "Meter":
        self._before = cpu_seconds(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.cost.cpu = cpu_seconds(self._pid) - self._before

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.cost.peak = max(self.cost.peak, memory(self._pid))
            time.sleep(EVERY)
