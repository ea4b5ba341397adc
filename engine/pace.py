"""Hold senders to a rate: a bucket of tokens each, that fills by `rate` a second and holds those of one second."""

from collections import OrderedDict
from collections.abc import Callable

MOST_SENDERS = 10_000


class Pace:
    """The rate of one sender; at first as many come at once as in a second."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._tokens, self._at = max(1.0, rate), now

    def take(self, rate: float, now: float, *, owing: bool = False) -> float:
        """Take one token; return 0, or in how many seconds there will be one.

        Then none is taken, unless `owing`: who waits for that long keeps to the rate.
        """
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._at) * rate)
        self._at = now
        wait = max(0.0, (1.0 - self._tokens) / rate)
        if owing or not wait:
            self._tokens -= 1.0
        return wait


class Senders:
    """The rates of many senders by name; of more than 10,000 those that were silent longest are forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    def take(self, sender: str, rate: float) -> float:
        """Take one token of a sender; return 0, or in how many seconds there will be one."""
        now, pace = self._clock(), self._paces.get(sender)
        if pace is None:
            pace = self._paces[sender] = Pace(rate, now)
            if len(self._paces) > MOST_SENDERS:
                self._paces.popitem(last=False)
        self._paces.move_to_end(sender)
        return pace.take(rate, now)
