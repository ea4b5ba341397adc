"""What is there goes on while something is away: a database, a worker that is stopped, a gateway, room on the disk."""

import json
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from engine.lane import LANE_LIMIT
from engine.spill import spilled_elsewhere
from tests.disk import SmallDisk, fill
from tests.process import LOCALHOST, binary, wait_until
from tests.services import MariaDB, Millstream, MillstreamFactory, Mosquitto

FLOW = """\
flow: line
tables: {reading: {id: serial, n: int}}
sources:
  in:  {http: {post: /in, allow: anyone}}
  ask: {http: {post: /ask, allow: anyone, reply: flow, timeout: 20s}}
sinks:
  rows:   {from: in, sql: {table: reading}}
  pushed: {from: in, channel: {name: board, event: reading}}
  answer: {from: ask, reply: {}}
channels:
  board: {path: /ws/board, open: true}
"""
FORWARD = """\
flow: line
sources:
  in:  {http: {post: /in, allow: anyone}}
  ask: {http: {post: /ask, allow: anyone, reply: flow, timeout: 20s}}
sinks:
  rows:   {from: in, mqtt: {topic: "'out'"}}
  answer: {from: ask, reply: {}}
"""
CHUNK = 2_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "line.yaml"
    file.write_text(FLOW)
    return file


class Sender:
    """Posts numbered events and remembers which were acknowledged."""

    def __init__(self, process: Millstream) -> None:
        self.process, self.acknowledged = process, 0

    def send(self, count: int) -> int:
        """Post the next numbers and return the status; what was not acknowledged is posted again by the next call."""
        body = [{"n": self.acknowledged + number} for number in range(count)]
        status = self._post("/in", body).status_code
        self.acknowledged += count if status == 202 else 0
        return status

    def stream(self, count: int) -> None:
        for _ in range(0, count, CHUNK):
            assert self.send(CHUNK) == 202

    def ask(self, number: int) -> None:
        assert self._post("/ask", {"n": number}).json() == {"n": number}

    def _post(self, path: str, body: Any) -> httpx2.Response:
        return httpx2.post(self.process.url + path, json=body, timeout=30, trust_env=False)


@contextmanager
def watching(process: Millstream) -> Iterator[list[int]]:
    """Collect the numbers that the channel brings."""
    found: list[int] = []

    def read() -> None:
        try:
            for message in websocket:
                frame = json.loads(message)
                if frame["event"] == "reading":
                    found.append(frame["data"]["n"])
        except ConnectionClosed:
            return

    with connect(f"ws://127.0.0.1:{process.port}/ws/board", max_queue=None, proxy=None) as websocket:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield found
    reader.join(5)


def worker(process: Millstream) -> psutil.Process:
    [pid] = process.worker_pids()
    return psutil.Process(pid)


def flow_state(process: Millstream) -> Any:
    return httpx2.get(f"{process.url}/health", timeout=5, trust_env=False).json()["flows"]["line"]


def ready(process: Millstream) -> None:
    wait_until(process.ready, "every flow runs", within=60)


def spilled(process: Millstream) -> int:
    """Return how many events the spill of the sink holds on the disk."""
    return spilled_elsewhere(process.data / "flows" / "line", set()).get("rows", 0)


def rows(mariadb: MariaDB, database: str) -> list[Any]:
    return [row[0] for row in mariadb.execute(f"SELECT n FROM {database}.reading ORDER BY id")]  # noqa: S608


def test_channels_and_answers_go_on_while_the_database_is_away(
    file: Path, mariadb: MariaDB, millstream_process: MillstreamFactory
) -> None:
    """The worker is killed as well while most of it is on the disk, and once more while it catches up."""
    process = millstream_process(file, env={"MILLSTREAM_DATABASE": mariadb.database("away")})
    sender = Sender(process)
    with watching(process) as pushed:
        sender.stream(2 * CHUNK)
        mariadb.stop()
        sender.stream(LANE_LIMIT + 5 * CHUNK)
        wait_until(lambda: len(pushed) == sender.acknowledged, "the channel has everything", within=30)
        sender.ask(1)
        wait_until(lambda: spilled(process) > LANE_LIMIT, "more than a lane holds is on the disk")
        worker(process).kill()
        ready(process)
        sender.stream(CHUNK)
        sender.ask(2)
        mariadb.start()
        wait_until(lambda: len(rows(mariadb, "away")) > 3 * CHUNK, "it catches up")
        worker(process).kill()
        wait_until(lambda: len(rows(mariadb, "away")) >= sender.acknowledged, "everything is stored", within=60)
        assert rows(mariadb, "away") == list(range(sender.acknowledged))
        wait_until(lambda: len(pushed) >= sender.acknowledged, "the channel has the rest")
        assert pushed == list(range(sender.acknowledged))
    wait_until(lambda: not spilled(process), "the spill is empty")


