"""`tap` as operations use it: on a running gateway, beside its workers; and real traffic as a flow test."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.command import environment, millstream, write
from tests.process import LOCALHOST, ROOT, wait_until
from tests.services import Millstream, MillstreamFactory, Node

FLOW = """\
flow: line
settings: {least: {default: 5}}
sources:
  gate: {http: {post: /gate, allow: anyone, time: at}}
operators:
  checked: {from: gate, validate: {device: text, n: int}}
  big:     {from: checked, where: n > settings.least}
  stats:   {from: checked, key: device, window: {every: 10s, by: event}}
sinks:
  rows:  {from: big, log: {message: it came}}
  bad:   {from: checked.rejected, log: {message: refused}}
  means: {from: stats, log: {message: mean}}
"""
Watch = Callable[..., "Watcher"]


class Watcher:
    """`millstream tap …` as a process; what it prints goes to files."""

    def __init__(self, data: Path, folder: Path, *arguments: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "millstream", "tap", *arguments],
                cwd=ROOT, env=environment(data), stdout=out, stderr=err,
            )  # fmt: skip

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.read_bytes().split(b"\n")[:-1]]

    def said(self) -> str:
        return self._err.read_text()

    def ended(self, within: float = 15) -> int:
        return self.process.wait(within)


@pytest.fixture
def line(tmp_path: Path, millstream_process: MillstreamFactory) -> Millstream:
    return millstream_process(write(tmp_path / "line.yaml", FLOW))


@pytest.fixture
def watch(line: Millstream, tmp_path: Path) -> Iterator[Watch]:
    started: list[Watcher] = []

    def start(*arguments: str) -> Watcher:
        folder = tmp_path / f"watcher {len(started)}"
        folder.mkdir()
        started.append(Watcher(line.data, folder, *arguments))
        return started[-1]

    yield start
    for watcher in started:
        watcher.process.kill()
        watcher.process.wait(10)


def post(line: Millstream, *events: dict[str, Any]) -> int:
    connection = http.client.HTTPConnection(LOCALHOST, line.port, timeout=20)
    try:
        connection.request("POST", "/gate", json.dumps(events), {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def event(n: int, device: str = "LED") -> dict[str, Any]:
    return {"device": device, "n": n, "at": "2026-03-01T08:00:00Z"}


def until_seen(line: Millstream, watcher: Watcher, *events: dict[str, Any]) -> None:
    """Send until the tap shows something: it is set a moment after the command has started."""
    before = len(watcher.events())

    def seen() -> bool:
        post(line, *events)
        return len(watcher.events()) > before or watcher.process.poll() is not None

    wait_until(seen, "the tap shows something", within=30)


def test_what_passes_a_wire_is_shown_as_json_lines(line: Millstream, watch: Watch) -> None:
    big, bad = watch("line", "big", "--count", "1"), watch("line", "checked.rejected", "--count", "1")
    also = watch("line", "big", "--count", "1")
    for watcher in (big, bad, also):
        until_seen(line, watcher, event(3), event(9), {"device": "LED", "n": "many", "at": "2026-03-01T08:00:00Z"})
        assert watcher.ended() == 0
        assert watcher.said() == ""
    [shown] = big.events()
    assert set(shown) == {"id", "time", "key", "data"}
    assert len(shown["id"]) == 32
    assert (shown["time"], shown["data"]) == ("2026-03-01T08:00:00Z", {"device": "LED", "n": 9})
    assert bad.events()[0]["data"]["reason"].startswith("n: ")
    assert also.events()[0]["data"] == {"device": "LED", "n": 9}


def test_ctrl_c_ends_it(line: Millstream, watch: Watch) -> None:
    watcher = watch("line", "gate")
    until_seen(line, watcher, event(1))
    watcher.process.send_signal(signal.SIGINT)
    assert watcher.ended() == 0
    assert watcher.said().endswith(" events shown, 0 left out\n")


def test_what_is_more_than_it_shows_is_counted(line: Millstream, watch: Watch) -> None:
    watcher = watch("line", "gate")
    until_seen(line, watcher, event(1))
    assert post(line, *(event(n) for n in range(1_000))) == 202
    wait_until(lambda: "left out" in watcher.said(), "it says what it left out", within=10)
    told = sum(int(said.split()[2]) for said in watcher.said().splitlines() if said.startswith("left out"))
    shown = [one["data"]["n"] for one in watcher.events()]
    assert shown[-150:] == list(range(shown[-1] - 149, shown[-1] + 1))
    assert 800 <= told < 1_000


def test_it_goes_on_with_the_next_worker(line: Millstream, watch: Watch) -> None:
    watcher = watch("line", "big")
    until_seen(line, watcher, event(9))
    [pid] = line.worker_pids()
    psutil.Process(pid).kill()
    wait_until(lambda: line.worker_pids() not in ([], [pid]), "there is another worker", within=30)
    until_seen(line, watcher, event(9))
    assert watcher.process.poll() is None


def test_it_goes_on_with_the_next_version_or_ends_where_the_wire_is_gone(
    line: Millstream, watch: Watch, tmp_path: Path
) -> None:
    stays, goes = watch("line", "gate"), watch("line", "big")
    until_seen(line, stays, event(9))
    until_seen(line, goes, event(9))
    write(tmp_path / "line.yaml", FLOW.replace("big", "large"))
    done = millstream(line.data, "deploy", tmp_path / "line.yaml", within=100)
    assert done.returncode == 0, done.stderr
    until_seen(line, stays, event(9))
    assert goes.ended() == 3
    assert goes.said().startswith("millstream: the tap ends: wire: a node of 'line' or node.output; got 'big'")


def test_the_gateway_stops(line: Millstream, watch: Watch) -> None:
    watcher = watch("line", "gate")
    until_seen(line, watcher, event(1))
    assert line.stop() == 0
    assert watcher.ended() == 3
    assert "Traceback" not in watcher.said()


def test_what_cannot_be_tapped(line: Millstream, tmp_path: Path) -> None:
    for arguments, code, said in (
        (("line", "bigg"), 2, "wire: a node of 'line' or node.output; got 'bigg' (did you mean 'big'?)"),
        (("line", "rows"), 2, "wire: what comes out of a node; 'rows' is a sink: look at big"),
        (("lime", "big"), 2, "a flow that is deployed (line); got 'lime'"),
        (("line",), 2, "tap: either FLOW WIRE [--count N], or FLOW --record FILE [--since 5m | --count N]"),
    ):
        done = millstream(line.data, "tap", *arguments)
        assert (done.returncode, done.stderr) == (code, f"millstream: {said}\n")
    nowhere = millstream(tmp_path / "elsewhere", "tap", "line", "big")
    assert (nowhere.returncode, "no gateway runs" in nowhere.stderr) == (3, True)


def test_on_the_web_it_needs_an_employee(line: Millstream) -> None:
    connection = http.client.HTTPConnection(LOCALHOST, line.port, timeout=20)
    connection.request("GET", "/api/flows/line/tap?wire=big")
    assert connection.getresponse().status == 401
    connection.close()


def test_a_click_on_an_edge_of_the_console_shows_what_passes(line: Millstream, node: Node) -> None:
    connection = http.client.HTTPConnection(LOCALHOST, line.port, timeout=20)
    account = {"username": "admin", "password": line.password}
    connection.request("POST", "/auth/login", json.dumps(account), {"content-type": "application/json"})
    token = json.loads(connection.getresponse().read())["access_token"]
    connection.close()
    seen = json.loads(node.run("tap.mjs", line.url, token))
    assert seen.pop("reason").startswith("n: ")
    assert seen == {"errors": [], "wire": "big", "data": "<b>LED</b>", "closed": True, "node": 0}


def test_real_traffic_becomes_a_test_of_the_flow(line: Millstream, tmp_path: Path) -> None:
    """Texts that YAML would take for something else, payloads that are no JSON, and times of their own."""
    odd = ["no", "1_000", "2026-03-01", "a: b # c", "\x07 'q' \"d\"\n", "ü😀", "{x}", "~", "", " "]
    post(line, *(event(n, device) for n, device in enumerate(odd)), {"device": 1.5, "on": None, "n": 1 << 70})
    post(line, event(7), {"n": "x", "at": "never"})
    recorded = tmp_path / "recorded.yaml"
    done = millstream(line.data, "tap", "line", "--record", recorded, "--since", "5m")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{recorded}: 13 events; put it into the flow, `millstream test` passes it\n"
    assert done.stderr.startswith("warning: the payloads in it are real data")
    whole = write(tmp_path / "whole.yaml", FLOW + recorded.read_text())
    tested = millstream(line.data, "test", whole)
    assert (tested.returncode, tested.stdout.splitlines()[-1]) == (0, "1 passed, 0 failed"), tested.stdout
    write(whole, FLOW.replace("default: 5", "default: 6") + recorded.read_text())
    assert millstream(line.data, "test", whole).returncode == 1


def test_the_latest_events_are_recorded_without_a_gateway(line: Millstream, tmp_path: Path) -> None:
    post(line, *(event(n) for n in range(20)))
    line.stop()
    recorded = tmp_path / "recorded.yaml"
    done = millstream(line.data, "tap", "line", "--record", recorded, "--count", "3")
    assert done.returncode == 0, done.stderr
    text = recorded.read_text()
    assert [f"n: {n}" in text for n in (16, 17, 18, 19)] == [False, True, True, True]
    assert os.stat(recorded).st_size < 2_000


def test_there_must_be_something_to_record(line: Millstream, tmp_path: Path) -> None:
    done = millstream(line.data, "tap", "line", "--record", tmp_path / "recorded.yaml")
    assert (done.returncode, done.stderr) == (2, "millstream: --record: events in the inbox to record; got none\n")
