"""`spc`: control charts."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, Field, model_validator

from engine.api import (
    Component,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    Stateful,
    Type,
    component,
    control_charts,
    derived_id,
    measured,
    moment,
    whole,
)

Rule = Literal["western1", "western2", "western3", "western4", "nelson3", "nelson4", "nelson7", "nelson8"]
SIZED = ("p", "np", "u")
TYPES = {"key": "text", "start": "time", "end": "time", "size": "number", "value": "float", "violated": "list"}


class Limits(BaseModel):
    """What the lines are drawn from where it is known."""

    model_config = Component.model_config

    center: float = Field(allow_inf_nan=False)
    """The process mean; of p and np the share of defectives (0..1), of u the defects of one unit, of c of a sample."""
    sigma: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The standard deviation of one value (variables only)."""


class Spec(BaseModel):
    """What a value must keep to."""

    model_config = Component.model_config

    lower: float | None = Field(None, allow_inf_nan=False)
    """The least value that is good."""
    upper: float | None = Field(None, allow_inf_nan=False)
    """The greatest value that is good."""

    @model_validator(mode="after")
    def _sensible(self) -> "Spec":
        if self.lower is None and self.upper is None:
            raise ValueError("lower, upper or both")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower: less than upper ({self.upper:g})")
        return self


