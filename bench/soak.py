"""Ten minutes at 5,000 events/s: whether memory stays flat, and how much it is."""

import sys
import time
from statistics import linear_regression

from bench.plant import FLOW, Listening, Plant, plant
from bench.result import Curve, Figure, Section, at_least, at_most

RATE, DASHBOARDS = 5_000, 10
SECONDS, SHORT = 600.0, 60.0
EVERY = 3.0
SLOPE_TARGET, SIZE_TARGET = 1.0, 400.0
MIB = 1 << 20
DEFECTS_ONLY = FLOW.replace("shown: {from: once, ", 'shown: {from: once, where: result == "DEFECT", ')


class Memory:
    """Samples of a system's memory: minutes since the begin, and the MiB of each process (PSS) by its name."""

    def __init__(self, site: Plant) -> None:
        gateway, *workers = site.processes()
        self._processes = {"gateway": [gateway], "workers": workers}
        self._begun = time.monotonic()
        self.lines: dict[str, list[tuple[float, float]]] = {"gateway": [], "workers": [], "all": []}

    def sample(self) -> None:
        """Take one sample."""
        minutes, total = (time.monotonic() - self._begun) / 60, 0.0
        for name, processes in self._processes.items():
            size = sum(process.memory_full_info().pss for process in processes) / MIB
            self.lines[name].append((minutes, size))
            total += size
        self.lines["all"].append((minutes, total))

    def slope(self, name: str, after: float) -> float:
        """Return MiB a minute by least squares over what was sampled after so many minutes."""
        points = [point for point in self.lines[name] if point[0] >= after]
        minutes, sizes = zip(*points, strict=True)
        return linear_regression(minutes, sizes).slope

    def most(self) -> float:
        """Return the most MiB that all had together."""
        return max(size for _, size in self.lines["all"])


def run(site: Plant, seconds: float) -> tuple[Memory, int, int]:
    """Publish and listen; return the memory, how many events were published, and how many rows there are."""
    listening, memory = Listening(site.channel, DASHBOARDS, keep=False), Memory(site)
    publishing, end = site.publish(RATE, seconds), time.monotonic() + seconds
    while time.monotonic() < end:
        memory.sample()
        time.sleep(EVERY)
    sent, until = publishing.end().sent, time.monotonic() + 60
    while (rows := site.rows()) < sent and time.monotonic() < until:
        time.sleep(0.2)
    listening.end()
    return memory, sent, rows


def _slope(memory: Memory, name: str, short: bool) -> Figure:
    """Return the slope after the first minute; a run that is not much longer says nothing of the target."""
    label = "memory, slope" if name == "all" else f"memory of the {name}, slope"
    if short:
        return Figure(label, round(memory.slope(name, 0.5), 2), "MiB/min", note="too short to judge")
    return at_most(label, round(memory.slope(name, 1.0), 2), "MiB/min", SLOPE_TARGET)


def measure(short: bool) -> Section:
    """Return the slope of memory, its most, and whether every event became a row."""
    seconds = SHORT if short else SECONDS
    with plant(DEFECTS_ONLY) as site:
        site.start()
        memory, sent, rows = run(site, seconds)
    figures = [_slope(memory, name, short) for name in ("gateway", "workers", "all")]
    figures.append(at_most("memory of gateway and worker, most", round(memory.most()), "MiB", SIZE_TARGET))
    note = f"{sent / seconds:,.0f} events/s published"
    figures.append(at_least("rows stored of events published", round(100 * rows / sent, 3), "%", 100, note))
    curve = Curve("Memory over time", "minutes", "MiB (PSS)", memory.lines)
    notes = [f"{RATE:,} events/s for {seconds / 60:g} minutes, defects to {DASHBOARDS} dashboards, a row each."]
    return Section("Memory at 5,000 events/s", figures, [curve], notes)


if __name__ == "__main__":
    for figure in measure("--short" in sys.argv).figures:
        print(f"{figure.name:40} {figure.value:>10,.2f} {figure.unit:8} {figure.target:14} {figure.note}")
