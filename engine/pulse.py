"""Notice workers that are there and say nothing, as one that is stopped (SIGSTOP) does."""

import asyncio
from collections.abc import Mapping

from engine.supervisor import Process

TICK, SILENT_TICKS = 1.0, 15
STOPPED = "stopped answering"


class Pulse:
    """Counts, for each linked worker, the ticks since it was heard. Ticks are those of our own loop.

    So a gateway that was itself stopped, or a machine that was suspended, kills nothing when it goes on.
    """

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}

    def heard(self, flow: str) -> None:
        """Take note that a flow's worker has linked or said something."""
        self._silent[flow] = 0

    def gone(self, flow: str) -> None:
        """Take note that a flow's worker is not linked any more."""
        self._silent.pop(flow, None)

    def tick(self) -> list[str]:
        """Return the flows whose workers have just been silent for too long."""
        for flow in self._silent:
            self._silent[flow] += 1
        return [flow for flow, ticks in self._silent.items() if ticks == SILENT_TICKS]

    async def run(self, processes: Mapping[str, Process]) -> None:
        """Kill the workers that are silent for 15 seconds, until cancelled; their supervisors start them again."""
        while True:
            await asyncio.sleep(TICK)
            for flow in self.tick():
                if flow in processes:
                    processes[flow].kill(STOPPED)
