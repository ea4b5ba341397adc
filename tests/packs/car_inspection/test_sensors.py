"""What stations and triggers publish: which verdicts are kept, and to which car they belong."""

import pytest

from tests.packs.car_inspection.line import Line


def test_a_verdict_is_stored_for_the_current_car(line: Line) -> None:
    car = line.new_car()
    line.sensor("LED", "OK")
    line.until(lambda: line.of_car(car), "the row is there")
    assert line.of_car(car) == [("LED", "OK")]


@pytest.mark.parametrize("topic", ["sensor/ult02", "sensor/ult03"])
def test_the_triggers_of_later_stages_open_no_car(line: Line, topic: str) -> None:
    car = line.new_car()
    line.publish(topic, {"distance_cm": 5})
    line.sensor("LED", "OK")
    line.until(lambda: line.of_car(car), "the row is there")
    assert line.query("SELECT MAX(id) FROM car") == [(car,)]


@pytest.mark.parametrize(
    "payload",
    ["", "1", "near", "[1, 2]", '{"result": "OK", "device": "LED"}', '{"implicit": true, "id": 7}', b"\xff\x00\xfe"],
)
def test_a_trigger_may_carry_anything_and_none_of_it_is_counted(line: Line, payload: str | bytes) -> None:
    before, cars, results = line.settled(), line.count("car"), line.count("sensor_result")
    line.publish("sensor/ult01", payload)
    line.until(lambda: line.count("car") == cars + 1, "the car's row is there")
    line.sensor("LED", "OK")
    line.until(lambda: line.count("sensor_result") == results + 1, "the row is there")
    assert line.count("car") == cars + 1
    after = line.settled()
    assert (after["cars"], after["total"]) == (before["cars"] + 1, before["total"] + 1)


def test_device_and_result_are_upper_cased(line: Line) -> None:
    car = line.new_car()
    for device, result in [("led", "ok"), ("Wheel", "Defect"), ("BUZZER", "dEFECT"), ("blinker grün", "Ok")]:
        line.sensor(device, result)
    line.until(lambda: len(line.of_car(car)) == 4, "all rows are there")
    expected = [("LED", "OK"), ("WHEEL", "DEFECT"), ("BUZZER", "DEFECT"), ("BLINKER GRÜN", "OK")]
    assert line.of_car(car) == expected


def test_any_device_may_report(line: Line) -> None:
    car = line.new_car()
    devices = ["LED", "WHEEL", "BUZZER", "HORN", "X" * 50, "차량-7"]
    for device in devices:
        line.sensor(device, "OK")
    line.until(lambda: len(line.of_car(car)) == len(devices), "all rows are there")
    assert [device for device, _ in line.of_car(car)] == devices


@pytest.mark.parametrize("result", ["TIMEOUT", "ERROR", "timeout", "", "OKAY", "NOT OK", "OK ", "DEFECT\u0000", "0"])
def test_other_verdicts_are_warned_about_and_neither_stored_nor_counted(line: Line, result: str) -> None:
    car = line.new_car()
    before, letters = line.settled(), len(line.letters())
    line.sensor("LED", result)
    line.until(lambda: len(line.letters()) > letters, "the dead letter is there")
    letter = line.letters()[-1]
    assert (letter.node, letter.topic) == ("verdict", "sensor/result")
    assert letter.reason.startswith("result: one_of OK, DEFECT; got")
    line.sensor("LED", "OK")
    line.until(lambda: line.of_car(car), "the next one is stored")
    after = line.settled()
    assert line.of_car(car) == [("LED", "OK")]
    assert (after["total"], after["ok"], after["defect"]) == (before["total"] + 1, before["ok"] + 1, before["defect"])
    line.until(lambda: "a verdict was refused" in line.process.output(), "the log warns")
    assert "[warning" in next(x for x in line.process.output().splitlines() if "a verdict was refused" in x)


