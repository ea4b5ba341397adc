"""What topics cost: events from 10 to 10,000 of them, by one wildcard or by as many filters."""

import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from bench.gateway import Gateway, Stretch, gateway
from bench.one_worker import blocks_of
from bench.publisher import Published, publish
from bench.result import Curve, Figure, Section
from bench.stages import PREFIX, RUNS, cpu
from engine.inbox_file import head, open_readable
from engine.load import load_text
from engine.plan import Plan
from tests.process import wait_until
from tests.services import Mosquitto

FLOW = """\
flow: topics
sources: {{station: {{mqtt: {{topics: [{filters}]}}}}}}
operators:
  checked:
    from: station
    validate: {{device: {{type: text, max: 20}}, result: {{type: text, one_of: [OK, DEFECT]}}, n: {{type: int}}}}
  placed: {{from: checked, set: {{place: "meta.levels[1]"}}}}
  never: {{from: placed, where: result == "NONE"}}
sinks: {{out: {{from: never, log: {{}}}}}}
"""
COUNTS, SHORT_COUNTS = (10, 100, 1_000, 10_000), (10, 1_000)
EVENTS, RATE, SECONDS = 200_000, 8_000.0, 2.0
_spawn = multiprocessing.get_context("spawn")


class Topics(msgspec.Struct):
    """What so many topics cost: ns of CPU an event in the worker's stages, µs in the gateway by each subscription."""

    count: int
    stages: float
    wildcard: float
    filters: float


def staged(count: int, events: int) -> float:
    """Return ns of CPU of decoding and of the stages for an event; in each block all topics have their turn."""
    plan = Plan(load_text(FLOW.format(filters="bench/+")).raise_findings())
    names = [f"bench/led{n:05d}" for n in range(count)]
    body = b'{"device":"led%d","result":"OK","n":%d}'
    found = blocks_of([("station", names[n % count], body % (n % count, n)) for n in range(events)])

    def run() -> None:
        for block in found:
            plan.run_sources(plan.records([block], PREFIX))

    return min(cpu(run) for _ in range(RUNS)) / events * 1e9


def received(broker: Mosquitto, count: int, filters: str) -> float:
    """Return µs of the gateway's CPU for an event that comes by the broker, once all topics were seen."""
    with gateway(FLOW.format(filters=filters), env={"MILLSTREAM_MQTT": broker.url}) as site:
        _published(site, broker.port, count)
        stretch = Stretch(site)
        events = _published(site, broker.port, count)
        return stretch.end().cpu / events * 1e6


def _published(site: Gateway, port: int, count: int) -> int:
    """Publish for some seconds, and wait until the gateway has all; return how many."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_publish, args=(theirs, port, count), daemon=True)
    before = _head(site)
    process.start()
    theirs.close()
    sent: Published = ours.recv()
    process.join(10)
    wait_until(lambda: _head(site) - before == sent.sent, f"{sent.sent} events in the inbox", 60)
    return sent.sent


def _publish(theirs: Connection, port: int, count: int) -> None:
    theirs.send(publish(port, RATE, SECONDS, devices=count))


def _head(site: Gateway) -> int:
    connection = open_readable(site.process.data / "flows" / "topics" / "inbox.db")
    try:
        return head(connection)[0]
    finally:
        connection.close()


def topics(broker: Mosquitto, count: int, events: int) -> Topics:
    """Measure so many topics."""
    each = ", ".join(f"bench/led{n:05d}" for n in range(count))
    return Topics(count, staged(count, events), received(broker, count, "bench/+"), received(broker, count, each))


def measure(short: bool) -> Section:
    """Return what an event costs over the number of topics."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        broker = Mosquitto(Path(name))
        broker.start()
        try:
            counts, events = (SHORT_COUNTS, EVENTS // 4) if short else (COUNTS, EVENTS)
            found = [topics(broker, count, events) for count in counts]
        finally:
            broker.kill()
    figures = [figure for one in found for figure in _figures(one)]
    first, last = found[0], found[-1]
    figures.append(Figure(f"stages, {last.count:,} topics against {first.count}", last.stages / first.stages, "times"))
    more = last.wildcard / first.wildcard
    figures.append(Figure(f"gateway, {last.count:,} topics against {first.count}", more, "times"))
    stages = [(float(one.count), one.stages) for one in found]
    subscribed = {
        "by one wildcard": [(float(one.count), one.wildcard) for one in found],
        "by a filter each": [(float(one.count), one.filters) for one in found],
    }
    curves = [
        Curve("Topics: the worker's stages", "topics", "ns of CPU an event", {"decode, validate, level": stages}, True),
        Curve("Topics: the gateway", "topics", "µs of CPU an event", subscribed, True),
    ]
    return Section("10 to 10,000 topics", figures, curves, NOTES)


def _figures(one: Topics) -> Iterator[Figure]:
    yield Figure(f"{one.count:,} topics: stages", one.stages, "ns/event")
    yield Figure(f"{one.count:,} topics: gateway, one wildcard", one.wildcard, "µs/event")
    yield Figure(f"{one.count:,} topics: gateway, a filter each", one.filters, "µs/event")


NOTES = [
    "Stages: decode, validate three fields, take a level of the topic; in each block of 2,000 the topics have their "
    "turn, so 10,000 of them are 2,000 new ones in each block. Gateway: from Mosquitto at QoS 1 into the durable "
    "inbox, 8,000 events a second, after every topic was seen once.",
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
