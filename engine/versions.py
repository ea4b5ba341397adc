"""Every version of a flow that was ever deployed: who, when, what it changed, and what became of it."""

import difflib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from engine.deploy_plan import NodeChange
from engine.errors import UsageFault

Outcome = Literal["started", "deployed", "failed"]


class Version(msgspec.Struct, kw_only=True):
    """One version: `number` counts from 1, `digest` is the beginning of its text's hash, `time` a Unix time.

    `outcome` is `started` until its worker has run for a moment; a failed one has a `reason`. `rolled_back_to` is the
    number of the version whose text it took again.
    """

    number: int
    digest: str
    author: str
    time: float
    source: str
    text: str
    overrides: dict[str, str] = {}
    nodes: list[NodeChange] = []
    sections: list[str] = []
    tables: list[str] = []
    diff: str = ""
    outcome: Outcome = "started"
    reason: str = ""
    rolled_back_to: int = 0


class Versions:
    """The versions of one flow, a file each in `versions/` of its folder."""

    def __init__(self, flow_folder: Path) -> None:
        self._folder = flow_folder / "versions"

    def all(self) -> list[Version]:
        """Return all versions, oldest first."""
        return list(self._read())

    def _read(self) -> Iterator[Version]:
        for path in sorted(self._folder.glob("*.json")):
            yield msgspec.json.decode(path.read_bytes(), type=Version)

    def get(self, number: int) -> Version:
        """Return one version; raises UsageFault when there is none of this number."""
        path = self._path(number)
        if not path.exists():
            known = [version.number for version in self._read()]
            shown = f"1 to {known[-1]}" if known else "none yet"
            raise UsageFault(f"a version of this flow ({shown}); got {number}")
        return msgspec.json.decode(path.read_bytes(), type=Version)

    def next_number(self) -> int:
        """Return the number of the next version."""
        return max((int(path.stem) for path in self._folder.glob("*.json")), default=0) + 1

    def write(self, version: Version) -> None:
        """Store a version, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(version.number)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(version)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def settle(self, current: int) -> None:
        """Say what became of deploys that were cut off: the one whose record counts was made, others were not."""
        for version in self._read():
            if version.outcome == "started":
                made = version.number == current
                version.outcome, version.reason = ("deployed", "") if made else ("failed", "cut off: the gateway ended")
                self.write(version)

    def before(self, current: int) -> Version:
        """Return the last version before `current` that was deployed; raises UsageFault when there is none."""
        found = [version for version in self._read() if version.number < current and version.outcome == "deployed"]
        if not found:
            raise UsageFault("a version before this one to go back to; there is none")
        return found[-1]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.json"


def difference(old: str, new: str) -> str:
    """Return the unified diff of two texts."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "deployed", "new", lineterm="", n=2)
    return "\n".join(lines)


def now() -> float:
    """Return the time that a version is marked with."""
    return time.time()
