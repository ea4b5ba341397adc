"""A circuit breaker: after several failures in a row nobody is asked for a while; then one request is a probe."""

from engine.asking import Breaker


class Circuit:
    """Closed: everybody may ask. Open: nobody. Half open, when the time is over: one may, and decides."""

    def __init__(self, breaker: Breaker | None) -> None:
        self._breaker = breaker
        self._failures = 0
        self._until: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Tell whether it is open, or half open."""
        return self._until is not None

    def lets(self, now: float) -> bool:
        """Tell whether one may ask now (seconds of any clock); who is let has to tell how it went."""
        if self._until is None:
            return True
        if self._probing or now < self._until:
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        """Note an answer, also one that refuses: somebody is there."""
        self._failures, self._until, self._probing = 0, None, False

    def failed(self, now: float) -> None:
        """Note that nobody has answered."""
        self._failures += 1
        if self._breaker and (self._probing or self._failures >= self._breaker.failures):
            self._until, self._probing = now + self._breaker.for_ / 1e6, False
