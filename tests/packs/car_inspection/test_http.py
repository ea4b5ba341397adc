"""The HTTP endpoints: who may, what they answer, and a result that somebody adds by hand."""

import gzip
from collections.abc import Mapping

import pytest

from tests.packs.car_inspection.line import ENDS_WITH_Z, Line

GETS = [
    "/sensor/result", "/sensor/defects", "/camera/result", "/dashboard/summary", "/car/all", "/attendance",
]  # fmt: skip
POSTS = ["/sensor/result", "/attendance/check-in", "/attendance/check-out"]
GOOD = {"device": "LED", "result": "OK"}


@pytest.mark.parametrize(("method", "path"), [*(("GET", path) for path in GETS), *(("POST", path) for path in POSTS)])
def test_nobody_gets_in_without_a_token(line: Line, method: str, path: str) -> None:
    answer = line.anonymous.request(method, path, json=GOOD if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()["error"]) >= {"code", "message"}


@pytest.mark.parametrize(("method", "path"), [*(("GET", path) for path in GETS), *(("POST", path) for path in POSTS)])
def test_a_viewer_may_not(line: Line, method: str, path: str) -> None:
    before = line.count("sensor_result"), line.count("attendance")
    with line.bearing(line.account("vera", "viewer")) as viewer:
        answer = viewer.request(method, path, json=GOOD if path == "/sensor/result" and method == "POST" else None)
    assert answer.status_code == 403
    assert "employee" in answer.json()["error"]["message"]
    assert (line.count("sensor_result"), line.count("attendance")) == before


@pytest.mark.parametrize("role", ["employee", "manager", "admin"])
def test_employees_and_those_above_may(line: Line, role: str) -> None:
    with line.bearing(line.account(f"one.{role}", role)) as client:
        assert {path: client.get(path).status_code for path in GETS} == dict.fromkeys(GETS, 200)
        assert client.post("/sensor/result", json=GOOD).status_code == 201


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/sensor/result"), ("PUT", "/sensor/result"), ("POST", "/car/all"), ("POST", "/dashboard/summary")],
)
def test_other_methods_are_not_there(line: Line, method: str, path: str) -> None:
    assert line.http.request(method, path, json={}).status_code == 405


def test_an_unknown_path_is_a_404_in_the_same_shape(line: Line) -> None:
    answer = line.http.get("/sensor/results")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) >= {"code", "message"}


def test_a_result_by_hand_is_answered_with_the_stored_row(line: Line) -> None:
    car = line.new_car()
    answer = line.http.post("/sensor/result", json={"device": "led", "result": "defect"})
    assert answer.status_code == 201
    row = answer.json()
    assert set(row) == {"id", "car_id", "device", "result", "created_at"}
    assert (row["car_id"], row["device"], row["result"]) == (car, "LED", "DEFECT")
    assert ENDS_WITH_Z.fullmatch(row["created_at"])
    assert line.query("SELECT car_id, device, result FROM sensor_result WHERE id = ?", row["id"]) == [
        (car, "LED", "DEFECT")
    ]
    assert line.get("/sensor/result", limit=1) == [row]


def test_a_result_by_hand_goes_the_way_of_the_stations(line: Line) -> None:
    car = line.new_car()
    before = line.settled()["total"]
    line.sensor("LED", "OK")
    line.until(lambda: line.of_car(car), "the station's row is there")
    by_hand = line.http.post("/sensor/result", json={"device": "WHEEL", "result": "OK"}).json()
    line.sensor("HORN", "OK")
    line.until(lambda: len(line.of_car(car)) == 3, "all rows are there")
    assert line.of_car(car) == [("LED", "OK"), ("WHEEL", "OK"), ("HORN", "OK")]
    assert by_hand["id"] == line.get("/sensor/result", car_id=car)[1]["id"]
    assert line.settled()["total"] == before + 3


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"device": "LED"}, ["result"]),
        ({"result": "OK"}, ["device"]),
        ({}, ["device", "result"]),
        ({"device": "LED", "result": "TIMEOUT"}, ["result"]),
        ({"device": "LED", "result": "ERROR"}, ["result"]),
        ({"device": 5, "result": None}, ["device", "result"]),
        ({"device": "X" * 51, "result": "OK"}, ["device"]),
        ({"device": "", "result": "OK"}, ["device"]),
        ({"device": ["LED"], "result": {"OK": 1}}, ["device", "result"]),
    ],
)
def test_what_does_not_fit_is_a_422_that_names_the_fields(line: Line, body: object, fields: list[str]) -> None:
    before = line.settled()["total"]
    answer = line.http.post("/sensor/result", json=body)
    assert answer.status_code == 422, answer.text
    assert [field["field"] for field in answer.json()["error"]["fields"]] == fields
    assert line.http.post("/sensor/result", json=GOOD).status_code == 201
    assert line.settled()["total"] == line.count("sensor_result") == before + 1


def deep(depth: int) -> bytes:
    return b'{"device": "LED", "result": "OK", "more": ' + b"[" * depth + b"]" * depth + b"}"


HOSTILE: dict[str, tuple[int, bytes, Mapping[str, str]]] = {
    "nothing": (400, b"", {}),
    "no json": (400, b"device=LED&result=OK", {}),
    "cut off": (400, b'{"device": "LED", "result": "O', {}),
    "two values": (400, b'{"device": "LED", "result": "OK"}{}', {}),
    "not utf-8": (400, b'{"device": "\xff\xfe", "result": "OK"}', {}),
    "nan": (400, b'{"device": "LED", "result": NaN}', {}),
    "deep": (400, deep(100_000), {}),
    "an array": (422, b'[{"device": "LED", "result": "OK"}]', {}),
    "text": (422, b'"LED"', {}),
    "null": (422, b"null", {}),
    "lone surrogate": (400, b'{"device": "\\ud800", "result": "OK"}', {}),
    "large": (413, b'{"device": "' + b"x" * (2 << 20) + b'", "result": "OK"}', {}),
    "packed in an unknown way": (415, b'{"device": "LED", "result": "OK"}', {"Content-Encoding": "br"}),
    "a bomb": (413, gzip.compress(bytes(64 << 20)), {"Content-Encoding": "gzip"}),
    "lines": (415, b'{"device": "LED", "result": "OK"}\n', {"Content-Type": "application/x-ndjson"}),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_body_gets_a_clear_answer_and_harms_nothing(line: Line, name: str) -> None:
    status, body, headers = HOSTILE[name]
    rows = line.count("sensor_result")
    answer = line.http.post("/sensor/result", content=body, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) >= {"code", "message"}
    assert line.http.post("/sensor/result", json=GOOD).status_code == 201
    assert line.count("sensor_result") == rows + 1


def test_a_log_in_that_is_no_object_of_two_texts_is_refused(line: Line) -> None:
    bodies: list[object] = [{}, {"username": "admin"}, {"username": 1, "password": 2}, []]
    for body in bodies:
        assert line.anonymous.post("/auth/login", json=body).status_code == 422
    assert line.anonymous.post("/auth/login", content=b"{").status_code == 400
    assert line.anonymous.post("/auth/login", content=b"x" * (1 << 20)).status_code == 413
    assert line.anonymous.post("/auth/login", content=deep(100_000)).status_code in (400, 413)
