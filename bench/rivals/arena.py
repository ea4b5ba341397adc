"""Where they compete: one Mosquitto and one MariaDB; each contestant gets the same stream by the same publisher."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench.rivals.contestants import DATABASE, Contestant, Services
from bench.rivals.dashboards import CLIENTS, Dashboards, Seen
from bench.rivals.meter import Cost, Meter, cpu_seconds, paused
from bench.rivals.publisher import Order, Publisher, Sent
from bench.rivals.stream import expected, is_row
from bench.rivals.table import Watch
from tests.services import MariaDB, Mosquitto

WARM, WARM_RATE, LATEST = 2_000, 1_000.0, 5.0


class Run(msgspec.Struct):
    """What a part of the stream took: seconds from the first publish to the last row, its cost, what was seen when."""

    order: Order
    begun: float
    seconds: float
    rows: int
    cost: Cost
    server_cpu: list[float]
    defects: int
    seen: Seen
    looks: list[tuple[float, int]]

    @property
    def rate(self) -> float:
        """Return rows/s."""
        return self.rows / self.seconds

    @property
    def cpu(self) -> float:
        """Return microseconds of CPU a message."""
        return self.cost.cpu / self.order.count * 1e6

    def to_row(self) -> list[float]:
        """Return milliseconds from when each message was due to when its row was visible, sorted."""
        found, at = [], self.order.first
        for when, newest in self.looks:
            found += [when - self._due(n) for n in range(at, newest + 1) if is_row(n)]
            at = max(at, newest + 1)
        return sorted(1000 * seconds for seconds in found)

    def to_dashboard(self) -> list[float]:
        """Return milliseconds from when each defect was due to when a dashboard had it, sorted."""
        return sorted(1000 * (when - self._due(n)) for n, when in self.seen if n >= self.order.first)

    def _due(self, n: int) -> float:
        return self.begun + (n - self.order.first) / self.order.rate


class QuietMosquitto(Mosquitto):
    """Writes its queues to disk when it ends only, as Mosquitto's own default nearly does (every half hour)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        file = folder / "mosquitto.conf"
        file.write_text(file.read_text().replace("autosave_interval 1\n", "autosave_interval 1800\n"))


class LargeMariaDB(MariaDB):
    """With room for what is written here, so that its disk is not what is measured."""

    def command(self) -> list[str]:
        return [*super().command(), "--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M"]


@contextmanager
def database() -> Iterator[tuple[Path, MariaDB]]:
    """Give a folder, and a database that runs."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        server = LargeMariaDB(_made(Path(name), "mariadb"))
        server.install()
        try:
            server.start()
            yield Path(name), server
        finally:
            server.kill()


def _made(folder: Path, name: str) -> Path:
    found = folder / name
    found.mkdir()
    return found


@contextmanager
def match(kind: type[Contestant], folder: Path, server: MariaDB) -> Iterator[Match]:
    """Give a contestant that runs, with a broker that knows no session of somebody before."""
    folder.mkdir()
    broker = QuietMosquitto(_made(folder, "mosquitto"))
    with ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        contestant = kind(_made(folder, "contestant"), Services(broker, server))
        try:
            yield Match(contestant, stack)
        except Exception as fault:
            fault.add_note(f"{kind.title}; the end of its output:\n{contestant.output()[-2000:]}")
            raise


class Match:
    """One contestant who runs, warm: the stream goes on from part to part."""

    def __init__(self, contestant: Contestant, stack: ExitStack) -> None:
        self.contestant, self.services, self._next, self._defects = contestant, contestant.services, 0, 0
        stack.callback(contestant.kill)
        contestant.start()
        self._publisher = stack.enter_context(Publisher(self.services.broker.port))
        self._dashboards = stack.enter_context(Dashboards(contestant.dashboard))
        self.watch = stack.enter_context(Watch(self.services.database.port, DATABASE))
        self.part(WARM, WARM_RATE)

    def part(self, count: int, rate: float = 0) -> Run:
        """Publish a part of the stream; it is over when its last row is visible."""
        return self._run(Order(self._next, count, rate), self._publisher.begin)

    def backlog(self, count: int) -> Run:
        """Fill the queue at the broker while the contestant is stopped; the run begins when it may go on."""
        return self._run(Order(self._next, count), self._fill)

    def _fill(self) -> Sent:
        with paused(self.contestant.pid):
            self._publisher.begin()
            self._publisher.sent()
        return Sent(time.monotonic(), 0)

    def _run(self, order: Order, begin: Callable[[], Sent | None]) -> Run:
        self._publisher.prepare(order)
        self._next += order.count
        wanted, before = expected(self._next), expected(order.first)
        looked, servers = len(self.watch.looks), self._server_cpu()
        with Meter(self.contestant.pid) as meter:
            sent = begin()
            ended = self.watch.until(wanted)
        sent = sent or self._publisher.sent()
        seen = self._seen((wanted.defects - before.defects) * CLIENTS)
        return Run(
            order,
            sent.begun,
            ended - sent.begun,
            wanted.rows - before.rows,
            meter.cost,
            [after - earlier for after, earlier in zip(self._server_cpu(), servers, strict=True)],
            (wanted.defects - before.defects) * CLIENTS,
            seen,
            self.watch.looks[looked:],
        )

    def _seen(self, wanted: int) -> Seen:
        seen: Seen = []
        end = time.monotonic() + LATEST
        while len(seen) < wanted and time.monotonic() < end:
            seen += self._dashboards.take()
            time.sleep(0.01)
        return seen

    def _server_cpu(self) -> list[float]:
        return [cpu_seconds(server.pid) for server in (self.services.broker, self.services.database)]
