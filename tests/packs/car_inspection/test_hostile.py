"""Hostile messages on the topics: each ends in the dead letters with its reason, and nothing else is harmed."""

import json

import pytest

from tests.packs.car_inspection.line import Line

BIG = 20 << 20
TOO_LARGE = "a payload of at most 16777216 bytes"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "decode"),
    "no json": (b"device=LED", "decode"),
    "cut off": (b'{"device": "LED", "result": "O', "decode"),
    "more than one": (b'{"device": "LED", "result": "OK"} {}', "decode"),
    "not utf-8": (b'{"device": "\xff\xfe\xfa", "result": "OK"}', "decode"),
    "binary": (bytes(range(256)), "decode"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "decode"),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "decode"),
    "deep and cut off": (b"[" * 100_000, "decode"),
    "a list": (b'[{"device": "LED", "result": "OK"}]', "a JSON object"),
    "text": (b'"OK"', "a JSON object"),
    "null": (b"null", "a JSON object"),
    "nan": (b'{"device": NaN, "result": "OK"}', "decode"),
    "a huge number": (b'{"device": 1e999999, "result": "OK"}', "decode"),
    "a long number": (b'{"device": ' + b"9" * 5000 + b', "result": "OK"}', "d"),
    "a lone surrogate": (b'{"device": "\\ud800", "result": "OK"}', "decode"),
    "wrong types": (b'{"device": ["LED"], "result": {"is": "OK"}}', "device: text"),
    "15 MB": (json.dumps({"device": "x" * (15 << 20), "result": "OK"}).encode(), "device: length max 50"),
    "20 MB": (json.dumps({"device": "x" * BIG, "result": "OK"}).encode(), TOO_LARGE),
    "20 MB of nothing": (b" " * BIG, TOO_LARGE),
    "20 MB of brackets": (b"[" * BIG, TOO_LARGE),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_verdict_is_a_dead_letter_and_harms_nothing(line: Line, name: str) -> None:
    payload, reason = HOSTILE[name]
    car, letters, counted = line.new_car(), len(line.letters()), line.settled()["total"]
    line.publish("sensor/result", payload)
    line.sensor("LED", "OK")
    line.until(lambda: line.of_car(car), "the next good message is stored")
    line.until(lambda: len(line.letters()) == letters + 1, "the dead letter is there")
    letter = line.letters()[-1]
    assert letter.topic == "sensor/result"
    assert reason in letter.reason
    assert len(letter.reason) < 500
    assert line.of_car(car) == [("LED", "OK")]
    assert line.settled()["total"] == counted + 1


CAMERA: dict[str, object] = {
    "no object": "DEFECT",
    "no result": {"detection": {"result_image": []}},
    "wrong result": {"result": 1},
    "wrong detection": {"result": "DEFECT", "detection": "none"},
    "not utf-8": b'{"result": "\xff"}',
    "deep": b'{"result": "DEFECT", "detection": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "20 MB": {"result": "DEFECT", "detection": {"result_image": ["A" * BIG]}},
}


@pytest.mark.parametrize("name", list(CAMERA))
def test_a_hostile_camera_is_a_dead_letter_and_harms_nothing(line: Line, name: str) -> None:
    car, letters = line.new_car(), len(line.letters())
    line.publish("camera01/result", CAMERA[name])
    line.publish("camera01/result", {"result": "OK"})
    line.until(lambda: line.count("camera_result", f"car_id = {car}") == 1, "the next good message is stored")
    line.until(lambda: len(line.letters()) == letters + 1, "the dead letter is there")
    assert line.letters()[-1].topic == "camera01/result"
    assert line.count("camera_result", f"car_id = {car}") == 1


def test_a_huge_picture_costs_itself_only(line: Line) -> None:
    car, letters = line.new_car(), len(line.letters())
    line.publish("camera01/result", {"result": "DEFECT", "detection": {"result_image": ["A" * (15 << 20)]}})
    line.until(lambda: line.count("camera_result", f"car_id = {car}") == 1, "the result is stored")
    line.until(lambda: len(line.letters()) == letters + 1, "the dead letter is there")
    assert line.letters()[-1].reason.startswith("picture 0: ")


def test_a_hostile_trigger_opens_a_car_like_any_other(line: Line) -> None:
    cars = line.count("car")
    for payload in (b"[" * 100_000, b"\xff" * 1000, b'{"created_at": "yesterday", "id": "x", "car_id": -1}', b"\x00"):
        line.publish("sensor/ult01", payload)
    line.until(lambda: line.count("car") == cars + 4, "each trigger opened a car")
    numbers = [number for (number,) in line.query("SELECT id FROM car ORDER BY id DESC LIMIT 4")]
    assert numbers == list(range(numbers[0], numbers[0] - 4, -1))


def test_a_dead_letter_keeps_what_came(line: Line) -> None:
    letters = len(line.letters())
    line.publish("sensor/result", b'{"device": "\xff", oops')
    line.until(lambda: len(line.letters()) == letters + 1, "the dead letter is there")
    assert line.letters()[-1].payload == b'{"device": "\xff", oops'


def test_a_flood_of_bad_messages_costs_no_good_one(line: Line) -> None:
    car, letters = line.new_car(), len(line.letters())
    mixed = [{"device": f"D{n}", "result": "OK" if n % 2 else "TIMEOUT"} for n in range(1000)]
    line.publish("sensor/result", *mixed)
    line.until(lambda: len(line.of_car(car)) == 500, "every good one is stored")
    line.until(lambda: len(line.letters()) == letters + 500, "every bad one is a dead letter")
    assert [device for device, _ in line.of_car(car)] == [f"D{n}" for n in range(1, 1000, 2)]
