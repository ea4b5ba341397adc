"""A whole system under load: Mosquitto, MariaDB, Millstream, a device that publishes and dashboards that listen."""

import multiprocessing
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from bench.dashboard import Dashboard, packed, unpacked
from bench.publisher import Published, publish
from tests.millstream_process import Millstream
from tests.process import wait_until
from tests.services import MariaDB, Mosquitto

FLOW = """\
flow: bench
settings: {limit: {default: 1}}
tables:
  reading: {id: serial, device: text(20), result: text(10), n: int, created_at: time, index: [[created_at]]}
sources:
  station: {mqtt: {topics: [bench/+], qos: 1}}
operators:
  checked:
    from: station
    validate:
      device: {type: text, case: upper, max: 20}
      result: {type: text, case: upper, one_of: [OK, DEFECT]}
      n: {type: int}
      sent: {type: int}
  once: {from: checked, key: device, dedupe: {by: n, within: 10s, most: 1000}}
  rows: {from: once, set: {created_at: meta.time}}
  stats: {from: once, key: device, tally: {of: result, every: 1s}}
sinks:
  stored: {from: rows, sql: {table: reading}}
  shown: {from: once, channel: {name: live, event: reading}}
  counts: {from: stats, channel: {name: live, event: counts, keep: last, at_most: 10/s}}
channels:
  live: {path: /ws/live, open: true}
"""
_spawn = multiprocessing.get_context("spawn")


class Plant:
    """The system; `count` dashboards listen to all events while somebody publishes."""

    def __init__(self, folder: Path, broker: Mosquitto, database: MariaDB, flow: str = FLOW) -> None:
        self.folder, self.broker, self.database = folder, broker, database
        self.file = folder / "bench.yaml"
        self.file.write_text(flow)
        env = {"MILLSTREAM_MQTT": broker.url, "MILLSTREAM_DATABASE": database.url}
        self.process = Millstream(folder, self.file, env=env)
        self.sent = 0

    def start(self) -> None:
        """Start Millstream and wait until it is ready."""
        self.process.start()

    @property
    def channel(self) -> str:
        """Return the address of the channel."""
        return self.process.url.replace("http", "ws", 1) + "/ws/live"

    def rows(self) -> int:
        """Return how many rows are stored."""
        return int(str(self.database.execute("SELECT count(*) FROM smart_factory.reading")[0][0]))

    def processes(self) -> list[psutil.Process]:
        """Return the gateway, then its workers."""
        return [psutil.Process(pid) for pid in (self.process.pid, *self.process.worker_pids())]

    def publish(self, rate: float, seconds: float) -> "Publishing":
        """Begin to publish at a steady rate."""
        first, self.sent = self.sent, self.sent + int(rate * (seconds + 1))
        return Publishing(self.broker.port, rate, seconds, first)

    def stop(self) -> None:
        """End it at once."""
        self.process.power_cut()


@contextmanager
def plant(flow: str = FLOW) -> Iterator[Plant]:
    """Give a plant whose broker and database run and whose Millstream is not started yet."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("mosquitto", "mariadb", "millstream"):
            (folder / part).mkdir()
        broker, database = Mosquitto(folder / "mosquitto"), MariaDB(folder / "mariadb")
        database.install()
        for server in (broker, database):
            server.start()
            stack.callback(server.kill)
        found = Plant(folder / "millstream", broker, database, flow)
        stack.callback(found.stop)
        yield found


class Listening:
    """Dashboards in a process of their own, all of one channel; with `keep`, the first one remembers all times."""

    def __init__(self, url: str, count: int = 1, *, keep: bool = True) -> None:
        self._ours, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_listen, args=(url, count, keep, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self._ours.recv() == "connected"

    def received(self) -> int:
        """Return how many events the first one has received."""
        self._ours.send("count")
        return int(self._ours.recv())

    def until(self, count: int, within: float = 60) -> None:
        """Wait until the first one has received so many events."""
        wait_until(lambda: self.received() >= count, f"{count} events at the dashboard", within)

    def end(self) -> list[tuple[int, int]]:
        """Hang up; return (sent, received) of each event, of the first dashboard."""
        self._ours.send("end")
        times = unpacked(self._ours.recv_bytes())
        self._process.join(10)
        self._ours.close()
        return times


def _listen(url: str, count: int, keep: bool, theirs: Connection) -> None:
    dashboards = [Dashboard(url, keep=keep and not number) for number in range(count)]
    ending = threading.Event()
    threads = [
        threading.Thread(target=one.run, args=(lambda so_far: ending.is_set(),), daemon=True) for one in dashboards
    ]
    for thread in threads:
        thread.start()
    theirs.send("connected")
    while theirs.recv() == "count":
        theirs.send(dashboards[0].received)
    ending.set()
    for thread in threads:
        thread.join(5)
    theirs.send_bytes(packed(dashboards[0].times))


class Publishing:
    """A device in a process of its own."""

    def __init__(self, port: int, rate: float, seconds: float, first: int = 0) -> None:
        self._ours, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_publish, args=(theirs, port, rate, seconds, first), daemon=True)
        self._process.start()
        theirs.close()

    def end(self) -> Published:
        """Wait until everything is published; return what was."""
        done: Published = self._ours.recv()
        self._process.join(10)
        self._ours.close()
        return done


def _publish(theirs: Connection, port: int, rate: float, seconds: float, first: int) -> None:
    theirs.send(publish(port, rate, seconds, first))
