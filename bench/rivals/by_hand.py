"""The work done by a script that is written for it alone: asyncio, Bytewax, mysqlclient and websockets, no more.

`by_hand.py BROKER_PORT DATABASE_PORT WEBSOCKET_PORT FOLDER`. What has arrived together stays together: it is one item
of the dataflow, and becomes one LOAD DATA. A message is acknowledged when its row is committed; what the broker then
sends again is left out by the unique number, and cars and counts are read from the tables at the start. Nothing else
of what a flow needs is here: no inbox, no snapshots, no dead letters, no reconnects, no resuming of dashboards, no
change while it runs.
"""

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bytewax.operators as op
import mqtt5
import msgspec
import MySQLdb
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from websockets.asyncio.server import ServerConnection, broadcast, serve

GATE, AT_MOST, STATISTICS = "sensor/ult01", 5_000, 0.1
HELD, PUBACK = 20, b"\x40\x02"
PASSWORD = "secret"  # noqa: S105 - of a server that lives for the bench
LOAD = "LOAD DATA LOCAL INFILE '{}' IGNORE INTO TABLE {} ({})"
LAST = "SELECT MAX(id) FROM car"
COUNTS = "SELECT device, SUM(result = 'OK'), SUM(result = 'DEFECT') FROM sensor_result GROUP BY device"
RESULT, CAR = "car_id, device, result, n, created_at", "id, created_at"


class Verdict(msgspec.Struct, gc=False):
    """What a station says."""

    device: str
    result: str
    n: int


class Batch(msgspec.Struct):
    """Messages that arrived together, and what comes of them."""

    messages: list[mqtt5.PublishPacket]
    rows: list[str] = []
    cars: list[str] = []
    defects: list[bytes] = []
    statistics: bytes = b""


class Line(asyncio.Protocol):
    """The connection to the broker (MQTT 5): batches go to `arrived`, acknowledgements go out in one write."""

    def __init__(self, arrived: "queue.Queue[Batch]") -> None:
        self._arrived, self._left = arrived, b""
        self.subscribed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connect = mqtt5.ConnectPacket("by-hand", clean_start=False, session_expiry_interval=3600, receive_max=1000)
        topics = [mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for topic in (GATE, "sensor/result")]
        transport.write(connect.write() + mqtt5.SubscribePacket(1, topics).write())

    def data_received(self, data: bytes) -> None:
        view, at, messages = memoryview(self._left + data if self._left else data), 0, []
        try:
            while at < len(view):
                packet, size = mqtt5.read(view[at:])
                at += size
                if type(packet) is mqtt5.PublishPacket:
                    messages.append(packet)
                elif type(packet) is mqtt5.SubAckPacket:
                    self.subscribed.set_result(None)
        except IndexError:
            pass
        self._left = bytes(view[at:])
        if messages:
            self._arrived.put(Batch(messages))

    def acknowledge(self, batches: list[Batch]) -> None:
        """Tell the broker that these are stored."""
        self._transport.write(
            b"".join(
                PUBACK + (message.packet_id or 0).to_bytes(2, "big") for batch in batches for message in batch.messages
            )
        )


class Arrived(StatelessSourcePartition[Batch]):
    """Takes what has arrived meanwhile as one batch."""

    def __init__(self, arrived: "queue.Queue[Batch]") -> None:
        self._arrived = arrived

    def next_batch(self) -> list[Batch]:
        try:
            found = self._arrived.get(timeout=0.05)
        except queue.Empty:
            return []
        while len(found.messages) < AT_MOST and not self._arrived.empty():
            found.messages += self._arrived.get().messages
        return [found]


class ArrivedSource(DynamicSource[Batch]):
    """The dataflow's source."""

    def __init__(self, arrived: "queue.Queue[Batch]") -> None:
        self._arrived = arrived

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Arrived:
        return Arrived(self._arrived)


