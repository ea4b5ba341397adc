"""What each stage costs on one core: events/s by CPU time, as the worker calls them and without the collector."""

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench.one_worker import blocks_of, fill
from bench.result import Curve, Figure, Section, at_least
from engine.block import Block
from engine.event import stream_prefix
from engine.inbox import InboxReader
from engine.keyed import SHARDS
from engine.load import load_text
from engine.plan import KeyedPlan, Plan, Run

SOURCE = "flow: stages\nsources: {station: {mqtt: {topics: [sensor/result]}}}\n"
VALID = """operators:
  verdict:
    from: station
    validate: {device: {type: text, case: upper, max: 50}, result: {type: text, case: upper, one_of: [OK, DEFECT]}}
"""
THREE = """  marked:
    from: verdict
    set: {bad: result == "DEFECT", short: length(device) < 8, text: device + "/" + result}
"""
TEN = "operators:\n" + "".join(
    f"  step{at}: {{from: {f'step{at - 1}' if at else 'station'}, set: {{n{at}: (n + {at}) * 2}}}}\n"
    for at in range(10)
)
CHAINS = {
    "decode": ("", "station", None),
    "decode, validate": (VALID, "verdict", None),
    "decode, validate, three expressions": (VALID + THREE, "marked", 600_000),
    "decode, a chain of ten expressions": (TEN, "step9", None),
}
KEYED = {
    "tally": "tally: {of: result}",
    "tally every 10 s": "tally: {of: result, every: 10s}",
    "window": "window: {every: 1m}",
}
TARGETS = {1_000: 800_000, 100_000: 400_000}
EVENTS, RUNS, PREFIX = 200_000, 3, stream_prefix("stages")
KEY_COUNTS = (1, 10, 100, 1_000, 10_000, 100_000)


def payloads(first: int, last: int, keys: int) -> list[bytes]:
    """Return verdicts of about 60 bytes; every key has its turn, one in nine is a defect."""
    return [
        b'{"device":"led%d","result":"%s","n":%d,"unit":"mm"}' % (at % keys, b"DEFECT" if at % 9 == 0 else b"OK", at)
        for at in range(first, last)
    ]


def blocks(count: int, keys: int) -> list[Block]:
    """Return verdicts as an inbox has them."""
    return blocks_of([("station", "sensor/result", payload) for payload in payloads(0, count, keys)])


def cpu(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def plan_of(operators: str, last: str) -> Plan:
    """Return the plan of a flow from one source to one sink."""
    return Plan(load_text(f"{SOURCE}{operators}sinks: {{out: {{from: {last}, log: {{}}}}}}\n").raise_findings())


def chain(plan: Plan, found: list[Block]) -> float:
    """Return events/s of a flow's sources and what follows them up to its sink: best of three."""

    def run() -> None:
        for block in found:
            plan.run_sources(plan.records([block], PREFIX))

    return sum(len(block.payloads) for block in found) / min(cpu(run) for _ in range(RUNS))


def keyed(kind: str, keys: int, count: int) -> float:
    """Return events/s of a keyed node once all of its keys were seen: best of three.

    Events come at 500,000 a second, so at 100,000 keys a tally lets out a result for each event.
    """
    plan = plan_of(f"operators: {{kept: {{from: station, key: device, {KEYED[kind]}}}}}\n", "kept")
    warm = max(keys, 20_000)
    found = blocks(warm + count, keys)
    return count / min(_seconds(plan, plan.keyed[0], found, warm) for _ in range(RUNS))


def _seconds(plan: Plan, node: KeyedPlan, found: list[Block], warm: int) -> float:
    life, spent = Run(plan), 0.0
    shards = {shard: life.shard(node, shard, None) for shard in SHARDS}
    for block in found:
        chosen = [(s, chunk) for port, s, chunk in plan.run_sources(plan.records([block], PREFIX)) if s]
        begun = time.process_time()
        for shard, chunk in chosen:
            shards[shard].on_batch([chunk])
        spent += time.process_time() - begun if block.first > warm else 0.0
    return spent


def read(count: int) -> float:
    """Return events/s of reading an inbox, 2,000 at once: best of three."""
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name) / "inbox.db", "stages", blocks(count, 1_000))

        def run() -> None:
            reader, offset = InboxReader(Path(name) / "inbox.db"), 0
            while some := reader.read(offset):
                offset = some[-1].last
            assert offset == count
            reader.close()

        return count / min(cpu(run) for _ in range(RUNS))


def _figure(name: str, rate: float, least: int | None) -> Figure:
    return at_least(name, rate, "events/s", least) if least else Figure(name, rate, "events/s")


def _figures(short: bool) -> Iterator[Figure]:
    count = EVENTS // 4 if short else EVENTS
    found = blocks(count, 1_000)
    yield Figure("inbox read", read(count), "events/s")
    for name, (operators, last, least) in CHAINS.items():
        yield _figure(name, chain(plan_of(operators, last), found), least)


def measure(short: bool) -> Section:
    """Return events/s of each stage, and of the keyed ones over the number of keys."""
    gc.freeze()
    gc.disable()
    try:
        figures, count = list(_figures(short)), EVENTS // 4 if short else EVENTS
        sizes = (10, 1_000, 100_000) if short else KEY_COUNTS
        rates = {kind: {keys: keyed(kind, keys, count) for keys in sizes} for kind in KEYED}
    finally:
        gc.enable()
        gc.unfreeze()
    for kind, found in rates.items():
        aims = TARGETS if kind in ("tally", "window") else {}
        figures += [_figure(f"{kind}, {k:,} keys", found[k], aims.get(k)) for k in (10, 1_000, 100_000)]
    lines = {kind: [(float(keys), 1e9 / rate) for keys, rate in found.items()] for kind, found in rates.items()}
    curve = Curve("What a keyed node costs over the number of keys", "keys", "ns of CPU an event", lines, log_x=True)
    return Section("Stages on one core", figures, [curve], NOTES)


NOTES = [
    "CPU time of one process, best of three. Events arrive at 500,000 a second by their inbox, in blocks of 2,000 "
    "every 4 ms, as a worker reads them when it catches up.",
    "A tally lets a result of a key out every 100 ms unless told otherwise: at 100,000 keys and 500,000 events a "
    "second that is one for each event, and making it is most of what it costs. The one of every 10 s counts only.",
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
