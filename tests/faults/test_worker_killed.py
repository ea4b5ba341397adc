"""`kill -9` in the middle of a stream: every message is stored and counted exactly once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tests.packs.car_inspection.line import Backend, Line, running_line
from tests.process import wait_until
from tests.services import MariaDB, Mosquitto, PostgreSQL

MESSAGES = 20_000
CHUNK = 500
AHEAD = 4_000
PATIENCE = 60.0


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def line(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mosquitto: Mosquitto
) -> Iterator[Line]:
    """The pack on a real broker, with its tables in SQLite, MariaDB and PostgreSQL; one car is there."""
    env = {"MILLSTREAM_MQTT": mosquitto.url}
    if request.param != "sqlite":
        database: MariaDB | PostgreSQL = request.getfixturevalue(request.param)
        env["MILLSTREAM_DATABASE"] = database.database("smart_factory")
    backend = Backend(request.param, env, mosquitto.port)
    with running_line(tmp_path_factory.mktemp("killed"), backend) as running:
        assert running.new_car() == 1
        yield running


class Publisher(threading.Thread):
    """Publishes numbered results at QoS 1, never more than AHEAD of what is stored, so it lasts as long as the line."""

    def __init__(self, line: Line) -> None:
        super().__init__(daemon=True)
        self._line = line
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            with self._line.device() as device:
                for begin in range(0, MESSAGES, CHUNK):
                    until_stored(self._line, begin - AHEAD)
                    device.publish(("sensor/result", verdict(number)) for number in range(begin, begin + CHUNK))
        except BaseException as fault:
            self.fault = fault


def verdict(number: int) -> dict[str, str]:
    return {"device": f"N{number}", "result": "DEFECT" if number % 4 == 0 else "OK"}


def stored(line: Line) -> int:
    return line.count("sensor_result")


def until_stored(line: Line, count: int) -> None:
    line.until(lambda: stored(line) >= count, f"{count} rows are stored", PATIENCE)


def worker(line: Line) -> psutil.Process | None:
    """Return the process of the flow car_inspection, while there is one."""
    for pid in line.process.worker_pids():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if {"worker", "car_inspection"} <= set(process.cmdline()):
                return process
    return None


def kill_worker(line: Line) -> None:
    """Kill it as `kill -9` does, and wait until another has taken its place."""
    wait_until(lambda: worker(line), "a worker is there", PATIENCE)
    process = worker(line)
    assert process is not None
    process.kill()

    def replaced() -> bool:
        now = worker(line)
        return now is not None and now.pid != process.pid

    wait_until(replaced, "another worker is there", PATIENCE)


def in_the_middle(times: int) -> list[int]:
    """Return so many moments, in rows stored, in the middle of the stream."""
    return sorted(random.SystemRandom().sample(range(500, MESSAGES - AHEAD - CHUNK), times))


def disturbed(line: Line, disturb: Callable[[Line], None], moments: list[int]) -> None:
    """Publish everything, and disturb the line whenever so many rows are stored."""
    publisher = Publisher(line)
    publisher.start()
    for moment in moments:
        until_stored(line, moment)
        assert stored(line) < MESSAGES, "it is still in the middle"
        disturb(line)
    publisher.join(PATIENCE)
    assert publisher.fault is None, publisher.fault
    assert not publisher.is_alive()


def assert_exactly_once(line: Line) -> None:
    until_stored(line, MESSAGES)
    line.until(lambda: line.statistics()["total"] >= MESSAGES, "everything is counted", PATIENCE)
    rows = line.query("SELECT id, device, result, car_id FROM sensor_result ORDER BY id")
    assert [row[0] for row in rows] == list(range(1, MESSAGES + 1))
    expected = [verdict(number) for number in range(MESSAGES)]
    assert [(row[1], row[2]) for row in rows] == [(each["device"], each["result"]) for each in expected]
    assert {row[3] for row in rows} == {1}
    statistics = line.settled()
    assert (statistics["total"], statistics["defect"], statistics["cars"]) == (MESSAGES, MESSAGES // 4, 1)
    assert statistics["by_car"]["1"]["total"] == MESSAGES
    assert line.letters() == []


def test_a_worker_killed_three_times_loses_and_doubles_nothing(line: Line) -> None:
    moments = in_the_middle(3)
    disturbed(line, kill_worker, moments)
    assert_exactly_once(line)


def test_everything_killed_at_once_loses_and_doubles_nothing(line: Line) -> None:
    def power_cut(line: Line) -> None:
        line.process.power_cut()
        line.process.start()

    disturbed(line, power_cut, in_the_middle(1))
    assert_exactly_once(line)
