"""What operators over time do, plotted: a series that a function makes, what comes out of it, and how both are drawn.

A kind without an entry has no plot; nothing else depends on this table.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from cli.plot import Plot
from cli.plot_series import Given, bearing, heat, levels_of_a_tank, loads, parts, pressures, sessions, waves
from cli.svg import BLUE, GREEN, ORANGE, RED, SOFT
from engine.component import Component, Example
from engine.event import MICROSECONDS
from engine.examples import flow_of, run_example
from engine.testing import START, plain

PALE, ROSE, SAND = "#eef3f9", "#fbe3e3", "#fdf1d6"
Series = list[tuple[float, dict[str, Any]]]


class Seen(msgspec.Struct):
    """What went in and what came out, each with its second."""

    given: Series
    out: Series

    def values(self, field: str, *, given: bool = False) -> list[tuple[float, float]]:
        """Return the numbers of a field over time."""
        series = self.given if given else self.out
        return [(second, data[field]) for second, data in series if isinstance(data.get(field), int | float)]


class Plotted(msgspec.Struct):
    """A plot of a kind: what it shows, the options, what goes in, and how it is drawn."""

    about: str
    config: str
    given: Callable[[], Given]
    draw: Callable[[str, Seen], Plot]

    def picture(self, cls: type[Component]) -> str:
        """Return the SVG."""
        example = Example(about=self.about, config=self.config, given=self.given())
        _, flow = flow_of(cls, example)
        harness = run_example(flow.raise_findings(), example)
        given = [(_second(item), item) for item in example.given]
        out = [((event.arrival - START) / MICROSECONDS, plain(event.data)) for event in harness.out["out"]]
        return self.draw(self.about, Seen(given, out)).render()


def _second(item: dict[str, Any]) -> float:
    return float(str(item["at"]).removesuffix("s"))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() - START / MICROSECONDS


def _tumbling(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 60)
    panel = plot.panel(14, 28, "t")
    spans = [(_moment(data["start"]), _moment(data["end"]), data) for _, data in seen.out]
    panel.bands([(begin, end) for begin, end, _ in spans[::2]], PALE)
    panel.points(seen.values("t", given=True), SOFT)
    for begin, end, data in spans:
        panel.line([(begin, data["mean"]), (end, data["mean"])], BLUE, 3)
        for name in ("top", "low"):
            panel.line([(begin, data[name]), (end, data[name])], ORANGE, 1.5, "4 3")
    plot.legend("in: t", SOFT)
    plot.legend("out: mean", BLUE, mark="line")
    plot.legend("out: top, low", ORANGE, mark="dash")
    plot.legend("every other window", PALE, mark="band")
    return plot


def _sliding(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 60)
    panel = plot.panel(14, 28, "t")
    ends = [(_moment(data["end"]), data["mean"]) for _, data in seen.out if _moment(data["end"]) <= 60]
    panel.points(seen.values("t", given=True), SOFT)
    panel.line(ends, BLUE, 2)
    panel.points(ends, BLUE, 4)
    plot.legend("in: t", SOFT)
    plot.legend("out: mean of the 20 s before", BLUE)
    return plot


def _session(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 75, (120.0,))
    panel = plot.panel(0, 4, "")
    spans = [(_moment(data["start"]), _moment(data["end"]), data["n"]) for _, data in seen.out]
    panel.bands([(begin, end) for begin, end, _ in spans], PALE)
    panel.points([(second, 1.0) for second, _ in seen.given], SOFT, 3.5)
    for second, data in seen.out:
        panel.mark(second, f"{data['n']} events", BLUE, 20)
    plot.legend("in", SOFT)
    plot.legend("a session: from its first event to its last", PALE, mark="band")
    plot.legend("out", BLUE, mark="line")
    return plot


def _alert(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 180, (240.0,))
    panel = plot.panel(30, 44, "t")
    when = {data["change"]: (second, data) for second, data in seen.out}
    fired, cleared = when["fired"][0], when["cleared"][0]
    since = _moment(when["fired"][1]["since"])
    panel.bands([(since, fired)], SAND)
    panel.bands([(fired, cleared)], ROSE)
    panel.level(38, "when: t > 38", RED)
    panel.level(35, "clear_when: t < 35", GREEN)
    panel.line(seen.values("t", given=True), SOFT, 2)
    panel.mark(fired, "fired", RED)
    panel.mark(cleared, "cleared", GREEN)
    plot.legend("in: t", SOFT, mark="line")
    plot.legend("the condition holds, for 30 s not yet", SAND, mark="band")
    plot.legend("the alert is open", ROSE, mark="band")
    return plot


def _levels(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 150, (240.0,))
    panel = plot.panel(40, 100, "load")
    told = [(second, data["change"], data["severity"]) for second, data in seen.out]
    for (begin, change, severity), (end, *_) in pairwise(told):
        if change != "cleared":
            panel.bands([(begin, end)], ROSE if severity == "critical" else SAND)
    panel.level(60, "warning: load > 60, for 30 s", ORANGE)
    panel.level(80, "critical: load > 80", RED)
    panel.line(seen.values("load", given=True), SOFT, 2)
    for second, change, severity in told:
        panel.mark(second, change, {"cleared": GREEN}.get(change, RED if severity == "critical" else ORANGE))
    plot.legend("in: load", SOFT, mark="line")
    plot.legend("out: at level warning", SAND, mark="band")
    plot.legend("out: at level critical", ROSE, mark="band")
    return plot


LIMITS = (("upper", "upper limit", RED), ("center", "center", GREEN), ("lower", "lower limit", RED))


def _chart(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 120, (240.0,))
    panel = plot.panel(9.75, 10.35, "mean of 4")
    means, last = seen.values("value"), seen.out[-1][1]
    for name, said, color in LIMITS:
        panel.level(last[name], said, color, "" if name == "center" else "6 4")
    panel.points(seen.values("mm", given=True), "#b9c2cc", 1.8)
    panel.line(means, BLUE, 1.8)
    panel.points(means, BLUE, 3.2)
    broken = [(second, data["value"]) for second, data in seen.out if data["violated"]]
    panel.points(broken, RED, 6, ring=True)
    plot.legend("in: mm", "#b9c2cc")
    plot.legend("out: value", BLUE)
    plot.legend("out: violated is not empty", RED, mark="ring")
    return plot


def _trend(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 720, (190.0, 120.0))
    panel = plot.panel(55, 85, "celsius")
    panel.points(seen.values("celsius", given=True), SOFT)
    panel.line(seen.values("ewma"), BLUE, 2.2)
    panel.level(80, "limit", RED)
    below = plot.panel(-2, 4, "slope a minute")
    below.line(seen.values("slope"), ORANGE, 2)
    plot.legend("in: celsius", SOFT)
    plot.legend("out: ewma", BLUE, mark="line")
    plot.legend("out: slope", ORANGE, mark="line")
    return plot


def _anomaly(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 100, (240.0,))
    panel = plot.panel(2.5, 6.5, "bar")
    panel.points(seen.values("bar", given=True), SOFT)
    panel.line(seen.values("expected"), BLUE, 2)
    panel.points([(second, data["bar"]) for second, data in seen.out if data["anomaly"]], RED, 6, ring=True)
    plot.legend("in: bar", SOFT)
    plot.legend("out: expected", BLUE, mark="line")
    plot.legend("out: anomaly", RED, mark="ring")
    return plot


def _change(about: str, seen: Seen) -> Plot:
    plot = Plot(about, 100)
    panel = plot.panel(1.5, 6, "level")
    kept = seen.values("level")
    panel.points(seen.values("level", given=True), "#b9c2cc", 2)
    panel.line(kept, BLUE, 1.2)
    panel.points(kept, BLUE, 4.5)
    plot.legend(f"in: {len(seen.given)} events", "#b9c2cc")
    plot.legend(f"out: {len(kept)} events", BLUE)
    return plot


PLOTS: dict[str, tuple[Plotted, ...]] = {
    "window": (
        Plotted(
            "Windows of ten seconds, one after the other.",
            "window: {every: 10s, compute: {mean: {mean: t}, top: {max: t}, low: {min: t}}}", waves, _tumbling,
        ),
        Plotted(
            "Sliding: every five seconds the mean of the last twenty.",
            "window: {length: 20s, every: 5s, compute: {mean: {mean: t}}}", waves, _sliding,
        ),
        Plotted(
            "Sessions, which eight seconds of silence end.",
            "window: {gap: 8s, compute: {n: count}}", sessions, _session,
        ),
    ),
    "alert": (
        Plotted(
            "Too hot for half a minute; a shorter time is none, and between the two levels nothing changes.",
            "alert: {when: t > 38, for: 30s, clear_when: t < 35}", heat, _alert,
        ),
        Plotted(
            "Two levels.",
            "alert:\n  levels:\n    - {level: warning, when: load > 60, for: 30s}\n"
            "    - {level: critical, when: load > 80}",
            loads, _levels,
        ),
    ),
    "spc": (
        Plotted(
            "Means of four parts; from the 80th second on the machine is out of adjustment.",
            "spc: {of: mm, chart: xbar_r, size: 4, limits: {center: 10, sigma: 0.08}}", parts, _chart,
        ),
    ),
    "trend": (
        Plotted(
            "A bearing that begins to get warmer after four minutes.",
            "trend: {of: celsius, within: 3m, half_life: 30s, limit: 80}", bearing, _trend,
        ),
    ),
    "anomaly": (
        Plotted(
            "Values far from those before; the slow wave is none.",
            "anomaly: {of: bar, method: mad, most: 30, warm_up: 10, threshold: 6}", pressures, _anomaly,
        ),
    ),
    "change": (
        Plotted("Deadband: what is half a unit from the last that went through.", "change: {of: level, deadband: 0.5}",
            levels_of_a_tank, _change),
        Plotted("Deviation: the corners of the curve (swinging door).", "change: {of: level, deviation: 0.2}",
            levels_of_a_tank, _change),
    ),
}  # fmt: skip
