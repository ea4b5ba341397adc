"""What flows cost beside each other: memory and CPU of each at rest, the start of all, and events/s in total."""

import multiprocessing
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import psutil

from bench.result import Curve, Figure, Section, at_most
from engine import inbox_file
from tests.millstream_process import Millstream
from tests.process import LOCALHOST, wait_until

FLOW = """\
flow: line{n}
tables: {{reading{n}: {{device: text(20), result: text(10), created_at: time}}}}
sources:
  pushed: {{http: {{post: /line{n}, allow: anyone}}}}
  heard: {{mqtt: {{topics: [line{n}/+]}}}}
operators:
  checked:
    from: [pushed, heard]
    validate: {{device: {{type: text, case: upper, max: 20}}, result: {{type: text, one_of: [OK, DEFECT]}}}}
  stats: {{from: checked, key: device, tally: {{of: result}}}}
sinks:
  stored: {{from: checked, where: result == "DEFECT", sql: {{table: reading{n}}}}}
  shown: {{from: stats, channel: {{name: live, event: stats, keep: last}}}}
channels:
  live: {{path: /ws/line{n}, open: true}}
"""
COUNTS, SHORT_COUNTS = (1, 5, 10, 25, 50), (1, 5)
AN_ARRAY, CONNECTIONS, SECONDS, IDLE, SETTLE, PATIENCE = 100, 8, 3.0, 6.0, 3.0, 180.0
_spawn = multiprocessing.get_context("spawn")


class Flows(msgspec.Struct):
    """What so many flows cost: seconds to start, MB and percent of a core at rest, events/s and µs of CPU an event."""

    count: int
    start: float
    memory: float
    idle: float
    idle_gateway: float
    rate: float
    cpu: float
    cpu_gateway: float


class Plant:
    """A Millstream with so many flows, on the embedded broker and database."""

    def __init__(self, folder: Path, count: int) -> None:
        (folder / "flows").mkdir()
        for n in range(count):
            (folder / "flows" / f"line{n}.yaml").write_text(FLOW.format(n=n))
        self.count, self.process = count, Millstream(folder, folder / "flows")

    def start(self) -> float:
        """Start it; return how many seconds it took until every flow was ready."""
        begun = time.perf_counter()
        self.process.start(PATIENCE)
        return time.perf_counter() - begun

    def parts(self) -> list[psutil.Process]:
        """Return its processes, the gateway first."""
        gateway = psutil.Process(self.process.pid)
        return [gateway, *gateway.children(recursive=True)]

    def memory(self) -> float:
        """Return the MB of all processes; what several share counts once."""
        return sum(part.memory_full_info().pss for part in self.parts()) / 1e6

    def inboxes(self) -> Iterator[tuple[int, int]]:
        """Yield (used, head) of each flow."""
        for n in range(self.count):
            path = self.process.data / "flows" / f"line{n}" / "inbox.db"
            with closing(inbox_file.open_readable(path)) as connection:
                yield inbox_file.progress(connection).used, inbox_file.head(connection)[0]


