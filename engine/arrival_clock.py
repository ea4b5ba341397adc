"""The clock of an inbox: arrival times that never fall, whatever becomes of the system's clock."""

import time
from collections.abc import Callable

import structlog

from engine.event import MICROSECONDS
from engine.gap import PAUSE, Gap

STILL = 5 * MICROSECONDS
Reading = Callable[[], int]
log = structlog.get_logger()


def wall() -> int:
    """Return the system's time in microseconds since 1970."""
    return time.time_ns() // 1000


def monotonic() -> int:
    """Return microseconds since some moment, which no change of the system's time touches."""
    return time.monotonic_ns() // 1000


class ArrivalClock:
    """Follows the system's clock, but never falls; for one thread at a time. Times are microseconds.

    A jump forward is adopted and told as a gap, as is the time since `last` (0: there is none) at the start, and time
    in which nobody called `beat` for `STILL`. After a jump backward time passes at half speed until the system's clock
    has caught up. `gaps` are those that nobody has taken yet; each lies after all times that were given before.
    """

    def __init__(self, last: int, read_wall: Reading = wall, read_monotonic: Reading = monotonic) -> None:
        self._read_wall, self._read_monotonic = read_wall, read_monotonic
        self._wall, self._monotonic = read_wall(), read_monotonic()
        self._time = max(last, self._wall)
        self._slow: tuple[int, int] | None = (last, self._monotonic) if last > self._wall else None
        self._beat: tuple[int, int] | None = None
        self.gaps: list[Gap] = []
        if last and self._wall - last > PAUSE:
            self.gaps.append(Gap(last, self._wall))

    def take(self) -> list[Gap]:
        """Return the gaps since the last call, in order."""
        gaps, self.gaps = self.gaps, []
        return gaps

    def beat(self) -> int:
        """Return the time; tells that the process lives, at least once a second."""
        now = self.now()
        self._beat = (now, self._monotonic)
        return now

    def now(self, least: int = 0) -> int:
        """Return the time, which is `least` or later."""
        before, passed = self._time, self._read()
        smooth = max(self._wall_before + passed, self._floor())
        if self._wall - smooth > PAUSE:
            self._tell("the system's clock jumped forward", smooth)
        self._time = max(self._wall, self._floor())
        if self._wall >= self._time:
            self._slow = None
        elif self._slow is None:
            self._slow = (before, self._monotonic - passed)
            self._time = self._floor()
            if self._time - self._wall > PAUSE:
                self._tell("the system's clock fell; time passes at half speed until it has caught up", self._wall)
        self._find_gap(before, smooth)
        self._time = max(self._time, least)
        return self._time

    def _read(self) -> int:
        """Read both clocks; return how much time has passed."""
        self._wall_before, before = self._wall, self._monotonic
        self._wall, self._monotonic = self._read_wall(), self._read_monotonic()
        return self._monotonic - before

    def _floor(self) -> int:
        """Return below what the time cannot be now."""
        if self._slow is None:
            return self._time
        time, at = self._slow
        return max(self._time, time + (self._monotonic - at) // 2)

    def _find_gap(self, before: int, smooth: int) -> None:
        start = smooth
        if self._beat is not None and self._monotonic - self._beat[1] > STILL:
            start = max(before, self._beat[0])
            self._tell("the gateway stood still", start)
            self._beat = None
        if self._time - start > PAUSE:
            self.gaps.append(Gap(start, self._time))

    def _tell(self, what: str, since: int) -> None:
        log.warning(what, seconds=(max(self._wall, self._time) - since) / MICROSECONDS)
