"""What waits in a flow's inbox, also while no worker tells of it."""

import time
from contextlib import closing
from pathlib import Path

from engine.errors import EnvironmentFault
from engine.event import MICROSECONDS
from engine.inbox import InboxReader


class Ages:
    """Since when the record after an offset has waited; each is looked up in the inbox's file once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int]] = {}

    def age(self, inbox: Path, offset: int) -> float:
        """Return the age in seconds of the record after an offset; 0 where the file does not tell."""
        known = self._known.get(inbox)
        if known is None or known[0] != offset or not known[1]:
            known = self._known[inbox] = (offset, _arrival(inbox, offset))
        return max(0.0, time.time() - known[1] / MICROSECONDS) if known[1] else 0.0


def _arrival(inbox: Path, offset: int) -> int:
    try:
        with closing(InboxReader(inbox)) as reader:
            blocks = reader.read(offset, 1)
    except EnvironmentFault:  # the worker, which cannot read it either, says so
        return 0
    return blocks[0].time if blocks else 0