def cpu(parts: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds of processes."""
    return sum(times.user + times.system for times in (part.cpu_times() for part in parts))


def pushed(port: int, count: int, most: int = 1 << 30) -> int:
    """Push arrays to all flows in turn, as fast as they are answered, from a process of its own; return events.

    It ends after `SECONDS`, or `most` arrays.
    """
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_push, args=(theirs, port, count, most), daemon=True)
    process.start()
    theirs.close()
    events = int(ours.recv())
    process.join(10)
    return events


def _request(n: int) -> bytes:
    events = b",".join(
        b'{"device":"station%02d","result":"%s"}' % (at % 16, b"OK" if at else b"DEFECT") for at in range(AN_ARRAY)
    )
    head = f"POST /line{n} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(events) + 2}\r\n\r\n".encode() + b"[" + events + b"]"


def _push(theirs: Connection, port: int, count: int, most: int) -> None:
    requests = [_request(n) for n in range(count)]
    links = deque(socket.create_connection((LOCALHOST, port), timeout=60) for _ in range(CONNECTIONS))
    waiting = deque[socket.socket]()
    sent, end = 0, time.perf_counter() + SECONDS
    while sent < most and time.perf_counter() < end:
        if not links:
            links.append(_answered(waiting.popleft()))
        link = links.popleft()
        link.sendall(requests[sent % count])
        waiting.append(link)
        sent += 1
    for link in waiting:
        _answered(link)
    theirs.send(sent * AN_ARRAY)


def _answered(link: socket.socket) -> socket.socket:
    answer = b""
    while not answer.endswith(b"}"):
        answer += (part := link.recv(4096))
        assert part, "the gateway hung up"
    assert answer.startswith(b"HTTP/1.1 202"), answer
    return link


def flows(count: int) -> Flows:
    """Measure so many flows."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        plant = Plant(Path(name), count)
        try:
            start = plant.start()
            time.sleep(SETTLE)
            idle = _idle(plant)
            memory = plant.memory()
            loaded = _loaded(plant, idle)
        finally:
            plant.process.power_cut()
    return Flows(count, start, memory, *idle, *loaded)


def _idle(plant: Plant) -> tuple[float, float]:
    """Return the percent of a core that all processes take, and the gateway alone, while nothing comes."""
    parts = plant.parts()
    before, gateway = cpu(parts), cpu(parts[:1])
    time.sleep(IDLE)
    return (cpu(parts) - before) / IDLE * 100, (cpu(parts[:1]) - gateway) / IDLE * 100


def _loaded(plant: Plant, idle: tuple[float, float]) -> tuple[float, float, float]:
    """Return events/s until all is processed and durable, and µs of CPU an event: of all, and of the gateway.

    Every flow has had its first events before, and what the processes take at rest does not count.
    """
    first = _all_processed(plant, pushed(plant.process.port, plant.count, plant.count))
    parts, begun = plant.parts(), time.perf_counter()
    before = cpu(parts), cpu(parts[:1])
    events = pushed(plant.process.port, plant.count)
    _all_processed(plant, first + events)
    seconds = time.perf_counter() - begun
    spent = cpu(parts) - before[0] - idle[0] / 100 * seconds, cpu(parts[:1]) - before[1] - idle[1] / 100 * seconds
    return events / seconds, spent[0] / events * 1e6, spent[1] / events * 1e6


def _all_processed(plant: Plant, events: int) -> int:
    wait_until(lambda: _processed(plant) == events, f"{events} events processed", PATIENCE)
    return events


def _processed(plant: Plant) -> int:
    return sum(used for used, _ in plant.inboxes())


def _slope(found: list[Flows], value: str) -> float:
    """Return how much one more flow adds, over the whole curve."""
    first, last = found[0], found[-1]
    return float((getattr(last, value) - getattr(first, value)) / (last.count - first.count))


def _at_work(found: list[Flows]) -> float:
    """Return what each flow takes while all work, beyond what their events cost with the fewest flows."""
    few, many = found[1], found[-1]
    return (many.cpu - few.cpu) * many.rate / many.count / 1e4


def measure(short: bool) -> Section:
    """Return what one more flow costs, and how the whole grows."""
    found = [flows(count) for count in (SHORT_COUNTS if short else COUNTS)]
    most = found[-1].count
    figures = [
        Figure("one more flow: memory", _slope(found, "memory"), "MB"),
        at_most("one more flow: CPU at rest", _slope(found, "idle"), "% of a core", 1),
        Figure("one more flow: start", _slope(found, "start"), "s"),
        Figure(f"{most} flows: start", found[-1].start, "s"),
        Figure(f"{most} flows: gateway at rest", found[-1].idle_gateway, "% of a core"),
        Figure("1 flow: HTTP to durable rows", found[0].rate, "events/s"),
        Figure(f"{most} flows: HTTP to durable rows, in total", found[-1].rate, "events/s"),
        Figure("CPU an event, against that of 1 flow", found[-1].cpu / found[0].cpu, "times"),
        Figure("one more flow at work", _at_work(found), "% of a core"),
    ]
    return Section("1 to 50 flows", figures, list(_curves(found)), NOTES)


def _curves(found: list[Flows]) -> Iterator[Curve]:
    def line(value: str) -> list[tuple[float, float]]:
        return [(float(one.count), float(getattr(one, value))) for one in found]

    yield Curve("Flows at rest: memory", "flows", "MB", {"all processes": line("memory")})
    idle = {"all processes": line("idle"), "gateway": line("idle_gateway")}
    yield Curve("Flows at rest: CPU", "flows", "% of a core", idle)
    yield Curve("Flows: start", "flows", "s", {"until all are ready": line("start")})
    yield Curve("Flows under load, in total", "flows", "events/s", {"HTTP arrays of 100": line("rate")})
    yield Curve(
        "Flows under load: cost",
        "flows",
        "µs of CPU an event",
        {"all processes": line("cpu"), "gateway": line("cpu_gateway")},
    )


NOTES = [
    "Each flow has an HTTP and an MQTT source, a validation, a tally, a table and a channel, on the embedded broker "
    "and database. Memory is the proportional set size: pages that processes share count once.",
    "Under load, eight connections push arrays of 100 to all flows in turn; the time runs until every event is "
    "processed and what it left is durable, so it holds up to a second of waiting for the last snapshot. A flow gets "
    "fewer events at once where there are more flows, so each commit, wake-up and transaction serves fewer.",
    "A flow at work takes something by itself, however little it gets: a snapshot every half second, and from the "
    "tally ten results a second of each of 16 devices to the channel. It is that which makes an event dearer where "
    "there are more flows: per flow and second it stays the same.",
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