class Chart(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: the open sample, the latest samples, what was learned, and the latest points."""

    first: bytes
    start: int
    values: list[float]
    samples: list[control_charts.Subgroup]
    points: list[float]
    standard: control_charts.Standard | None = None
    last: float | None = None


@component("spc")
class Spc(Stateful[Chart]):
    """Keep a control chart: one event for each sample, with its lines and the rules that it breaks.

    Variables: `xbar_r` (mean and range) and `xbar_s` (mean and standard deviation) of each `size` values, `i_mr` (each
    value, and its moving range). Attributes, one sample an event: `p` and `np` (share and number of defectives among
    `size` units), `c` (defects of a sample), `u` (defects a unit, of `size` units).

    The lines lie 3 standard deviations about the center. Sigma, that of one value, is R-bar / d2, s-bar / c4 or
    MR-bar / 1.128 (which is the same as A2, A3, D3, D4, B3, B4 and 2.66 of the tables); of p it is
    sqrt(p (1 - p) / n), of np sqrt(n p (1 - p)), of c sqrt(c), of u sqrt(u / n). What they are drawn from is given
    (`limits`), or learned from the first `baseline` samples, which have no lines yet, and then stays.

    An event has `key`, `start` and `end` (the times of the first and last value), `size`, `value` (what the chart
    plots), `center`, `lower`, `upper`; for variables `spread` (range, standard deviation or moving range) with
    `spread_center`, `spread_lower`, `spread_upper`; and `violated`, a list of rules: `western1` (beyond 3 sigma),
    `western2` (2 of 3 beyond 2 sigma on one side), `western3` (4 of 5 beyond 1 sigma on one side), `western4` (8 in a
    row on one side), `nelson3` (6 in a row rising or falling), `nelson4` (14 in a row alternating), `nelson7` (15 in a
    row within 1 sigma), `nelson8` (8 in a row beyond 1 sigma); always at the point that completes the pattern; and
    `spread` where the spread is beyond its lines.

    With `spec`, of the latest `baseline` samples: `cp` = (upper - lower) / 6 sigma and `cpk` = the distance of the mean
    from the nearer of them / 3 sigma; `pp` and `ppk` are the same with the standard deviation of all values.

    Sources: NIST/SEMATECH e-Handbook of Statistical Methods, 6.1.6, 6.3.2, 6.3.3; Montgomery, Introduction to
    Statistical Quality Control; Western Electric (1956); Nelson (1984).
    """

    of: Expression
    """The value, a number; of attributes the number of defectives or defects in the sample."""
    chart: Literal["xbar_r", "xbar_s", "i_mr", "p", "np", "c", "u"]
    """The kind of chart."""
    size: Expression | None = None
    """Of `xbar_r` and `xbar_s` how many values make a sample (2 to 25), of `p`, `np` and `u` how many units it has."""
    baseline: int = Field(25, ge=2, le=1000)
    """How many samples the limits are learned from, and how many the capability is of."""
    limits: Limits | None = None
    """What the lines are drawn from, instead of learning it: `{center: 10, sigma: 0.1}`, the process mean and the
    standard deviation of one value; of attributes `{center: 0.05}`, the share of defectives (`p`, `np`), the defects of
    a unit (`u`) or of a sample (`c`)."""
    rules: tuple[Rule, ...] = ("western1", "western2", "western3", "western4")
    """The rules that are looked at."""
    spec: Spec | None = None
    """What a value must keep to, for the capability (variables only): `{lower: 9.5, upper: 10.5}`, or one of them."""

    state_type = Chart
    state_free = frozenset({"rules", "spec"})
    makes = frozenset({""})
    examples = (
        Example(
            about="Mean and range of two values, with known limits.",
            config="spc: {of: mm, chart: xbar_r, size: 2, limits: {center: 10, sigma: 0.1}, "
            "spec: {lower: 9.5, upper: 10.5}}",
            given=[{"mm": 10.0}, {"mm": 10.2}, {"mm": 10.3}, {"mm": 10.4}],
            expect=[
                {"value": 10.1, "spread": 0.2, "center": 10.0, "violated": []},
                {"value": 10.35, "spread": 0.1, "violated": ["western1"]},
            ],
        ),
        Example(
            about="Defectives of a lot: the share of all lots up to the second, then a lot that is beyond its limit.",
            config="spc: {of: bad, chart: p, size: pieces, baseline: 2}",
            given=[{"bad": 9, "pieces": 100}, {"bad": 11, "pieces": 100}, {"bad": 10, "pieces": 25}],
            expect=[
                {"value": 0.09, "center": None, "violated": []},
                {"value": 0.11, "center": None},
                {"value": 0.4, "center": 0.1, "lower": 0.0, "upper": 0.28, "violated": ["western1"]},
            ],
        ),
    )

    @model_validator(mode="after")
    def _sensible(self) -> "Spc":
        for option, expected in (self._size_fault(), self._limits_fault()):
            if expected:
                raise ValueError(f"{option}: {expected}")
        if self.spec is not None and not self.variables:
            raise ValueError(f"spec: only for values that are measured, not for {self.chart}")
        return self

    def _size_fault(self) -> tuple[str, str]:
        text = "" if self.size is None else self.size.text
        if self.chart in control_charts.MEANS and not (text.isascii() and text.isdigit() and 2 <= int(text) <= 25):
            return "size", "a whole number of 2 to 25 for this chart"
        if self.chart in SIZED and not text:
            return "size", f"the number of units, which {self.chart} needs"
        return "size", f"not for {self.chart}" if text and self.chart in ("c", "i_mr") else ""

    def _limits_fault(self) -> tuple[str, str]:
        if self.limits is None:
            return "", ""
        center, sigma = self.limits.center, self.limits.sigma
        if self.variables != (sigma is not None):
            return "limits.sigma", "required for variables" if self.variables else f"not for {self.chart}"
        if not self.variables and (center <= 0 or (center >= 1 and self.chart in ("p", "np"))):
            return "limits.center", "above 0" + (" and below 1" if self.chart in ("p", "np") else "")
        return "", ""

    @property
    def variables(self) -> bool:
        """Tell if values are measured, not counted."""
        return self.chart in control_charts.VARIABLES

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields of a sample."""
        if output:
            return super().gives(given, output)
        names = ["center", "lower", "upper"]
        if self.variables:
            names += ["spread", "spread_center", "spread_lower", "spread_upper"]
        if self.spec is not None:
            names += ["cp", "cpk", "pp", "ppk"]
        found = {name: Type(kind) for name, kind in TYPES.items()}
        return found | {name: Type("float", null=True) for name in names}

    def on_event(self, state: Chart | None, event: Event, emit: Emit) -> Chart | None:
        """Take the value into its sample; a sample that is whole goes out."""
        value = measured("of", self.of, event)
        if value is None:
            return state
        units = None if self.variables else self._units(event, value)
        if state is None:
            state = Chart(event.id, event.time, [], [], [])
        if units is None:
            sample = self._measured(state, event, value)
        else:
            state.first, state.start, sample = event.id, event.time, control_charts.Subgroup(value, units)
        if sample is not None:
            self._plot(state, sample, event, emit)
        return state

    def _units(self, event: Event, value: float) -> float:
        """Return how many units an attribute's sample looked at."""
        units = 1.0 if self.size is None else measured("size", self.size, event)
        if units is None or units <= 0:
            raise EventFault("size: a number above 0", {"size": units})
        if value < 0 or (value > units and self.chart in ("p", "np")):
            raise EventFault(f"of: a number of 0 to {units:g}" if value > 0 else "of: at least 0", {"of": value})
        return units

    def _measured(self, state: Chart, event: Event, value: float) -> control_charts.Subgroup | None:
        """Return the sample that a measured value completes, or None."""
        if not state.values:
            state.first, state.start = event.id, event.time
        if self.chart == "i_mr":
            moved = None if state.last is None else abs(value - state.last)
            state.last = value
            return control_charts.Subgroup(value, 1, moved)
        state.values.append(value)
        if len(state.values) < int(str(self.size)):
            return None
        sample, state.values = control_charts.subgroup(self.chart, state.values), []
        return sample

    def _plot(self, state: Chart, sample: control_charts.Subgroup, event: Event, emit: Emit) -> None:
        """Let a sample out, then learn from it."""
        standard = state.standard
        if self.limits is not None:
            standard = control_charts.Standard(self.limits.center, self.limits.sigma or 0.0)
        data = {"key": event.key, "start": moment(state.start), "end": moment(event.time)}
        data |= self._judged(state, sample, standard)
        if standard is None or self.variables:
            state.samples = [*state.samples, sample][-self.baseline :]
        if standard is None and len(state.samples) == self.baseline:
            state.standard = control_charts.learned(self.chart, state.samples)
        if self.spec is not None:
            data |= control_charts.capability(self.chart, state.samples, self.spec.lower, self.spec.upper)
        made = derived_id(emit.node, event.key, state.first)
        emit(Event(made, event.time, event.key, "", "", data, None, event.arrival))

    def _judged(
        self, state: Chart, sample: control_charts.Subgroup, standard: control_charts.Standard | None
    ) -> dict[str, Any]:
        """Return what the sample is on its chart, and remember the point."""
        value = sample.mean / sample.size if self.chart in ("p", "u") else sample.mean
        found: dict[str, Any] = {"size": whole(float(sample.size)), "value": value, "violated": []}
        found |= dict.fromkeys(("center", "lower", "upper"))
        if self.variables:
            found |= {"spread": sample.spread} | dict.fromkeys(("spread_center", "spread_lower", "spread_upper"))
        if standard is None:
            return found
        drawn = control_charts.lines(self.chart, standard, sample.size)
        state.points = [*state.points, control_charts.score(value, drawn)][-control_charts.LONGEST :]
        found |= {"center": drawn.center, "lower": drawn.lower, "upper": drawn.upper}
        found["violated"] = control_charts.violated(self.rules, state.points)
        if self.variables:
            self._judge_spread(found, sample, standard)
        return found

    def _judge_spread(
        self, found: dict[str, Any], sample: control_charts.Subgroup, standard: control_charts.Standard
    ) -> None:
        drawn = control_charts.spread_lines(self.chart, standard, int(sample.size))
        found |= {"spread_center": drawn.center, "spread_lower": drawn.lower, "spread_upper": drawn.upper}
        if sample.spread is not None and control_charts.outside(sample.spread, drawn):
            found["violated"].append("spread")
