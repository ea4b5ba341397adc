"""The live events of the dashboard: the same over Socket.IO and plain WebSocket."""

from typing import Any

from tests.packs.car_inspection.line import ENDS_WITH_Z, Line
from tests.packs.car_inspection.live import FOUR, WHOLE, Listen, Socket
from tests.packs.car_inspection.pictures import base64_of, jpeg


def one_defect(line: Line) -> dict[str, Any]:
    """Let a car with one defect through; return the statistics that count it."""
    car = line.new_car()
    line.sensor("LED", "DEFECT")
    line.until(lambda: line.of_car(car), "the row is there")
    return line.settled()


def test_the_statistics_come_once_on_connect(line: Line, listen: Listen) -> None:
    counted = one_defect(line)
    with listen(line) as client:
        assert client.next("stats") == counted
        assert set(counted) == WHOLE
        car = line.new_car()
        assert client.next("car_added") == {"car_id": car}
        client.next("stats_update", lambda stats: stats["cars"] == counted["cars"] + 1)
    assert [happening.event for happening in client.seen].count("stats") == 1


def test_a_new_client_hears_nothing_old(line: Line, listen: Listen) -> None:
    one_defect(line)
    with listen(line) as client:
        client.next("stats")
        car = line.new_car()
        client.next("car_added", lambda data: data["car_id"] == car)
    heard = [happening.event for happening in client.seen]
    assert "sensor_defect" not in heard
    assert heard.count("car_added") == 1


def test_whenever_data_changes_the_statistics_come(line: Line, listen: Listen) -> None:
    with listen(line) as client:
        first = client.next("stats")
        line.new_car()
        opened = client.next("stats_update", lambda stats: stats["cars"] == first["cars"] + 1)
        assert opened["total"] == first["total"]
        line.sensor("LED", "OK")
        fine = client.next("stats_update", lambda stats: stats["total"] == first["total"] + 1)
        assert fine["ok"] == first["ok"] + 1
        line.sensor("LED", "DEFECT")
        bad = client.next("stats_update", lambda stats: stats["total"] == first["total"] + 2)
        assert bad["defect"] == first["defect"] + 1
        line.publish("camera01/result", {"result": "OK"})
        seen = client.next("stats_update", lambda stats: stats["camera"]["total"] == first["camera"]["total"] + 1)
    assert seen["total"] == bad["total"]
    assert all(set(stats) == WHOLE for stats in (opened, fine, bad, seen))
    assert set(seen["camera"]) == FOUR


def test_a_defect_of_a_sensor(line: Line, listen: Listen) -> None:
    with listen(line) as client:
        client.next("stats")
        car = line.new_car()
        line.sensor("buzzer", "ok")
        line.sensor("led", "defect")
        defect = client.next("sensor_defect")
    assert set(defect) == {"id", "car_id", "device", "result", "created_at"}
    assert (defect["car_id"], defect["device"], defect["result"]) == (car, "LED", "DEFECT")
    assert ENDS_WITH_Z.fullmatch(defect["created_at"])
    line.until(lambda: len(line.of_car(car)) == 2, "both rows are there")
    [row] = line.get("/sensor/defects", car_id=car)
    assert row == defect


def test_a_defect_of_the_camera(line: Line, listen: Listen) -> None:
    picture = jpeg(11)
    with listen(line) as client:
        client.next("stats")
        car = line.new_car()
        line.publish("camera01/result", {"result": "OK", "detection": {"result_image": [base64_of(picture)]}})
        line.publish("camera01/result", {"result": "DEFECT", "detection": {"result_image": [base64_of(picture)]}})
        defect = client.next("camera_defect")
    assert set(defect) == {"id", "car_id", "result", "images", "created_at"}
    assert (defect["car_id"], defect["result"]) == (car, "DEFECT")
    assert ENDS_WITH_Z.fullmatch(defect["created_at"])
    [url] = defect["images"]
    assert line.anonymous.get(url).content == picture
    line.until(lambda: line.count("camera_result", f"car_id = {car}") == 2, "both rows are there")
    newest = line.get("/camera/result", car_id=car)[0]
    assert newest == {name: defect[name] for name in ("id", "car_id", "result", "created_at")}


def test_each_stage_trigger_tells_the_progress(line: Line, listen: Listen) -> None:
    with listen(line) as client:
        client.next("stats")
        car = line.new_car()
        found = [client.next("progress")]
        for topic in ("sensor/ult02", "sensor/ult03"):
            line.publish(topic, "1")
            found.append(client.next("progress"))
    assert all(ENDS_WITH_Z.fullmatch(progress.pop("at")) for progress in found)
    assert found == [{"car_id": car, "stage": stage, "stages": 3} for stage in (1, 2, 3)]


def test_a_result_by_hand_is_live_too(line: Line, listen: Listen) -> None:
    with listen(line) as client:
        first = client.next("stats")
        line.new_car()
        row = line.http.post("/sensor/result", json={"device": "horn", "result": "defect"}).json()
        assert client.next("sensor_defect") == row
        client.next("stats_update", lambda stats: stats["total"] == first["total"] + 1)


def test_every_dashboard_hears_the_same(line: Line, listen: Listen) -> None:
    with listen(line) as one, listen(line) as other, Socket(line) as third:
        clients = [one, other, third]
        for client in clients:
            client.next("stats")
        line.new_car()
        line.sensor("LED", "DEFECT")
        assert len({str(client.next("sensor_defect")) for client in clients}) == 1


def test_a_plain_frame_is_event_data_and_id(line: Line) -> None:
    with Socket(line) as client:
        client.next("stats")
        line.new_car()
        line.sensor("LED", "DEFECT")
        client.next("sensor_defect")
    assert all(set(frame) == {"event", "data", "id"} for frame in client.frames if frame["event"] != "stats")
    assert {"event", "data"} <= set(client.frames[0]) <= {"event", "data", "id"}
    ids = [frame["id"] for frame in client.frames if frame["event"] != "stats"]
    assert len(set(ids)) == len(ids)
