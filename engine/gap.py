"""The gap: a stretch of arrival time in which nothing could arrive: the gateway was down, or its clock jumped."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import NamedTuple

PAUSE = 1_000_000
"""What is longer than this many microseconds is a gap."""


class Gap(NamedTuple):
    """No event and no mark has a time between `start` and `end` (microseconds); gaps of an inbox do not overlap."""

    start: int
    end: int


def between(gaps: Sequence[Gap], now: int, time: int) -> list[Gap]:
    """Return what a clock crosses that goes from `now` to `time`, in order: the rest of each gap that ends there."""
    first = bisect_right(gaps, now, key=lambda gap: gap.end)
    ended = takewhile(lambda gap: gap.end <= time, islice(gaps, first, None))
    return [Gap(max(gap.start, now), gap.end) for gap in ended]
