"""A dashboard that comes back with its last number: the gateway killed, the power cut, a version deployed in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import connect

from tests.millstream_process import Millstream
from tests.packs.car_inspection.device import Device
from tests.process import ROOT, wait_until
from tests.services import Mosquitto, Node

NUMBERS, CHUNK, AHEAD = 6_000, 100, 1_000
PATIENCE = 60.0
FLOW = """
flow: numbers
sources:
  readings: {mqtt: {topics: [numbers], qos: 1}}
operators:
  defects: {from: readings, where: n % 2 == 0}
sinks:
  each: {from: defects, channel: {name: dashboard, event: defect}}
  last: {from: readings, channel: {name: dashboard, event: last, keep: last, at_most: 5/s}}
channels:
  dashboard: {path: /ws/numbers, open: true, history: 20000}
"""


class Dashboard(threading.Thread):
    """Listens, and whenever its connection ends comes back with the last number that it has seen."""

    def __init__(self, process: Millstream) -> None:
        super().__init__(daemon=True)
        self._url = f"ws://127.0.0.1:{process.port}/ws/numbers"
        self.frames: list[dict[str, Any]] = []
        self.connections = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError, InvalidHandshake, WebSocketException, EOFError):
                self._listen()
            time.sleep(0.02)

    def _listen(self) -> None:
        after = f"?after={self.frames[-1]['id']}" if self.frames else ""
        with connect(self._url + after, open_timeout=5, close_timeout=1, proxy=None) as socket:
            self.connections += 1
            while not self._ended.is_set():
                with suppress(TimeoutError):
                    self.frames.append(json.loads(socket.recv(timeout=0.2)))

    def end(self) -> None:
        self._ended.set()
        self.join(10)

    def values(self, event: str) -> list[int]:
        return [frame["data"]["n"] for frame in list(self.frames) if frame["event"] == event]


@pytest.fixture
def process(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Millstream]:
    (tmp_path / "numbers.yaml").write_text(FLOW)
    with Millstream(tmp_path, tmp_path / "numbers.yaml", env={"MILLSTREAM_MQTT": mosquitto.url}) as running:
        yield running


def kill_gateway(process: Millstream) -> None:
    process.kill()
    process.start()


def cut_the_power(process: Millstream) -> None:
    process.power_cut()
    process.start()


def deploy(process: Millstream) -> None:
    """Deploy a version whose defects are found by another expression; the channel stays as it is."""
    path = process.folder / "numbers.yaml"
    path.write_text(path.read_text().replace("n % 2 == 0", "n >= 0 and n % 2 == 0"))
    command = [sys.executable, "-m", "millstream", "deploy", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=process.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("disturb", "connections"), [(kill_gateway, 4), (cut_the_power, 4), (deploy, 1)])
def test_every_number_once_in_order_without_a_gap(
    process: Millstream, mosquitto: Mosquitto, disturb: Callable[[Millstream], None], connections: int
) -> None:
    dashboard = Dashboard(process)
    dashboard.start()
    wait_until(lambda: dashboard.connections, "the dashboard is connected", PATIENCE)
    publisher = Publisher(mosquitto)
    publisher.start()
    for moment in (NUMBERS // 4, NUMBERS // 2, NUMBERS * 3 // 4):
        comes(dashboard, "defect", moment)
        publisher.limit = moment + NUMBERS // 4 + AHEAD
        disturb(process)
    publisher.join(PATIENCE)
    comes(dashboard, "defect", NUMBERS - 2)
    comes(dashboard, "last", NUMBERS - 1)
    dashboard.end()
    assert dashboard.connections == connections
    assert dashboard.values("defect") == list(range(0, NUMBERS, 2))
    assert dashboard.values("last") == sorted(set(dashboard.values("last")))
    runs, numbers = zip(*(frame["id"].split("-") for frame in dashboard.frames), strict=True)
    assert len(set(runs)) == 1
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))


def comes(dashboard: Dashboard, event: str, value: int) -> None:
    def there() -> bool:
        return max(dashboard.values(event), default=-1) >= value

    wait_until(there, f"{event} {value} comes", PATIENCE)


def test_a_browser_that_listens_by_event_source_misses_nothing(
    process: Millstream, mosquitto: Mosquitto, node: Node
) -> None:
    """It comes back by itself with the last number that it has seen, as the HTML standard says."""
    dashboard = Dashboard(process)
    dashboard.start()
    publisher = Publisher(mosquitto)
    publisher.start()
    comes(dashboard, "defect", 0)
    run = dashboard.frames[0]["id"].split("-")[0]
    begun = process.folder / "begun"
    script = ("events.mjs", process.url, f"/ws/numbers?after={run}-0", "defect", str(NUMBERS // 2), str(begun))
    with ThreadPoolExecutor(1) as thread:
        page = thread.submit(node.run, *script, within=2 * PATIENCE)
        for moment in (NUMBERS // 4, NUMBERS // 2):
            comes(dashboard, "defect", moment)
            wait_until(
                lambda: page.done() or (begun.exists() and has_browser(process.port)), "the page listens", PATIENCE
            )
            publisher.limit = moment + NUMBERS // 4 + AHEAD
            kill_gateway(process)
        publisher.limit = NUMBERS
        seen = json.loads(page.result())
    publisher.join(PATIENCE)
    dashboard.end()
    assert [data["n"] for _, data in seen["got"]] == list(range(0, NUMBERS, 2))
    assert seen["opened"] == 3


def has_browser(port: int) -> bool:
    """Tell whether a browser holds a connection to the port."""
    pids = {c.pid for c in psutil.net_connections("tcp") if c.raddr and c.raddr.port == port and c.pid}
    with suppress(psutil.NoSuchProcess):
        return any("chrom" in psutil.Process(pid).name() for pid in pids)
    return False


class Publisher(threading.Thread):
    """Publishes numbers at QoS 1 up to a limit, so that each disturbance comes in the middle of the stream."""

    def __init__(self, mosquitto: Mosquitto) -> None:
        super().__init__(daemon=True)
        self._port, self.limit = mosquitto.port, NUMBERS // 4 + AHEAD

    def run(self) -> None:
        with Device(self._port) as device:
            for begin in range(0, NUMBERS, CHUNK):
                self._wait_for_room(begin)
                device.publish(("numbers", {"n": number}) for number in range(begin, begin + CHUNK))

    def _wait_for_room(self, begin: int) -> None:
        wait_until(lambda: begin < self.limit, "there is room", PATIENCE)
