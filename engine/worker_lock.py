"""The lock by which a flow has one worker, and what becomes of a stopped process that holds it."""

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

from engine.errors import EnvironmentFault
from engine.settings import lock

PATIENCE, LOOK = 15.0, 0.5
log = structlog.get_logger()


def worker_lock(folder: Path) -> int:
    """Return a descriptor that holds the lock of a flow's folder until it is closed; the file names our pid.

    A worker ends with its gateway, but one that is stopped (SIGSTOP) cannot: such an orphan is killed. Raises
    EnvironmentFault when another worker has held the lock for 15 seconds.
    """
    path, end = folder / "worker.lock", time.monotonic() + PATIENCE
    while True:
        holder = _holder(path)
        named = f" (pid {holder.pid})" if holder else ""
        try:
            held = lock(path, f"{folder}: another worker of this flow is still running{named}", LOOK)
        except EnvironmentFault:
            if time.monotonic() > end:
                raise
            if holder is not None:
                _kill_stopped(holder)
        else:
            with suppress(OSError):  # on a full disk: then nobody knows who we are
                os.ftruncate(held, 0)
                os.pwrite(held, str(os.getpid()).encode(), 0)
            return held


def _holder(path: Path) -> psutil.Process | None:
    """Return the process that the file names, if it is alive and has the file open."""
    try:
        process = psutil.Process(int(path.read_text()))
        return process if str(path.resolve()) in [file.path for file in process.open_files()] else None
    except (OSError, ValueError, psutil.Error):
        return None


def _kill_stopped(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        if process.status() == psutil.STATUS_STOPPED:
            log.warning("a stopped worker of a gateway that is gone is killed", pid=process.pid)
            process.kill()