def test_a_flow_goes_on_while_the_broker_that_it_publishes_to_is_away(
    tmp_path: Path, mosquitto: Mosquitto, millstream_process: MillstreamFactory
) -> None:
    file = tmp_path / "line.yaml"
    file.write_text(FORWARD)
    process = millstream_process(file, env={"MILLSTREAM_MQTT": mosquitto.url})
    sender = Sender(process)
    with subscribed(mosquitto, tmp_path) as received:
        sender.stream(CHUNK)
        wait_until(lambda: len(received()) == CHUNK, "it publishes")
        mosquitto.stop()
        sender.stream(2 * CHUNK)
        wait_until(lambda: spilled(process) == 2 * CHUNK, "the rest is on the disk", within=20)
        sender.ask(1)
        mosquitto.start()
        wait_until(lambda: len(received()) >= sender.acknowledged, "everything is published")
        assert received() == list(range(sender.acknowledged))
    wait_until(lambda: not spilled(process), "the spill is empty")


def numbers(text: bytes) -> list[int]:
    return [json.loads(line)["n"] for line in text.splitlines(keepends=True) if line[:1] == b"{" and line[-1:] == b"\n"]


@contextmanager
def subscribed(mosquitto: Mosquitto, folder: Path) -> Iterator[Callable[[], list[int]]]:
    """Give what returns the numbers that came to the topic `out`, each once: MQTT may bring it again."""
    lines = folder / "lines"
    command = [
        binary("stdbuf"),
        "-oL",
        binary("mosquitto_sub"),
        "-h",
        LOCALHOST,
        "-p",
        str(mosquitto.port),
        "-t",
        "out",
        "-q",
        "1",
    ]
    with (
        lines.open("wb") as out,
        subprocess.Popen([*command, "-c", "-i", "outage", "-F", "%p", "-d"], stdout=out) as process,
    ):
        try:
            wait_until(lambda: b"SUBACK" in lines.read_bytes(), "it is subscribed")
            yield lambda: list(dict.fromkeys(numbers(lines.read_bytes())))
        finally:
            process.terminate()


def test_a_stopped_worker_is_replaced_and_one_that_goes_on_in_time_is_not(
    file: Path, millstream_process: MillstreamFactory
) -> None:
    process = millstream_process(file)
    sender = Sender(process)
    sender.stream(CHUNK)
    first = worker(process)
    first.suspend()
    sender.stream(CHUNK)
    first.resume()
    sender.ask(1)
    assert worker(process) == first
    first.suspend()
    sender.stream(CHUNK)
    wait_until(lambda: flow_state(process)["restarts"] == 1, "it is replaced", within=40)
    assert "stopped answering" in process.output()
    ready(process)
    sender.ask(2)
    assert_stored_once(process, sender)


def assert_stored_once(process: Millstream, sender: Sender) -> None:
    def found() -> list[int]:
        with closing(sqlite3.connect(process.data / "millstream.db", timeout=30)) as file:
            return [row[0] for row in file.execute("SELECT n FROM reading ORDER BY id")]

    wait_until(lambda: len(found()) >= sender.acknowledged, "everything is stored", within=60)
    assert found() == list(range(sender.acknowledged))


def test_a_gateway_that_is_stopped_for_a_while_loses_nothing(file: Path, millstream_process: MillstreamFactory) -> None:
    process = millstream_process(file)
    sender, gateway = Sender(process), psutil.Process(process.pid)
    with watching(process) as pushed:
        sender.stream(CHUNK)
        gateway.suspend()
        streaming = threading.Thread(target=sender.stream, args=(5 * CHUNK,), daemon=True)
        streaming.start()
        streaming.join(4)
        assert streaming.is_alive()
        gateway.resume()
        streaming.join(30)
        assert sender.acknowledged == 6 * CHUNK
        wait_until(lambda: len(pushed) >= sender.acknowledged, "the channel has everything")
        assert pushed == list(range(sender.acknowledged))
    assert_stored_once(process, sender)
    assert flow_state(process) == {"state": "running", "restarts": 0}


def test_a_stopped_worker_of_a_killed_gateway_does_not_keep_the_flow(
    file: Path, millstream_process: MillstreamFactory
) -> None:
    process = millstream_process(file)
    sender = Sender(process)
    sender.stream(CHUNK)
    orphan = worker(process)
    orphan.suspend()
    sender.stream(CHUNK)
    process.kill()
    assert orphan.status() == psutil.STATUS_STOPPED
    process.start()
    wait_until(lambda: not orphan.is_running(), "the orphan is gone")
    assert_stored_once(process, sender)


def test_a_full_disk_is_told_to_senders_and_is_over_when_there_is_room(file: Path, small_disk: SmallDisk) -> None:
    disk = small_disk("400m")
    process = Millstream(file.parent, file)
    process.data = disk / "data"
    with process:
        sender = Sender(process)
        sender.stream(2 * CHUNK)
        fill(disk / "ballast")
        wait_until(lambda: sender.send(10) == 503, "senders are told", within=10)
        wait_until(lambda: flow_state(process)["state"] == "restarting", "the flow has no room", within=20)
        wait_until(lambda: flow_state(process)["restarts"] > 2, "it is tried again and again", within=40)
        assert f"the disk of {process.data} is full; this goes on when there is room" in process.output()
        (disk / "ballast").unlink()
        wait_until(lambda: sender.send(10) == 202, "senders go on", within=10)
        ready(process)
        assert_stored_once(process, sender)
