"""MQTT into the inbox: what a message of QoS 1 costs the gateway from the socket to its acknowledgement."""

import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from bench.gateway import Gateway, Stretch, gateway
from bench.publisher import Published, publish
from bench.result import Curve, Figure, Section
from engine.inbox_file import head, open_readable
from tests.process import wait_until
from tests.services import Mosquitto

FLOW = """\
flow: bench
sources: {station: {mqtt: {topics: ["bench/+"], qos: 1}}}
operators: {none: {from: station, where: never}}
sinks: {out: {from: none, log: {}}}
"""
RATES, SECONDS, SHORT, RUNS = (1_000, 10_000, 20_000, 40_000), 4.0, 1.5, 3
_spawn = multiprocessing.get_context("spawn")


def _publisher(theirs: Connection, port: int) -> None:
    first = 0
    while order := theirs.recv():
        rate, seconds = order
        done = publish(port, rate, seconds, first)
        first += done.sent
        theirs.send(done)


class Receive:
    """What one rate gave."""

    def __init__(self, site: Gateway, publisher: Connection, rate: int, seconds: float) -> None:
        before, stretch, began = _stored(site), Stretch(site), time.perf_counter()
        publisher.send((rate, seconds))
        done: Published = publisher.recv()
        wait_until(lambda: _stored(site) - before >= done.sent, f"{done.sent} events are stored")
        self.seconds, self.count = time.perf_counter() - began, _stored(site) - before
        self.cpu = stretch.end().cpu / self.count * 1e6

    @property
    def rate(self) -> float:
        """Return the events a second that were stored and acknowledged."""
        return self.count / self.seconds


def _stored(site: Gateway) -> int:
    connection = open_readable(site.process.data / "flows" / "bench" / "inbox.db")
    try:
        return head(connection)[0]
    finally:
        connection.close()


def measure(short: bool) -> Section:
    """Return rate and cost at each rate of publishing; the greatest is more than the broker can do."""
    seconds, runs = (SHORT, 1) if short else (SECONDS, RUNS)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        broker = Mosquitto(Path(name))
        broker.start()
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(target=_publisher, args=(theirs, broker.port), daemon=True)
        process.start()
        try:
            with gateway(FLOW, {"MILLSTREAM_MQTT": broker.url}) as site:
                Receive(site, ours, RATES[0], 0.5)
                found = {rate: [Receive(site, ours, rate, seconds) for _ in range(runs)] for rate in RATES}
        finally:
            ours.send(None)
            process.join(10)
            broker.kill()
    figures: list[Figure] = []
    for rate, of in found.items():
        reached = f"{median([run.rate for run in of]):,.0f} messages/s stored and acknowledged"
        cost = round(median([run.cpu for run in of]), 1)
        figures.append(Figure(f"received at {rate:,} messages/s", cost, "µs/message", note=reached))
    fastest = max(found[RATES[-1]], key=lambda run: run.rate)
    figures.append(Figure("received at most", round(fastest.rate), "messages/s"))
    costs = [(float(rate), median([run.cpu for run in of])) for rate, of in found.items()]
    title = "MQTT QoS 1: processor time of the gateway by rate"
    curve = Curve(title, "messages/s", "µs/message", {"gateway": costs}, log_x=True)
    notes = ["From the socket to the durable inbox and back to the acknowledgement; Mosquitto, 50-byte JSON."]
    return Section("MQTT into the inbox", figures, [curve], notes)


if __name__ == "__main__":
    for figure in measure(short="short" in sys.argv).figures:
        print(f"{figure.name:35} {figure.value:12,.1f} {figure.unit:12} {figure.note}")
