"""What is known of a lane: what it has done, and what it is writing."""

from typing import Any

import msgspec


class LaneState(msgspec.Struct):
    """What a lane has done: events written, how often its target was away, whether it is now, events on the disk.

    `fault` is what a sink shows of a target that it does not wait for, `counts` what else it tells of its work.
    """

    written: int = 0
    retries: int = 0
    away: str = ""
    spilled: int = 0
    fault: str = ""
    counts: dict[str, int] = {}


class Hand(msgspec.Struct):
    """What is being written; `row` is the last of its batches in the spill, 0 while it is in memory only."""

    events: list[Any]
    row: int = 0
