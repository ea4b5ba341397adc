"""`trend`: where a value is heading."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from math import fsum, isfinite
from operator import mul
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import Field, model_validator

from engine.api import (
    MICROSECONDS,
    Duration,
    Emit,
    Event,
    Example,
    Expression,
    Flow,
    Node,
    Problem,
    Slow,
    Stateful,
    Type,
    component,
    measured,
    moment,
)

SECONDS = {"second": 1, "minute": 60, "hour": 3600}
FARTHEST = 100 * 365 * 86_400  # seconds: beyond that nothing is predicted
MANY = 500
FADED = 64  # half-lives after which a value weighs less than a float can tell


class Seen(msgspec.Struct, array_like=True, gc=False):
    """The values of one key with their times, in the order of time, and its weighted mean."""

    times: list[int]
    values: list[float]
    arrived: int
    weighted: float = 0.0
    weight: float = 0.0
    latest: int = 0


class Line(NamedTuple):
    """A fitted line: its slope a second, its value at the latest time, and how much of the variance it explains."""

    slope: float
    now: float
    fit: float | None


@component("trend")
class Trend(Stateful[Seen]):
    """Add how fast a value rises or falls, its weighted mean, and when it will reach a limit.

    `slope` is that of the least-squares line through the values of the last `within`, at most the latest `most` of
    them: sum((t - mean t)(v - mean v)) / sum((t - mean t)^2), with `fit`, the share of the variance which the line
    explains (r squared, 0..1; none where the values do not vary). Both are none until two values have different times.

    `ewma` comes with `half_life`, the mean of all values, each weighted with 0.5^(age / half_life), or with `alpha`:
    alpha x value + (1 - alpha) x the mean before (NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.4 and 6.4.3).

    `limit_in` (seconds) and `limit_at` come with `limit`: when the line reaches it; none where it does not run towards
    it, has passed it, or takes more than 100 years.

    By event time, values may come in any order; one that is older than `within` is not looked at.
    """

    of: Expression
    """The value, a number."""
    within: Duration | None = Field(None, gt=0)
    """How long a value is looked at; by default, until `most` have followed."""
    most: int = Field(100, ge=2, le=10_000)
    """How many values are looked at, the latest."""
    by: Literal["arrival", "event"] = "arrival"
    """Which time counts: of arrival, or the event's own."""
    per: Literal["second", "minute", "hour"] = "minute"
    """The time that the slope is for."""
    half_life: Duration | None = Field(None, gt=0)
    """The age at which a value has half the weight of a new one."""
    alpha: float | None = Field(None, gt=0, le=1)
    """The weight of a new value, 0..1, whatever the time between them."""
    limit: Expression | None = None
    """The value whose time is predicted, a number."""
    prefix: str = ""
    """What the names of the added fields begin with."""

    state_type = Seen
    state_free = frozenset({"within", "most", "per", "limit", "prefix"})
    leftover, makes = "", frozenset[str]()
    examples = (
        Example(
            about="How fast a bearing gets warmer, and when it will have 80 degrees.",
            config="trend: {of: celsius, within: 10m, limit: 80}",
            given=[
                {"at": "0s", "celsius": 60},
                {"at": "1m", "celsius": 61},
                {"at": "2m", "celsius": 62},
                {"at": "3m", "state": "on"},
            ],
            expect=[
                {"celsius": 60, "slope": None, "limit_in": None},
                {"celsius": 61, "slope": 1.0, "fit": 1.0, "limit_in": 1140.0},
                {"celsius": 62, "slope": 1.0, "limit_in": 1080.0, "limit_at": "2023-11-14T22:33:20Z"},
                {"state": "on"},
            ],
        ),
        Example(
            about="A mean in which a value counts half after ten seconds.",
            config="trend: {of: bar, half_life: 10s, per: second, prefix: bar_}",
            given=[{"at": "0s", "bar": 4}, {"at": "10s", "bar": 1}],
            expect=[{"bar_ewma": 4.0}, {"bar_ewma": 2.0, "bar_slope": -0.3}],
        ),
    )

    @model_validator(mode="after")
    def _one_mean(self) -> "Trend":
        if self.half_life is not None and self.alpha is not None:
            raise ValueError("alpha: either half_life or alpha")
        return self

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Add the figures to what comes in."""
        if output or given is None:
            return super().gives(given, output)
        return {**given, **self._added()}

    def _added(self) -> dict[str, Type]:
        added = {"slope": Type("float", null=True), "fit": Type("float", null=True)}
        if self.half_life or self.alpha:
            added["ewma"] = Type("float", null=True)
        if self.limit is not None:
            added |= {"limit_in": Type("float", null=True), "limit_at": Type("time", null=True)}
        return {f"{self.prefix}{name}": type_ for name, type_ in added.items()}

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find an added field that would take the place of one that is looked at."""
        taken = sorted(self.of.fields & set(self._added()))
        if taken:
            message = f"a beginning by which the added fields differ from what is looked at; got '{taken[0]}' for both"
            yield Problem("option-value", "prefix", message, f"prefix: {taken[0]}_")

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of many values that every event looks at."""
        if self.most > MANY:
            costs = "each event looks at all of them: with 1,000, 8 times the time of 100"
            yield Slow("most", costs, "most: 500, and a window before it that gives one value a minute")

    def on_event(self, state: Seen | None, event: Event, emit: Emit) -> Seen | None:
        """Take the value in and add what is known now."""
        value = measured("of", self.of, event)
        if value is None:
            emit(event)
            return state
        limit = None if self.limit is None else measured("limit", self.limit, event)
        time = event.arrival if self.by == "arrival" else event.time
        if state is None:
            state = Seen([], [], event.arrival, latest=time)
        self._take(state, time, value, event.arrival)
        emit(event.derive({**event.data, **self._figures(state, limit)}))
        return state

    def _take(self, state: Seen, time: int, value: float, arrival: int) -> None:
        at = bisect_right(state.times, time)
        state.times.insert(at, time)
        state.values.insert(at, value)
        state.arrived = max(state.arrived, arrival)
        self._weigh(state, time, value)
        state.latest = max(state.latest, time)
        first = 0 if self.within is None else bisect_right(state.times, state.latest - self.within)
        first = max(first, len(state.times) - self.most)
        del state.times[:first], state.values[:first]

    def _weigh(self, state: Seen, time: int, value: float) -> None:
        """Keep the sum of the weighted values and that of the weights, both as of the latest time."""
        if self.alpha is not None:
            old = 1 - self.alpha if state.weight else 0.0
            state.weighted, state.weight = (1 - old) * value + old * state.weighted, 1.0
        elif self.half_life is not None:
            old = 0.5 ** (max(0, time - state.latest) / self.half_life)
            new = 0.5 ** (max(0, state.latest - time) / self.half_life)
            state.weighted, state.weight = old * state.weighted + new * value, old * state.weight + new

    def _figures(self, state: Seen, limit: float | None) -> dict[str, Any]:
        line = fitted(state.times, state.values, state.latest)
        found: dict[str, Any] = {"slope": line and line.slope * SECONDS[self.per], "fit": line and line.fit}
        if self.half_life or self.alpha:
            found["ewma"] = state.weighted / state.weight
        if self.limit is not None:
            left = remaining(line, limit)
            found["limit_in"] = left
            found["limit_at"] = None if left is None else moment(state.latest + round(left * MICROSECONDS))
        return {f"{self.prefix}{name}": figure for name, figure in found.items()}

    def due(self, state: Seen) -> int | None:
        """Return when nothing of the key is looked at any more."""
        if self.within is None or self.alpha is not None or self.by == "event":
            return None
        return state.arrived + max(self.within, FADED * (self.half_life or 0))

    def on_time(self, state: Seen, key: str, now: int, emit: Emit) -> Seen | None:
        """Forget the key."""
        return None


def fitted(times: list[int], values: list[float], latest: int) -> Line | None:
    """Return the least-squares line, or None where all times are the same."""
    seconds = [(time - latest) / MICROSECONDS for time in times]
    count = len(seconds)
    if count < 2 or times[0] == times[-1]:
        return None
    middle, mean = fsum(seconds) / count, fsum(values) / count
    ts, vs = [t - middle for t in seconds], [v - mean for v in values]
    square, varied = sum(map(mul, ts, ts)), sum(map(mul, vs, vs))
    slope = sum(map(mul, ts, vs)) / square
    return Line(slope, mean - slope * middle, min(1.0, slope * slope * square / varied) if varied else None)


def remaining(line: Line | None, limit: float | None) -> float | None:
    """Return the seconds until the line reaches a limit, or None where it does not."""
    if line is None or limit is None or not line.slope:
        return None
    left = (limit - line.now) / line.slope
    return left if isfinite(left) and 0 <= left <= FARTHEST else None
