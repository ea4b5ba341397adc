"""A full disk: how it is recognised behind what libraries raise, and what is said of it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import DiskFull

LITTLE, TO_START = 64 << 10, 4 << 20  # bytes
_SAID = ("disk is full", "No space left on device", "Disk quota exceeded")
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)


def blames_disk(fault: BaseException | None) -> bool:
    """Tell whether an exception, or one that it came from, was raised because a disk is full."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in _NUMBERS:
            return True
        if any(said in str(fault) for said in _SAID):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def is_full(folder: Path, least: int = LITTLE) -> bool:
    """Tell whether the disk of a folder has less than so many bytes left; a folder that is not there has room."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < least or (disk.f_files > 0 and disk.f_favail == 0)


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Raise DiskFull when the disk of a folder has no room to begin, or whenever something inside fails by it."""
    text = f"the disk of {folder} is full; this goes on when there is room"
    if is_full(folder, TO_START):
        raise DiskFull(text)
    try:
        yield
    except Exception as fault:
        if blames_disk(fault):
            raise DiskFull(text) from fault
        if is_full(folder):
            raise DiskFull(f"{text} ({fault})") from fault
        raise
