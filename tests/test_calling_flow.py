"""A flow that asks a model server, as operations run it: killed, stopped and started while answers are outstanding."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.millstream_process import Millstream
from tests.model_server import ModelServer
from tests.process import wait_until

FLOW = """
flow: plant
settings: {{url: {{env: MODEL_URL, default: "http://127.0.0.1:9/predict"}}}}
tables:
  labelled: {{id: serial, n: int, label: text(10)}}
  plain:    {{id: serial, n: int}}
  windows:  {{id: serial, start: time, n: int}}
sources:
  readings: {{http: {{post: /readings, allow: anyone}}}}
operators:
  asked:
    from: readings
    call: {{url: "${{url}}", batch: 16, linger: 2ms, fields: [label], retry: {{times: 20, wait: 50ms}}, most: {most}}}
  counted: {{from: asked, window: {{every: 1s, compute: {{n: count}}}}}}
sinks:
  labelled: {{from: asked, sql: {{table: labelled}}}}
  plain:    {{from: readings, sql: {{table: plain}}}}
  windows:  {{from: counted, sql: {{table: windows}}}}
"""


class Plant:
    """The flow, its server, and what stands in its tables."""

    def __init__(self, running: Millstream, server: ModelServer) -> None:
        self.running, self.server = running, server

    def send(self, first: int, number: int) -> None:
        body = [{"n": n} for n in range(first, first + number)]
        assert httpx2.post(f"{self.running.url}/readings", content=json.dumps(body), timeout=20).is_success

    def numbers(self, table: str) -> list[int]:
        with closing(sqlite3.connect(f"file:{self.running.data / 'millstream.db'}?mode=ro", uri=True)) as database:
            return [n for (n,) in database.execute(f"select n from {table} order by id")]  # noqa: S608

    def has(self, table: str, number: int) -> None:
        wait_until(lambda: len(self.numbers(table)) >= number, f"{number} rows of {table}", within=40)

    def kill(self) -> None:
        """Kill the worker, and wait until there is another."""
        (pid,) = self.running.worker_pids()
        psutil.Process(pid).kill()
        wait_until(lambda: self.running.worker_pids() not in ([], [pid]), "another worker", within=30)

    def whole(self, number: int) -> None:
        """All numbers have one row each, in order, and each is in one window."""
        self.has("labelled", number)
        assert self.numbers("labelled") == [*range(number)]
        assert self.numbers("plain") == [*range(number)]
        wait_until(lambda: sum(self.numbers("windows")) >= number, "all windows", within=20)
        assert sum(self.numbers("windows")) == number


@pytest.fixture
def plant(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Plant]:
    (tmp_path / "plant.yaml").write_text(FLOW.format(most=getattr(request, "param", 10_000)))
    with ModelServer() as server:
        running = Millstream(tmp_path, tmp_path / "plant.yaml", env={"MODEL_URL": server.url})
        with running:
            yield Plant(running, server)


def test_what_waits_survives_kills_and_a_stop_and_the_rest_goes_on(plant: Plant) -> None:
    plant.server.held.clear()
    plant.send(0, 100)
    plant.has("plain", 100)
    assert plant.numbers("labelled") == []
    plant.kill()
    plant.send(100, 100)
    plant.has("plain", 200)
    plant.running.stop()
    assert "Unclosed" not in plant.running.output()
    asked = len(plant.server.asked)
    plant.running.start()
    wait_until(lambda: len(plant.server.asked) > asked, "it is asked again", within=30)
    assert plant.numbers("labelled") == []
    plant.server.held.set()
    plant.whole(200)


def test_nothing_is_lost_or_doubled_by_kills_amid_answers(plant: Plant) -> None:
    for kill in range(3):
        for part in range(10):
            plant.send(kill * 500 + part * 50, 50)
            if part == 5:
                plant.kill()
    plant.whole(1500)


@pytest.mark.parametrize("plant", [50], indirect=True)
def test_a_flow_in_which_too_many_wait_reads_no_more_and_goes_on_later(plant: Plant) -> None:
    plant.server.held.clear()
    plant.send(0, 60)
    plant.has("plain", 60)
    plant.send(60, 60)
    plant.kill()
    assert plant.numbers("plain") == [*range(60)]
    plant.server.held.set()
    plant.whole(120)
