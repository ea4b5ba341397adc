"""How large an inbox may grow: what waits for the worker is bounded, and so is what it leaves of the disk."""

import os
from collections import deque
from pathlib import Path

import msgspec

GRAIN = 1 << 20
PARTS = 64


class Bounds(msgspec.Struct, frozen=True):
    """In bytes: how much may wait for the worker on disk, and how much of the disk must stay free."""

    backlog: int = 8 << 30
    free: int = 256 << 20


class Backlog:
    """How many bytes wait for the worker, to about a MiB; for one thread at a time."""

    def __init__(self) -> None:
        self._total, self._used = 0, 0
        self._steps: deque[tuple[int, int]] = deque()

    @property
    def size(self) -> int:
        """Return the bytes that wait."""
        return self._total - self._used

    def restore(self, used: int, head: int, size: int) -> None:
        """Begin with `size` bytes after the offset `used`, as if they lay evenly up to `head`."""
        self._total = size
        parts = min(PARTS, head - used)
        self._steps.extend((used + (head - used) * part // parts, size * part // parts) for part in range(1, parts + 1))

    def add(self, last: int, size: int) -> None:
        """Count a block that ends at the offset `last`."""
        self._total += size
        if len(self._steps) > 1 and self._total - self._steps[-2][1] < GRAIN:
            self._steps[-1] = (last, self._total)
        else:
            self._steps.append((last, self._total))

    def use(self, offset: int) -> None:
        """Take note that the worker is done up to this offset."""
        while self._steps and self._steps[0][0] <= offset:
            self._used = self._steps.popleft()[1]


class Room:
    """Says why an inbox takes no more; once it does not, it takes again when an eighth of the bound is free again."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self._folder, self._bounds = path.parent, bounds
        self._behind = self._filled = False

    def fill(self, backlog: int) -> float:
        """Return how near that bound is, 0 to 1."""
        return min(1.0, backlog / self._bounds.backlog)

    def refusal(self, backlog: int) -> str:
        """Return why nothing more is taken, or an empty text. Looks at the disk: not more than once a second."""
        most, least = self._bounds.backlog, self._bounds.free
        self._behind = backlog > (most - most // 8 if self._behind else most)
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        self._filled = free < (least + least // 8 if self._filled else least)
        if self._filled:
            return f"disk full: {free} bytes are free in {self._folder}, {least} must be"
        return f"inbox full: {backlog} bytes wait to be processed, at most {most} may" if self._behind else ""
