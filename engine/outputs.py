"""Collect what an operator emits, in order."""

from typing import Any

from engine.dead import DeadLetter
from engine.event import Event

DEAD = "!"
COUNTS = "#"


class Outputs:
    """The `emit` of an operator. `runs` holds (output, events) in the order of emission; faults are under FAULT."""

    def __init__(self, node: str, wired: frozenset[str], fault_output: str) -> None:
        self.node = node
        self.wired = wired
        self.fault_to = next((name for name in (fault_output, "errors") if name in wired), "")
        self.runs: list[tuple[str, list[Any]]] = []
        self.copied = 0

    def __call__(self, event: Event, output: str = "") -> None:
        if self.runs and self.runs[-1][0] == output:
            self.runs[-1][1].append(event)
        else:
            self.runs.append((output, [event]))

    def fault(self, event: Event, reason: str, values: dict[str, Any] | None = None) -> None:
        """Send an event to the dead letters, and to the fault output where one is wired."""
        if self.fault_to:
            self(event.derive({**event.data, "reason": reason}), self.fault_to)
            self.copied += 1
        self.runs.append((DEAD, [DeadLetter(self.node, event, reason, values or {})]))

    def take(self) -> list[tuple[str, list[Any]]]:
        """Return what was collected and begin anew."""
        runs, self.runs = self.runs, []
        return runs
