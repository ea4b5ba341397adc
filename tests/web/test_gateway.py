"""The gateway and its workers as processes: what a kill, a crash, a lost answer and an edited file do."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from websockets.sync.client import connect

from engine.inbox_file import open_readable, progress
from tests.process import wait_until
from tests.services import MariaDB, Millstream, MillstreamFactory

STEADY = """\
flow: steady
sources:
  ask:   {http: {post: /ask, allow: anyone, reply: flow, timeout: 1s}}
  loose: {http: {post: /loose, allow: anyone, reply: flow, timeout: 5s}}
  late:  {http: {post: /late, allow: anyone}}
operators:
  checked: {from: ask, validate: {n: int}}
  lax:     {from: loose, on_error: drop, validate: {n: int}}
  doubled: {from: checked, set: {twice: n * 2}}
sinks:
  answer: {from: doubled, where: n < 100, reply: {}}
  other:  {from: lax, reply: {status: 201}}
  noted:  {from: late, channel: {name: board, event: note, keep: last}}
channels:
  board: {path: /ws/board, open: true, on_connect: {last: note}}
queries:
  last: {get: /last, allow: anyone, channel: board.note, empty: {}}
"""
FRAGILE = """\
flow: fragile
sources:
  in: {http: {post: /fragile, allow: anyone}}
operators:
  work: {from: in, python: {file: work.py}}
sinks:
  out: {from: work, log: {message: it came}}
"""
WORK = """\
import os, sys


def process(data):
    if data.get("poison"):
        print("the model cannot be loaded", file=sys.stderr, flush=True)
        os._exit(1)
    return data
"""
STORED = """\
flow: stored
tables: {reading: {id: serial, n: int}}
sources:
  in: {http: {post: /in, allow: anyone}}
sinks:
  kept: {from: in, sql: {table: reading}}
