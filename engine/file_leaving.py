"""Files that have been read and are to go: moved or deleted, once it is durable that they have been read."""

import os
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

from engine.file_watch import Found, found

SURE = 2
"""How many durable snapshots must have a file as read."""


class Leaving:
    """Takes files away: into a folder, or where there is none for good."""

    def __init__(self, into: Path | None) -> None:
        self._into = into
        self._files: dict[Found, int] = {}

    def see(self, files: Iterable[Found]) -> None:
        """Take note of all files that have been read and are as they were then."""
        self._files = {file: self._files.get(file, 0) for file in files}

    def durable(self) -> list[Found]:
        """Take note that a snapshot is durable; return the files that are gone now. Raises OSError."""
        self._files = {file: times + 1 for file, times in self._files.items()}
        ready = [file for file, times in self._files.items() if times >= SURE]
        for file in ready:
            del self._files[file]
        return [file for file in ready if _take_away(file, self._into)]


def _take_away(file: Found, into: Path | None) -> bool:
    """Delete a file that is as it was found, or move it into a folder; tell whether. Raises OSError."""
    if found(file.path) != file:
        return False
    if into is None:
        os.unlink(file.path)
        return True
    into.mkdir(parents=True, exist_ok=True)
    path = Path(file.path)
    names = chain([path.name], (f"{path.stem}-{number}{path.suffix}" for number in count(2)))
    target = next(into / name for name in names if not (into / name).exists())
    os.rename(file.path, target)
    return True
