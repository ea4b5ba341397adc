"""What is remembered of an alert: how long conditions have held, what people were told, and what they have done."""

from datetime import datetime
from typing import Any

import msgspec

from engine.event import moment

Judged = tuple[bool | None, bool | None]
"""Whether a condition holds, and whether its end does; None: the reading says nothing of it."""


class Hold(msgspec.Struct, array_like=True):
    """How long a condition has held: `since` when (0: it does not), timed from `base` on.

    `raised` when that was long enough; `fading` is since when its end holds then (0: it does not). `lost` is for how
    long nothing could come, which does not count until a reading after it confirms the hold. `wait` is how long it must
    hold where that varies (-1: not known).
    """

    since: int = 0
    base: int = 0
    raised: bool = False
    fading: int = 0
    lost: int = 0
    wait: int = -1


class Act(msgspec.Struct, array_like=True):
    """What somebody does at a time: acknowledge, clear, mute (for `length` microseconds); `alert` "": of any alert."""

    at: int
    do: str
    by: str = ""
    alert: str = ""
    length: int = 0


class Watch(msgspec.Struct, array_like=True):
    """What is known of one key; all times are microseconds of arrival time, 0: none.

    `level` is that of the alert that is open ("": none is). `start` tells one alert from another, `since` is when its
    condition began, `fired` the last time that one fired, `reminded` when people were last told of it.
    """

    holds: dict[str, Hold]
    level: str = ""
    start: int = 0
    since: int = 0
    fired: int = 0
    reminded: int = 0
    acknowledged: int = 0
    by: str = ""
    muted: int = 0
    heard: int = 0
    episode: int = 0
    number: int = 0
    count: int = 0
    latched: bool = False
    """It was cleared by hand: the next one may begin when the condition has ended once."""
    reading: dict[str, Any] = {}
    message: str = ""
    acts: list[Act] = []
    """What people have done and time has not come to yet."""

    @property
    def is_held(self) -> bool:
        """Tell whether a condition holds."""
        return any([hold.since for hold in self.holds.values()])  # noqa: C419 - a list is faster here

    @property
    def name(self) -> str:
        """Return what tells this alert from all others of its key."""
        return f"{self.start}.{self.episode}"

    def told(self, change: str, now: int) -> dict[str, Any]:
        """Return what is told of a change."""
        cleared = change == "cleared"
        return {
            "change": change,
            "state": "cleared" if cleared else "acknowledged" if self.acknowledged else "firing",
            "severity": self.level, "since": moment(self.since), "fired_at": moment(self.start), "at": moment(now),
            "cleared_at": moment(now) if cleared else None, "acknowledged_at": _moment(self.acknowledged),
            "acknowledged_by": self.by or None, "muted_until": _moment(self.muted), "episode": self.episode,
            "number": self.number, "count": self.count, "reading": self.reading, "message": self.message or None,
        }  # fmt: skip


def _moment(time: int) -> datetime | None:
    return moment(time) if time else None