class Inspection:
    """Validates, groups by car and counts."""

    def __init__(self, car: int, counts: dict[str, list[int]]) -> None:
        self._decode = msgspec.json.Decoder(Verdict).decode
        self._car, self._counts = car, counts
        self._pushed = 0.0

    def __call__(self, batch: Batch) -> Batch:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        rows, defects, counts, car, decode = [], [], self._counts, self._car, self._decode
        cars = []
        for message in batch.messages:
            if message.topic == GATE:
                car += 1
                cars.append(f"{car}\t{now}\n")
                continue
            try:
                verdict = decode(message.payload)
            except msgspec.MsgspecError:
                continue
            device, result = verdict.device.upper(), verdict.result.upper()
            if not device.isalnum() or len(device) > 50 or (result != "OK" and result != "DEFECT"):
                continue
            pair = counts.get(device) or counts.setdefault(device, [0, 0])
            if result == "OK":
                pair[0] += 1
            else:
                pair[1] += 1
                data = {"n": verdict.n, "car_id": car, "device": device}
                defects.append(msgspec.json.encode({"event": "sensor_defect", "data": data}))
            rows.append(f"{car}\t{device}\t{result}\t{verdict.n}\t{now}\n")
        self._car = car
        batch.rows, batch.cars, batch.defects = rows, cars, defects
        if time.monotonic() - self._pushed >= STATISTICS:
            self._pushed = time.monotonic()
            batch.statistics = msgspec.json.encode({"event": "stats_update", "data": {"by_device": counts}})
        return batch


class Database:
    """Writes batches by LOAD DATA on a thread of its own, while the dataflow makes the next."""

    def __init__(self, port: int, folder: Path, stored: Callable[[list[Batch]], None]) -> None:
        self._connection = MySQLdb.connect(
            host="127.0.0.1", port=port, user="millstream", passwd=PASSWORD, db="car_line", local_infile=1
        )
        self._folder, self._stored = folder, stored
        self.waiting: queue.Queue[Batch] = queue.Queue(HELD)
        self.inspection = Inspection(
            self._rows(LAST)[0][0] or 0, {name: [ok, bad] for name, ok, bad in self._rows(COUNTS)}
        )
        threading.Thread(target=self._run, daemon=True).start()

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        cursor.execute(query)
        return [(name, *map(int, numbers)) for name, *numbers in cursor.fetchall()]

    def _run(self) -> None:
        while True:
            batches = [self.waiting.get()]
            while len(batches) < HELD and not self.waiting.empty():
                batches.append(self.waiting.get())
            self._load("car", CAR, (text for batch in batches for text in batch.cars))
            self._load("sensor_result", RESULT, (text for batch in batches for text in batch.rows))
            self._connection.commit()
            self._stored(batches)

    def _load(self, table: str, columns: str, lines: Iterable[str]) -> None:
        file = self._folder / table
        file.write_text("".join(lines))
        if file.stat().st_size:
            self._connection.query(LOAD.format(file, table, columns))


class Stored(StatelessSinkPartition[Batch]):
    """Hands batches to the database's thread."""

    def __init__(self, waiting: "queue.Queue[Batch]") -> None:
        self._waiting = waiting

    def write_batch(self, items: list[Batch]) -> None:
        for batch in items:
            self._waiting.put(batch)


class StoredSink(DynamicSink[Batch]):
    """The dataflow's sink."""

    def __init__(self, waiting: "queue.Queue[Batch]") -> None:
        self._waiting = waiting

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Stored:
        return Stored(self._waiting)


def dataflow(arrived: "queue.Queue[Batch]", store: Database) -> Dataflow:
    """Return the dataflow."""
    flow = Dataflow("by_hand")
    batches = op.input("arrived", flow, ArrivedSource(arrived))
    op.output("stored", op.map("inspect", batches, store.inspection), StoredSink(store.waiting))
    return flow


async def main(broker: int, database: int, websocket: int, folder: Path) -> None:
    """Run for ever."""
    loop, clients = asyncio.get_running_loop(), set[ServerConnection]()
    arrived: queue.Queue[Batch] = queue.Queue()

    def stored(batches: list[Batch]) -> None:
        line.acknowledge(batches)
        for batch in batches:
            for text in (*batch.defects, batch.statistics):
                if text:
                    broadcast(clients, text.decode())

    def from_thread(batches: list[Batch]) -> None:
        loop.call_soon_threadsafe(stored, batches)

    store = Database(database, folder, from_thread)
    threading.Thread(target=run_main, args=(dataflow(arrived, store),), daemon=True).start()
    _, line = await loop.create_connection(lambda: Line(arrived), "127.0.0.1", broker)
    await line.subscribed

    async def listen(client: ServerConnection) -> None:
        clients.add(client)
        await client.wait_closed()
        clients.discard(client)

    async with serve(listen, "127.0.0.1", websocket, compression=None):
        await loop.create_future()


if __name__ == "__main__":
    ports = [int(text) for text in sys.argv[1:4]]
    asyncio.run(main(ports[0], ports[1], ports[2], Path(sys.argv[4])))
