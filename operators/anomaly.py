"""`anomaly`: values that are not as usual."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import fsum, isfinite, sqrt
from operator import mul
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from pydantic import Field, field_validator, model_validator

from engine.api import (
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
    zone_of,
)

THRESHOLDS = {"zscore": 3.0, "mad": 3.5, "iqr": 1.5, "ewma": 3.0}
MANY = 500
NORMAL = 0.6745  # the 75th percentile of the normal distribution: what the MAD is, in standard deviations
FIELDS = ("score", "expected", "lower", "upper")


class Baseline(msgspec.Struct, array_like=True, gc=False):
    """The values that one is compared with, with their times, and for `ewma` the mean and how many are in it."""

    times: list[int]
    values: list[float]
    mean: float | None = None
    count: int = 0


class Band(NamedTuple):
    """What is usual: the expected value, the bounds, and how far off the value is, in units of the usual spread."""

    expected: float
    lower: float
    upper: float
    score: float | None


@component("anomaly")
class Anomaly(Stateful[dict[str, Baseline]]):
    """Add whether a value is unlike the latest ones before it, how unlike, and between what it would be usual.

    - `zscore`: `expected` is the mean, `score` = (value - mean) / s with the sample standard deviation s, the bounds
      are mean ± threshold x s; threshold 3.
    - `mad`: robust: `expected` is the median, `score` = 0.6745 (value - median) / MAD with the median absolute
      deviation (Iglewicz and Hoaglin 1993; NIST/SEMATECH e-Handbook 1.3.5.17); threshold 3.5.
    - `iqr`: the bounds are Q1 - threshold x IQR and Q3 + threshold x IQR (Tukey's fences; e-Handbook 7.1.6), `expected`
      is the median, `score` is how many IQR the value lies outside the quartiles, 0 between them; quartiles by linear
      interpolation; threshold 1.5.
    - `ewma`: small lasting shifts: z = alpha x value + (1 - alpha) x z before, which begins at the mean, is judged
      instead of the value; `score` = (z - mean) / sz, sz = s sqrt(alpha / (2 - alpha) (1 - (1 - alpha)^2t)) at the
      t-th value after the warm-up (EWMA control chart; e-Handbook 6.3.2.4); threshold 3.

    `anomaly` is true where the value (of `ewma`: z) is outside `lower` .. `upper` (and more than `tolerance` from
    `expected`). Before `warm_up` values are known it is false and the others are none; `score` is none too where the
    usual values do not vary and this one differs. The value itself is compared first and learned then. With
    `where: anomaly` behind it, only the anomalies go on.
    """

    of: Expression
    """The value, a number."""
    method: Literal["zscore", "mad", "iqr", "ewma"] = "zscore"
    """How it is judged."""
    threshold: float | None = Field(None, gt=0, allow_inf_nan=False)
    """How far off a value must be, in the unit of the method's score (default: the method's)."""
    most: int = Field(100, ge=2, le=10_000)
    """How many values it is compared with, the latest."""
    within: Duration | None = Field(None, gt=0)
    """How long (arrival time) a value is compared with; by default, until `most` have followed."""
    warm_up: int = Field(20, ge=2, le=10_000)
    """How many values must be known before one is judged."""
    learn: Literal["always", "normal", "first"] = "always"
    """What is compared with: all values, only those that were no anomaly, or only the first `warm_up`."""
    season: Literal["none", "day", "week"] = "none"
    """Whether values are compared only with those of the same hour of the day, or of the week."""
    zone: str = "UTC"
    """The time zone of the hours, as `Europe/Berlin`."""
    alpha: float = Field(0.2, gt=0, le=1)
    """Of `ewma`: the weight of a new value."""
    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False)
    """How far from the expected value nothing is an anomaly, in the value's unit."""
    prefix: str = ""
    """What the names of the added fields begin with."""

    state_type = dict[str, Baseline]
    state_free = frozenset({"threshold", "most", "within", "learn", "tolerance", "prefix"})
    leftover, makes = "", frozenset[str]()
    examples = (
        Example(
            about="A value far from the mean of those before.",
            config="anomaly: {of: bar, warm_up: 4, learn: normal}",
            given=[{"bar": 4}, {"bar": 5}, {"bar": 4}, {"bar": 5}, {"bar": 9}, {"bar": 5}],
            expect=[
                {"anomaly": False, "score": None},
                {"anomaly": False},
                {"anomaly": False},
                {"anomaly": False},
                {"bar": 9, "anomaly": True, "expected": 4.5, "score": 7.794228634059948},
                {"bar": 5, "anomaly": False, "score": 0.8660254037844387},
            ],
        ),
        Example(
            about="The median is not moved by an outlier that came before.",
            config="anomaly: {of: ms, method: mad, warm_up: 5, prefix: ms_}",
            given=[{"ms": 20}, {"ms": 900}, {"ms": 22}, {"ms": 21}, {"ms": 23}, {"ms": 60}],
            expect=[{}, {}, {}, {}, {}, {"ms_expected": 22.0, "ms_score": 25.631, "ms_anomaly": True}],
        ),
    )

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        return zone_of(zone).key

    @model_validator(mode="after")
    def _sensible(self) -> "Anomaly":
        if self.warm_up > self.most:
            raise ValueError(f"warm_up: at most most ({self.most})")
        return self

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Add the judgement to what comes in."""
        if output or given is None:
            return super().gives(given, output)
        return {**given, **self._added()}

    def _added(self) -> dict[str, Type]:
        added = {f"{self.prefix}{name}": Type("float", null=True) for name in FIELDS}
        return added | {f"{self.prefix}anomaly": Type("boolean", null=True)}

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find an added field that would take the place of one that is looked at."""
        taken = sorted(self.of.fields & set(self._added()))
        if taken:
            message = f"a beginning by which the added fields differ from what is looked at; got '{taken[0]}' for both"
            yield Problem("option-value", "prefix", message, f"prefix: {taken[0]}_")

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of many values that every event is compared with."""
        if self.most > MANY:
            costs = "each event is compared with all of them: with 1,000, 6 to 10 times the time of 100"
            yield Slow("most", costs, "most: 500, and a window before it that gives one value a minute")

    def on_event(self, state: dict[str, Baseline] | None, event: Event, emit: Emit) -> dict[str, Baseline] | None:
        """Judge the value, then learn it."""
        value = measured("of", self.of, event)
        if value is None:
            emit(event)
            return state
        state = {} if state is None else state
        baseline = state.setdefault(self._hour(event), Baseline([], []))
        self._forget(baseline, event.arrival)
        band = self._band(baseline, value)
        judged = baseline.mean if self.method == "ewma" and baseline.mean is not None else value
        odd = band is not None and not band.lower <= judged <= band.upper
        if self.learn == "always" or not (odd if self.learn == "normal" else band is not None):
            baseline.times.append(event.arrival)
            baseline.values.append(value)
        emit(event.derive({**event.data, **self._fields(band, odd)}))
        return state

    def _fields(self, band: Band | None, odd: bool) -> dict[str, float | bool | None]:
        added: dict[str, float | bool | None] = {f"{self.prefix}{name}": getattr(band, name, None) for name in FIELDS}
        added[f"{self.prefix}anomaly"] = odd
        return added

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone_of(self.zone)

    def _hour(self, event: Event) -> str:
        """Return the name of the hour whose values are compared."""
        if self.season == "none":
            return ""
        return moment(event.time).astimezone(self._zone).strftime("%H" if self.season == "day" else "%w %H")

    def _forget(self, baseline: Baseline, now: int) -> None:
        if self.learn == "first":
            return
        first = 0 if self.within is None else bisect_right(baseline.times, now - self.within)
        first = max(first, len(baseline.times) - self.most)
        del baseline.times[:first], baseline.values[:first]

    def _band(self, baseline: Baseline, value: float) -> Band | None:
        """Return what is usual, or None before enough is known."""
        if len(baseline.values) < self.warm_up:
            return None
        threshold = self.threshold or THRESHOLDS[self.method]
        if self.method == "iqr":
            band = by_quartiles(baseline.values, value, threshold)
        elif self.method == "mad":
            band = by_median(baseline.values, value, threshold)
        elif self.method == "zscore":
            band = by_mean(baseline.values, value, threshold)
        else:
            band = self._by_ewma(baseline, value, threshold)
        expected = band.expected
        lower, upper = min(band.lower, expected - self.tolerance), max(band.upper, expected + self.tolerance)
        return Band(expected, lower, upper, band.score)

    def _by_ewma(self, baseline: Baseline, value: float, threshold: float) -> Band:
        """Move the weighted mean on, and judge it."""
        alpha, mean = self.alpha, fsum(baseline.values) / len(baseline.values)
        before = mean if baseline.mean is None else baseline.mean
        baseline.count += 1
        baseline.mean = alpha * value + (1 - alpha) * before
        share = alpha / (2 - alpha) * (1 - (1 - alpha) ** (2 * baseline.count))
        return by_mean(baseline.values, baseline.mean, threshold, sqrt(share))


def by_mean(values: Sequence[float], value: float, threshold: float, share: float = 1.0) -> Band:
    """Judge by mean and sample standard deviation, of which `share` is taken."""
    mean = fsum(values) / len(values)
    away = [one - mean for one in values]
    spread = share * sqrt(sum(map(mul, away, away)) / (len(values) - 1))
    return Band(mean, mean - threshold * spread, mean + threshold * spread, _score(value - mean, spread))


def by_median(values: Sequence[float], value: float, threshold: float) -> Band:
    """Judge by median and median absolute deviation."""
    middle = percentile(sorted(values), 0.5)
    spread = percentile(sorted([abs(one - middle) for one in values]), 0.5) / NORMAL
    return Band(middle, middle - threshold * spread, middle + threshold * spread, _score(value - middle, spread))


def by_quartiles(values: Sequence[float], value: float, threshold: float) -> Band:
    """Judge by the quartiles and the range between them."""
    ranked = sorted(values)
    low, middle, high = (percentile(ranked, share) for share in (0.25, 0.5, 0.75))
    beyond = value - high if value > high else min(0.0, value - low)
    return Band(middle, low - threshold * (high - low), high + threshold * (high - low), _score(beyond, high - low))


def percentile(ranked: Sequence[float], share: float) -> float:
    """Return a percentile of sorted values, between two of them in proportion."""
    at, rest = divmod((len(ranked) - 1) * share, 1)
    low = ranked[int(at)]
    return low + rest * (ranked[int(at) + 1] - low) if rest else low


def _score(away: float, spread: float) -> float | None:
    if not spread:
        return None if away else 0.0
    return found if isfinite(found := away / spread) else None