def test_a_verdict_of_the_camera_other_than_ok_and_defect_is_refused(line: Line) -> None:
    line.new_car()
    before, letters = line.settled()["camera"], len(line.letters())
    rows = line.count("camera_result")
    line.publish("camera01/result", {"result": "TIMEOUT", "detection": {"result_image": []}})
    line.until(lambda: len(line.letters()) > letters, "the dead letter is there")
    assert line.letters()[-1].node == "camera_verdict"
    line.publish("camera01/result", {"result": "ok"})
    line.until(lambda: line.count("camera_result") == rows + 1, "the next one is stored")
    assert line.settled()["camera"]["total"] == before["total"] + 1
    assert line.query("SELECT result FROM camera_result ORDER BY id DESC LIMIT 1") == [("OK",)]


def test_results_belong_to_the_car_of_the_last_start_trigger(line: Line) -> None:
    first = line.new_car()
    line.sensor("LED", "OK")
    line.publish("camera01/result", {"result": "OK"})
    line.until(lambda: line.of_car(first), "the first car's row is there")
    line.until(lambda: line.count("camera_result", f"car_id = {first}"), "the camera's row is there")
    second = line.new_car()
    line.sensor("LED", "DEFECT")
    line.publish("camera01/result", {"result": "DEFECT"})
    line.until(lambda: line.of_car(second), "the second car's row is there")
    line.until(lambda: line.count("camera_result", f"car_id = {second}"), "the camera's row is there")
    assert second == first + 1
    assert line.of_car(first) == [("LED", "OK")]
    assert line.of_car(second) == [("LED", "DEFECT")]


def test_order_holds_between_topics_of_one_sender(line: Line) -> None:
    begin = line.new_car() + 1
    cars = range(begin, begin + 100)
    with line.device() as device:
        device.publish(
            message
            for car in cars
            for message in [
                ("sensor/ult01", {}),
                ("sensor/result", {"device": f"A{car}", "result": "OK"}),
                ("sensor/ult02", {}),
                ("camera01/result", {"result": "OK"}),
                ("sensor/result", {"device": f"B{car}", "result": "DEFECT"}),
            ]
        )
    line.until(lambda: line.count("sensor_result", f"car_id >= {begin}") == 200, "all rows are there")
    line.until(lambda: line.count("camera_result", f"car_id >= {begin}") == 100, "all rows of the camera are there")
    assert {car: line.of_car(car) for car in cars} == {car: [(f"A{car}", "OK"), (f"B{car}", "DEFECT")] for car in cars}
    found = line.query("SELECT car_id FROM camera_result WHERE car_id >= ? ORDER BY id", begin)
    assert [car for (car,) in found] == list(cars)


def test_fields_that_nobody_asked_for_change_nothing(line: Line) -> None:
    car = line.new_car()
    number = line.query("SELECT MAX(id) FROM sensor_result")[0][0] or 0
    more = {"id": 9999, "car_id": 1, "created_at": "1999-01-01T00:00:00Z", "_event": "x", "implicit": True}
    line.publish("sensor/result", {"device": "LED", "result": "OK", **more})
    line.until(lambda: line.of_car(car), "the row is there")
    [row] = line.get("/sensor/result", car_id=car)
    assert row["id"] == number + 1
    assert row["created_at"] > "2020"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"result": "OK"}, "device: required; got nothing"),
        ({"device": "LED"}, "result: required; got nothing"),
        ({"device": None, "result": None}, "device: required"),
        ({"device": "", "result": "OK"}, "device: length min 1"),
        ({"device": "X" * 51, "result": "OK"}, "device: length max 50"),
        ({"device": 7, "result": "OK"}, "device: text; got 7"),
        ({"device": "LED", "result": ["OK"]}, "result: text; got"),
        ({"device": {"name": "LED"}, "result": True}, "device: text; got"),
    ],
)
def test_what_does_not_fit_is_a_dead_letter_that_says_why(line: Line, payload: object, reason: str) -> None:
    rows, letters = line.count("sensor_result"), len(line.letters())
    line.publish("sensor/result", payload)
    line.until(lambda: len(line.letters()) > letters, "the dead letter is there")
    assert reason in line.letters()[-1].reason
    assert line.count("sensor_result") == rows
