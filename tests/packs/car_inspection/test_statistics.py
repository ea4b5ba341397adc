"""The statistics: the same on every way out, and what the tables say."""

import functools
from typing import Any

import pytest

from tests.packs.car_inspection.line import ENDS_WITH_Z, PATIENCE, Line
from tests.packs.car_inspection.live import FOUR, WHOLE, Listen, Live, Socket, four, listener
from tests.services import Node

BURST = 2000


def counted(line: Line, sql: str) -> dict[str, dict[str, int]]:
    """Return OK and DEFECT by the first column of a statement that gives (what, result, number)."""
    found: dict[str, dict[str, int]] = {}
    for what, result, number in line.query(sql):
        found.setdefault(str(what), {"OK": 0, "DEFECT": 0})[str(result)] = int(number)
    return found


def what_the_tables_say(line: Line) -> dict[str, Any]:
    """Return the statistics object, counted with SQL."""
    group = "SELECT {0}, result, COUNT(*) FROM {1} GROUP BY {0}, result"
    cars = sorted(counted(line, group.format("car_id", "sensor_result")).items(), key=lambda item: int(item[0]))
    devices = counted(line, group.format("device", "sensor_result"))
    [sensor] = list(counted(line, group.format("'x'", "sensor_result")).values()) or [{"OK": 0, "DEFECT": 0}]
    [camera] = list(counted(line, group.format("'x'", "camera_result")).values()) or [{"OK": 0, "DEFECT": 0}]
    return {
        **four(sensor["OK"], sensor["DEFECT"]),
        "by_device": {device: four(each["OK"], each["DEFECT"]) for device, each in devices.items()},
        "by_car": {car: four(each["OK"], each["DEFECT"]) for car, each in cars[-100:]},
        "cars": line.count("car"),
        "camera": four(camera["OK"], camera["DEFECT"]),
    }


def without_time(statistics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in statistics.items() if name != "updated_at"}


def agreed(line: Line) -> dict[str, Any]:
    """Return the statistics once they are what the tables say."""
    line.until(lambda: without_time(line.statistics()) == what_the_tables_say(line), "the tables and the summary agree")
    return line.statistics()


def some_traffic(line: Line) -> None:
    for _ in range(3):
        line.new_car()
        for device, result in [("LED", "OK"), ("WHEEL", "DEFECT"), ("LED", "DEFECT"), ("HORN", "TIMEOUT")]:
            line.sensor(device, result)
        line.publish("camera01/result", {"result": "DEFECT"})
        line.publish("camera01/result", {"result": "OK"})


def test_before_anything_happened_all_counts_are_there_and_zero(line: Line) -> None:
    statistics = line.statistics()
    assert set(statistics) == WHOLE
    nothing = four(0, 0)
    assert {name: statistics[name] for name in FOUR} == nothing
    assert (statistics["by_device"], statistics["by_car"], statistics["camera"]) == ({}, {}, nothing)
    assert (statistics["cars"], statistics["updated_at"]) == (0, None)


def test_the_object_has_exactly_these_fields(line: Line) -> None:
    some_traffic(line)
    statistics = agreed(line)
    assert set(statistics) == WHOLE
    parts = [*statistics["by_device"].values(), *statistics["by_car"].values(), statistics["camera"]]
    assert len(parts) > 3
    assert all(set(part) == FOUR for part in parts)
    assert all(type(part[name]) is int for part in parts for name in ("total", "ok", "defect"))
    assert all(0 <= part["defect_rate"] <= 1 for part in [statistics, *parts])
    assert ENDS_WITH_Z.fullmatch(statistics["updated_at"])


def test_the_time_is_that_of_the_last_thing_counted(line: Line) -> None:
    car = line.new_car()
    line.sensor("LED", "OK")
    line.sensor("LED", "TIMEOUT")
    line.sensor("LED", "OK")
    line.until(lambda: len(line.of_car(car)) == 2, "both rows are there")
    assert agreed(line)["updated_at"] == line.get("/sensor/result", limit=1)[0]["created_at"]


@pytest.mark.parametrize("traffic", ["results", "cars", "camera"])
def test_summary_and_live_agree_to_the_message(line: Line, listen: Listen, traffic: str) -> None:
    line.new_car()
    before = agreed(line)
    topic, payload = {
        "results": ("sensor/result", {"device": "LED", "result": "DEFECT"}),
        "cars": ("sensor/ult01", {}),
        "camera": ("camera01/result", {"result": "OK"}),
    }[traffic]
    with listen(line) as client:
        assert client.next("stats") == before
        line.publish(topic, payload)
        update = client.next("stats_update", lambda stats: stats != before)
        assert line.statistics() == update == agreed(line)
    with listen(line) as another:
        assert another.next("stats") == update


def test_the_latest_hundred_cars_are_kept(line: Line) -> None:
    begin = line.new_car() + 1
    with line.device() as device:
        for car in range(begin, begin + 103):
            device.publish([("sensor/ult01", {})])
            line.until(functools.partial(line.count, "car", f"id = {car}"), "the car is there")
            device.publish([("sensor/result", {"device": "LED", "result": "OK"})])
            line.until(functools.partial(line.of_car, car), "its row is there")
    statistics = agreed(line)
    assert [int(number) for number in statistics["by_car"]] == list(range(car - 99, car + 1))
    assert statistics["cars"] == line.count("car") > 100
    assert statistics["total"] > sum(each["total"] for each in statistics["by_car"].values())


@pytest.fixture(params=["websocket", "socketio-websocket"])
def dashboard(request: pytest.FixtureRequest, line: Line, node: Node) -> Any:
    with listener(request.param, lambda: node)(line) as client:
        client.next("stats")
        yield client


def until_counted(client: Live, total: int) -> list[float]:
    """Return when each `stats_update` came, up to the one that counts so many results."""
    times: list[float] = []

    def seen(_: Any) -> bool:
        return True

    while True:
        update = client.await_next("stats_update", seen, PATIENCE)
        times.append(update.at)
        if update.data["total"] >= total:
            return times


def assert_at_most_ten_a_second(times: list[float]) -> None:
    # Ten intervals of a tenth of a second; a frame may be late by a little, the one after it is then early.
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[10:], strict=False)), times


def test_a_burst_reaches_a_dashboard_as_at_most_ten_updates_a_second(line: Line, dashboard: Live) -> None:
    line.new_car()
    total = line.settled()["total"] + BURST
    line.publish("sensor/result", *[{"device": f"D{n % 7}", "result": "OK"} for n in range(BURST)])
    assert_at_most_ten_a_second(until_counted(dashboard, total))
    assert agreed(line)["total"] == total


def test_a_steady_stream_reaches_a_dashboard_as_at_most_ten_updates_a_second(line: Line, dashboard: Live) -> None:
    line.new_car()
    total = line.settled()["total"] + BURST
    with line.device() as device:
        for number in range(BURST):
            device.publish([("sensor/result", {"device": f"D{number % 7}", "result": "OK"})])
    times = until_counted(dashboard, total)
    assert_at_most_ten_a_second(times)
    assert agreed(line)["total"] == total


def test_the_last_state_always_comes(line: Line) -> None:
    line.new_car()
    with Socket(line) as client:
        total = client.next("stats")["total"]
        for size in (2, 3, 5, 50, 7, 2, 400, 3):
            total += size
            line.publish("sensor/result", *[{"device": "LED", "result": "OK"}] * size)
            until_counted(client, total)
