"""What the shapes cost that `lint` warns of, beside what it says to do instead: CPU time of an event, on one core."""

import asyncio
import base64
import gc
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from bench.result import Figure, Section
from bench.sql import TABLES, Outside
from engine.block import Block
from engine.database import open_database
from engine.event import Event, stream_prefix
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.sql_writer import SqlWriter
from engine.tables import create
from sinks.sql import Sql

START = 1_760_000_000_000_000
HEAD = "flow: shapes\nsources: {station: {mqtt: {topics: [t]}}}\noperators:\n  one: "
TAIL = "\nsinks: {out: {from: one, log: {}}}\n"
RUNS = 3


def micros(operator: str, blocks: list[Block], time_field: str = "") -> float:
    """Return the CPU time of an event through a flow with one operator, in µs: best of three."""
    text = (HEAD.replace("]}", f"], time: {time_field}}}") if time_field else HEAD) + operator + TAIL
    best, count = float("inf"), sum(len(block.payloads) for block in blocks)
    for _ in range(RUNS):
        harness = Harness(load_text(text).raise_findings())
        gc.collect()
        gc.disable()
        begun = time.thread_time()
        for block in blocks:
            harness.read([block])
            harness.out.clear()
        best = min(best, time.thread_time() - begun)
        gc.enable()
        assert not harness.dead, harness.dead[0].reason
    return best / count * 1e6


def blocks(payloads: list[bytes], many: int = 2_000, every: int = 4_000) -> list[Block]:
    """Return what an inbox has when `many` come every so many microseconds."""
    found = []
    for first in range(0, len(payloads), many):
        at = START + first // many * every
        found.append(block_of([Sent(at, "station", one, "t") for one in payloads[first : first + many]], first + 1, at))
    return found


def verdicts(count: int) -> list[bytes]:
    """Return verdicts of 20 devices and 100 cars; `n` is another one in each, `part` one of a thousand."""
    return [
        b'{"device":"led%d","car":%d,"part":%d,"n":%d,"result":"OK"}' % (at % 20, at % 100, at % 1000, at)
        for at in range(count)
    ]


def patterns(count: int) -> Iterable[Figure]:
    """Measure a regular expression and the functions that say the same, without what the rest of the flow costs."""
    found = blocks(verdicts(count))
    bare = micros("{from: station, set: {m: n}}", found)
    for text in ('device == "led7"', 'starts_with(device, "led7")', 'matches(device, "^led7$")'):
        cost = micros(f"{{from: station, set: {{m: n, held: '{text}'}}}}", found) - bare
        yield Figure(f"expression {text}", cost, "µs/event")


def tallies(count: int) -> Iterable[Figure]:
    """Measure a tally of 120 values at 1,000 events a second."""
    found = blocks(verdicts(count // 5), many=2, every=2_000)
    for every in ("1ms", "10ms", "100ms"):
        cost = micros(f"{{from: station, tally: {{of: result, by: [device, car], every: {every}}}}}", found)
        yield Figure(f"tally every {every}", cost, "µs/event")


def windows(count: int) -> Iterable[Figure]:
    """Measure windows of a second with events that are up to so many seconds late."""
    shuffled = random.Random(1)  # noqa: S311 - no secret
    for late in (10, 100, 600, 3_000):
        times = [int((START / 1e6 - shuffled.random() * late) * 1_000) for _ in range(count // 5)]
        found = blocks([b'{"device":"led%d","at":%d}' % (at % 10, when) for at, when in enumerate(times)])
        cost = micros("{from: station, key: device, window: {every: 1s, by: event, lateness: 1h}}", found, "at")
        yield Figure(f"window, {late} open a key", cost, "µs/event")


def keys(count: int) -> Iterable[Figure]:
    """Measure a tally by keys that events share, and by one that each has for itself."""
    found = blocks(verdicts(count))
    for key, name in (("part", "1,000 keys"), ("meta.id", "a key an event")):
        yield Figure(
            f"tally, {name}", micros(f"{{from: station, key: {key}, tally: {{of: result}}}}", found), "µs/event"
        )


def functions(count: int) -> Iterable[Figure]:
    """Measure a function of Python's beside an expression that says the same."""
    found = blocks(verdicts(count))
    code = "{code: \"def process(data):\\n    return {**data, 'm': data['n'] + 1}\"}"
    for name, operator in (("set", "set: {m: n + 1}"), ("python", f"python: {code}")):
        yield Figure(f"operator {name}", micros(f"{{from: station, {operator}}}", found), "µs/event")


def pictures(count: int) -> Iterable[Figure]:
    """Measure the check of a picture."""
    noise = np.random.default_rng(1)
    for width, height in ((160, 120), (640, 480), (1280, 720)):
        pixels = cv2.GaussianBlur(noise.integers(0, 255, (height, width, 3), dtype=np.uint8), (9, 9), 0)
        text = base64.b64encode(cv2.imencode(".jpg", pixels)[1].tobytes())
        found = blocks([b'{"picture":"%s"}' % text] * (count // 1_000), many=20)
        cost = micros("{from: station, image: {of: picture, as: images, drop: [picture]}}", found)
        yield Figure(f"image of {width} x {height}", cost, "µs/event")


async def _rows(batch: int, count: int, folder: Path) -> float:
    database = open_database(f"sqlite:///{folder / f'{batch}.db'}")
    outside, prefix = Outside(database), stream_prefix("shapes")
    await create(database, outside.metadata)
    values = {"car_id": 1, "device": "LED", "result": "OK"}
    events = [
        Event(prefix + at.to_bytes(8, "big"), START + at, "", "station", "t", values, None, START + at)
        for at in range(1, count + 1)
    ]
    writer = SqlWriter("rows", Sql(table=next(iter(TABLES)), batch=batch), outside)  # type: ignore[arg-type]
    begun = time.perf_counter()
    for first in range(0, count, 2_000):
        await writer.write(events[first : first + 2_000])
    took = time.perf_counter() - begun
    await writer.close()
    await database.dispose()
    return count / took


def batches(count: int) -> Iterable[Figure]:
    """Measure the rows a second of a sink on SQLite, on the disk at each commit."""
    with tempfile.TemporaryDirectory() as folder:
        for batch, share in ((10, 0.01), (100, 0.05), (1_000, 0.3)):
            rate = asyncio.run(_rows(batch, int(count * share), Path(folder)))
            yield Figure(f"sql, batch {batch}", rate, "rows/s")


def queries(count: int) -> Iterable[Figure]:
    """Measure a filter of a query, newest first, in ten times as many rows."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table reading (id integer primary key, device text)")
    rows = ((at, f"device {at * 7919 % 5_000}") for at in range(count * 10))
    connection.executemany("insert into reading values (?, ?)", rows)
    text = "select * from reading where device = 'device 77' order by id desc limit 100"
    for name in ("without", "with"):
        took = min(_seconds(lambda: connection.execute(text).fetchall()) for _ in range(RUNS))
        yield Figure(f"query {name} an index, {count * 10:,} rows", took * 1e3, "ms")
        connection.execute("create index if not exists by_device on reading (device)")


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure(short: bool) -> Section:
    """Measure every shape."""
    count = 10_000 if short else 100_000
    parts = (patterns, tallies, windows, keys, functions, pictures, batches, queries)
    figures = [figure for part in parts for figure in part(count)]
    return Section("Shapes that lint warns of", figures, notes=["docs/concepts/cost.md says what to do instead."])


if __name__ == "__main__":
    for figure in measure("--short" in sys.argv).figures:
        print(f"{figure.name:50} {figure.value:12,.2f} {figure.unit}")
