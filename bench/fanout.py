"""Fan-out: one event to many WebSocket clients of a channel, at full speed and at 20,000 frames/s, on one core."""

import multiprocessing
import resource
import sys
from multiprocessing.connection import Connection

from bench.audience import Audience, Heard
from bench.gateway import Gateway, Stretch, gateway
from bench.result import Curve, Figure, Section, at_most

FLOW = """\
flow: bench
sources: {tick: {http: {post: /tick, allow: anyone}}}
sinks: {shown: {from: tick, channel: {name: live, event: tick}}}
channels: {live: {path: /ws/live, open: true}}
"""
COUNTS = (100, 1_000, 5_000)
PACE, TARGET_COUNT, TARGET = 20_000, 1_000, 100.0
AHEAD, SECONDS, SHORT = 4, 6.0, 2.0
LIMITS = {100: 90_000, 1_000: 67_000, 5_000: 56_000}
"""Frames/s of uvicorn with `websockets` sans-io, the frame encoded once, without anything of ours, measured alone."""
_spawn = multiprocessing.get_context("spawn")


def _audience(theirs: Connection, port: int, count: int) -> None:
    _more_files()
    audience = Audience(port, "/ws/live", count)
    audience.at_full_speed(0.3, AHEAD)
    theirs.send(None)
    while order := theirs.recv():
        kind, seconds = order
        theirs.send(audience.at_full_speed(seconds, AHEAD) if kind == "full" else audience.paced(seconds, PACE / count))


def _more_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class FanOut:
    """What one number of clients gave."""

    def __init__(self, site: Gateway, count: int, seconds: float) -> None:
        self.count, before = count, site.memory()
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(target=_audience, args=(theirs, site.port, count), daemon=True)
        process.start()
        theirs.close()
        ours.recv()
        self.memory = (site.memory() - before) / count
        self.full, self.cost = self._run(site, ours, ("full", seconds))
        self.paced, _ = self._run(site, ours, ("paced", seconds))
        ours.send(None)
        process.join(20)

    def _run(self, site: Gateway, audience: Connection, order: tuple[str, float]) -> tuple[Heard, float]:
        stretch = Stretch(site)
        audience.send(order)
        heard: Heard = audience.recv()
        return heard, stretch.end().cpu / heard.frames * 1e6

    @property
    def rate(self) -> float:
        """Return frames a second at full speed."""
        return self.full.frames / self.full.seconds


def _figures(found: FanOut) -> list[Figure]:
    name, paced, limit = f"{found.count:,} clients", found.paced, LIMITS[found.count]
    missing = paced.events * found.count - paced.frames + found.full.events * found.count - found.full.frames
    note = f"{1e6 / found.cost / limit:.2f} of the {limit:,} that the bare server sends on a core"
    at = f"at {PACE / found.count:g} events/s, {missing:,} frames missing"
    most = round(paced.percentile(0.99), 1)
    late = f"{name}: 99th percentile"
    return [
        Figure(f"{name}: sent", round(found.rate), "frames/s", note="the audience shares the machine"),
        Figure(f"{name}: the gateway's processor time", round(found.cost, 2), "µs/frame", note=note),
        Figure(f"{name}: median", round(paced.percentile(0.5), 1), "ms", note=at),
        at_most(late, most, "ms", TARGET, at) if found.count == TARGET_COUNT else Figure(late, most, "ms", note=at),
        Figure(f"{name}: memory of a client", round(found.memory / 1024, 1), "KiB"),
    ]


def measure(short: bool) -> Section:
    """Return rates, cost, latencies and memory for each number of clients."""
    _more_files()
    seconds = SHORT if short else SECONDS
    found = []
    for count in COUNTS:
        with gateway(FLOW) as site:
            found.append(FanOut(site, count, seconds))
    lines = {
        "median": [(float(one.count), one.paced.percentile(0.5)) for one in found],
        "99th percentile": [(float(one.count), one.paced.percentile(0.99)) for one in found],
    }
    delays = Curve(f"Fan-out at {PACE:,} frames/s: from POST to client", "clients", "ms", lines, True, True)
    costs = {
        "Millstream": [(float(one.count), one.cost) for one in found],
        "bare server": [(float(count), 1e6 / rate) for count, rate in LIMITS.items()],
    }
    cost = Curve("Fan-out: processor time of the gateway by clients", "clients", "µs/frame", costs, log_x=True)
    figures = [figure for one in found for figure in _figures(one)]
    notes = ["From the HTTP request of an event, by inbox, worker and channel log, to the frames at the clients."]
    return Section("Fan-out to dashboards", figures, [delays, cost], notes)


if __name__ == "__main__":
    for figure in measure(short="short" in sys.argv).figures:
        print(f"{figure.name:45} {figure.value:12,.2f} {figure.unit:10} {figure.target:12} {figure.note}")
