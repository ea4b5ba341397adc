"""Who looks at which wire of which flow: workers are told what to tap, and what they see goes to every viewer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

import msgspec

from engine.errors import UsageFault
from engine.flow import Flow
from engine.frames import Tapped
from engine.refusal import busy
from engine.tap import resolved

MOST_VIEWERS = 64
MOST_WAITING = 1_000
HEARTBEAT = 15.0


class Viewer:
    """One who looks at a wire. What cannot be taken in time is counted and told."""

    def __init__(self, flow: str, asked: str) -> None:
        self.flow, self.asked, self.wire = flow, asked, ""
        self._lines: deque[bytes] = deque()
        self._skipped, self._ended = 0, ""
        self._ready = asyncio.Event()

    def put(self, lines: list[bytes], skipped: int) -> None:
        """Add lines, and tell how many were left out."""
        room = MOST_WAITING - len(self._lines)
        self._lines += lines[:room]
        self._skipped += skipped + len(lines[room:])
        self._ready.set()

    def end(self, reason: str) -> None:
        """Let it end after what waits, with a reason."""
        self._ended = reason
        self._ready.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield what passes the wire, as JSON lines: events, `{"skipped": n}`, and at the end `{"end": reason}`.

        An empty line comes at once, and where nothing passes for a while.
        """
        yield b"\n"
        while not self._ended or self._lines:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._ready.wait()
            self._ready.clear()
            yield self._taken() or b"\n"
        yield msgspec.json.encode({"end": self._ended}) + b"\n"

    def _taken(self) -> bytes:
        found = b"".join(self._lines)
        if self._skipped:
            found += msgspec.json.encode({"skipped": self._skipped}) + b"\n"
        self._lines.clear()
        self._skipped = 0
        return found


class TapHub:
    """All viewers; `tell(flow, wires)` tells a flow's worker what to tap, `flows` are those that are deployed."""

    def __init__(self, flows: Mapping[str, Flow], tell: Callable[[str, list[str]], None]) -> None:
        self._flows, self._tell = flows, tell
        self._viewers: list[Viewer] = []
        self._told: dict[str, list[str]] = {}

    def open(self, flow: str, wire: str) -> Viewer:
        """Begin to look; raises UsageFault for a wire that the flow does not have, Refusal when too many look."""
        if len(self._viewers) >= MOST_VIEWERS:
            raise busy(f"{MOST_VIEWERS} taps are open, which is the most", 5)
        resolved(self._flows[flow], wire)
        viewer = Viewer(flow, wire)
        self._viewers.append(viewer)
        self.linked(flow)
        return viewer

    def close(self, viewer: Viewer) -> None:
        """Look no longer; the last one of a wire turns its tap off."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self.linked(viewer.flow)

    def linked(self, flow: str) -> None:
        """Tell the worker of a flow what is looked at; it may be a new one, and of another version of the flow."""
        viewers = [viewer for viewer in self._viewers if viewer.flow == flow]
        for viewer in viewers:
            try:
                viewer.wire = resolved(self._flows[flow], viewer.asked)
            except UsageFault as fault:
                viewer.wire = ""
                viewer.end(str(fault))
        wires = sorted({viewer.wire for viewer in viewers} - {""})
        if wires or self._told.get(flow):
            self._told[flow] = wires
            self._tell(flow, wires)

    def gone(self, flow: str) -> None:
        """End what looks at a flow that is not deployed any more."""
        for viewer in self._viewers:
            if viewer.flow == flow:
                viewer.end(f"'{flow}' is not deployed any more")

    def take(self, flow: str, tapped: Tapped) -> None:
        """Bring what a worker saw to those who look."""
        for viewer in self._viewers:
            lines = [line for wire, line in tapped.lines if wire == viewer.wire] if viewer.flow == flow else []
            skipped = tapped.skipped.get(viewer.wire, 0) if viewer.flow == flow else 0
            if lines or skipped:
                viewer.put(lines, skipped)