"""


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("steady")
    (folder / "steady.yaml").write_text(STEADY)
    with Millstream(folder, folder / "steady.yaml") as process:
        yield process


@pytest.fixture(autouse=True)
def up_again(request: pytest.FixtureRequest) -> None:
    if "steady" in request.fixturenames:
        request.getfixturevalue("steady").start()


def post(process: Millstream, path: str, body: Any) -> tuple[int, Any]:
    answer = httpx2.post(process.url + path, json=body, timeout=20, trust_env=False)
    return answer.status_code, answer.json()


def health(process: Millstream) -> Any:
    return httpx2.get(f"{process.url}/health", timeout=5, trust_env=False).json()


def last(process: Millstream) -> Any:
    return httpx2.get(f"{process.url}/last", timeout=5, trust_env=False).json()


def ready(process: Millstream) -> None:
    wait_until(process.ready, "every flow runs", within=60)


def test_an_answer_comes_from_the_flow(steady: Millstream) -> None:
    assert post(steady, "/ask", {"n": 4}) == (200, {"n": 4, "twice": 8})
    assert post(steady, "/loose", {"n": 4}) == (201, {"n": 4})


def test_answers_of_two_sinks_do_not_wait_for_each_other(steady: Millstream) -> None:
    with httpx2.Client(base_url=steady.url, timeout=20, trust_env=False) as client:
        statuses = [client.post(path, json={"n": n}).status_code for n in range(50) for path in ("/ask", "/loose")]
    assert statuses == [200, 201] * 50


@pytest.mark.parametrize("path", ["/ask", "/loose"])
def test_a_dead_letter_is_answered_even_where_it_is_dropped(steady: Millstream, path: str) -> None:
    status, body = post(steady, path, {"n": "four"})
    assert status == 422
    assert body["error"]["code"] == "invalid_event"
    assert [field["field"] for field in body["error"]["fields"]] == ["n"]


def test_an_answer_that_does_not_come_is_a_504_with_the_id(steady: Millstream) -> None:
    status, body = post(steady, "/ask", {"n": 100})
    assert status == 504
    assert body["error"]["code"] == "timeout"
    assert len(bytes.fromhex(body["error"]["id"])) == 16


def test_an_idle_flow_takes_next_to_nothing(steady: Millstream) -> None:
    [worker] = map(psutil.Process, steady.worker_pids())
    gateway = psutil.Process(steady.pid)
    shares = {"worker": worker.cpu_percent, "gateway": gateway.cpu_percent}
    for share in shares.values():
        share()
    with pytest.raises(psutil.TimeoutExpired):
        worker.wait(timeout=5)
    percent = {name: share() for name, share in shares.items()}
    memory = [process.memory_info().rss >> 20 for process in (worker, gateway)]
    sys.stdout.write(f"idle: {percent} % of a core; memory of worker and gateway {memory} MiB\n")
    assert percent["worker"] < 5
    assert percent["gateway"] < 5


def test_a_killed_worker_comes_back(steady: Millstream) -> None:
    [before] = steady.worker_pids()
    psutil.Process(before).kill()
    wait_until(lambda: steady.health() == 503, "its absence is seen", within=5)
    assert health(steady)["status"] == "starting"
    ready(steady)
    [after] = steady.worker_pids()
    assert after != before
    assert "reason='ended by SIGKILL'" in steady.output()
    assert post(steady, "/ask", {"n": 1})[0] == 200


def test_a_killed_gateway_takes_everything_with_it_and_the_next_goes_on(steady: Millstream) -> None:
    assert post(steady, "/late", {"text": "before"})[0] == 202
    [old] = map(psutil.Process, steady.worker_pids())
    old.suspend()  # it takes its time to end
    steady.kill()
    starting = threading.Thread(target=steady.start)
    starting.start()
    wait_until(lambda: len(steady.worker_pids()) == 2, "the next gateway has started its worker")
    new = next(pid for pid in steady.worker_pids() if pid != old.pid)
    wait_until(lambda: waits_for_the_lock(new), "the new worker waits for the old one")
    old.resume()
    starting.join(60)
    assert new in steady.worker_pids()
    assert post(steady, "/late", {"text": "after"})[0] == 202
    steady.kill()
    wait_until(lambda: not steady._processes(), "workers and broker end by themselves", within=10)


def waits_for_the_lock(pid: int) -> bool:
    return any(file.path.endswith("worker.lock") for file in psutil.Process(pid).open_files())


def test_kept_values_are_there_after_everything_was_killed(steady: Millstream) -> None:
    assert post(steady, "/late", {"text": "kept"})[0] == 202
    wait_until(lambda: last(steady) == {"text": "kept"}, "it is there")
    [worker] = map(psutil.Process, steady.worker_pids())
    wait_until(lambda: covered(steady), "it is in a snapshot", within=10)
    worker.suspend()  # whatever it would still do
    steady.power_cut()
    steady.start()
    ready(steady)
    wait_until(lambda: last(steady) == {"text": "kept"}, "the query has it", within=10)
    with connect(steady.url.replace("http", "ws") + "/ws/board", proxy=None) as client:
        assert '"text":"kept"' in str(client.recv(timeout=10))


def covered(process: Millstream) -> bool:
    """Tell whether a snapshot covers all that came."""
    connection = open_readable(process.data / "flows" / "steady" / "inbox.db")
    with closing(connection):
        [head] = connection.execute("select max(first + count - 1) from block").fetchone()
        return bool(progress(connection).used == head)


POISON = {"poison": True}


def test_a_flow_that_crashes_again_and_again_is_parked_and_the_other_goes_on(
    tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    for name, text in (("fragile.yaml", FRAGILE), ("steady.yaml", STEADY), ("work.py", WORK)):
        (tmp_path / name).write_text(text)
    process = millstream_process(tmp_path)
    assert post(process, "/fragile", POISON)[0] == 202
    wait_until(lambda: health(process)["flows"]["fragile"]["state"] == "parked", "it is parked", within=90)
    assert health(process) == {
        "status": "failing",
        "flows": {"fragile": {"state": "parked", "restarts": 6}, "steady": {"state": "running", "restarts": 0}},
    }
    assert "flow     fragile: parked, the model cannot be loaded" in process.output()
    assert post(process, "/ask", {"n": 3}) == (200, {"n": 3, "twice": 6})
    assert post(process, "/fragile", {})[0] == 202


def test_a_broken_recovery_store_is_told_and_parks_the_flow_at_once(tmp_path: Path) -> None:
    (tmp_path / "steady.yaml").write_text(STEADY)
    store = tmp_path / "data" / "flows" / "steady" / "recovery" / "part-0.sqlite3"
    store.parent.mkdir(parents=True)
    store.write_bytes(b"no store" * 1000)
    process = Parked(tmp_path, tmp_path / "steady.yaml")
    with process:
        assert health(process)["flows"]["steady"] == {"state": "parked", "restarts": 1}
        assert f"flow     steady: parked, {store}: a recovery store; file is not a database." in process.output()
        assert "Traceback" not in process.output()


class Parked(Millstream):
    def ready(self) -> bool:
        return "parked" in self.output()


def test_a_worker_that_starts_again_runs_what_was_deployed(
    tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    file = tmp_path / "steady.yaml"
    file.write_text(STEADY)
    process = millstream_process(file)
    file.write_text(STEADY.replace("n * 2", "n * 3"))
    [worker] = map(psutil.Process, process.worker_pids())
    worker.kill()
    wait_until(lambda: process.health() == 503, "its absence is seen", within=5)
    ready(process)
    assert post(process, "/ask", {"n": 1}) == (200, {"n": 1, "twice": 2})
    process.stop()
    process.start()
    assert post(process, "/ask", {"n": 1}) == (200, {"n": 1, "twice": 3})


def test_a_stop_with_a_database_that_is_away_ends_in_time(
    tmp_path: Path, mariadb: MariaDB, millstream_process: MillstreamFactory
) -> None:
    file = tmp_path / "stored.yaml"
    file.write_text(STORED)
    process = millstream_process(file, env={"MILLSTREAM_DATABASE": mariadb.database("away_at_stop")})
    mariadb.stop()
    body = [{"n": n} for n in range(5000)]
    for _ in range(6):  # more than a lane takes: it waits on the disk
        assert post(process, "/in", body)[0] == 202
    wait_until(lambda: "sink waits for its target" in process.output(), "the sink waits")
    process.stop()
    assert "not all was written before the stop" not in process.output()
    assert "killed: it did not stop in time" not in process.output()
    assert "Traceback" not in process.output()
    mariadb.start()
    process.start()
    wait_until(lambda: rows(mariadb) == 30_000, "everything is stored once", within=60)


def rows(mariadb: MariaDB) -> int:
    [[count]] = mariadb.execute("SELECT COUNT(*) FROM away_at_stop.reading")
    return int(str(count))


class Eager(Millstream):
    """One that is taken to be there as soon as anything answers."""

    def ready(self) -> bool:
        return self.health() is not None


def test_a_flow_is_not_ready_before_its_subscriptions_are(tmp_path: Path) -> None:
    """A broker takes what is published to a topic that nobody has subscribed to, and it is gone."""
    (tmp_path / "flow.yaml").write_text(
        STEADY.replace("late:  {http: {post: /late, allow: anyone}}", "late: {mqtt: {topics: [t]}}")
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        with Eager(tmp_path, tmp_path / "flow.yaml", env={"MILLSTREAM_MQTT": address}) as process:
            wait_until(lambda: "flow     steady: running" in process.output(), "its worker runs", within=20)
            assert process.health() == 503
            silent.close()
            wait_until(lambda: process.health() == 200, "what can't be had is not waited for", within=30)
