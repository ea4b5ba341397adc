"""The lists: newest first, in pages, with filters that are checked; no parameter ever reaches SQL as text."""

from typing import Any

import pytest

from tests.packs.car_inspection.line import ENDS_WITH_Z, Line

MANY = 1010
SQL = [
    "' OR '1'='1", "x'; DROP TABLE car;--", "1 OR 1=1", '" OR ""="', "%", "_", "{{7*7}}", "${settings}", "\\", "\x00",
]  # fmt: skip
LISTS = {
    "/sensor/result": {"id", "car_id", "device", "result", "created_at"},
    "/sensor/defects": {"id", "car_id", "device", "result", "created_at"},
    "/camera/result": {"id", "car_id", "result", "created_at"},
    "/car/all": {"id", "created_at"},
}


@pytest.fixture(scope="module", autouse=True)
def traffic(line: Line) -> None:
    """Three cars: many results, a few of each kind, none."""
    many = line.new_car()
    line.publish("sensor/result", *[{"device": f"D{n % 5}", "result": "OK"} for n in range(MANY)])
    line.publish("camera01/result", {"result": "OK"}, {"result": "DEFECT"}, {"result": "DEFECT"})
    line.until(lambda: line.count("sensor_result") == MANY, "all results are stored")
    line.until(lambda: line.count("camera_result") == 3, "all results of the camera are stored")
    few = line.new_car()
    for device, result in [("LED", "OK"), ("LED", "DEFECT"), ("WHEEL", "DEFECT"), ("WHEEL", "OK")]:
        line.sensor(device, result)
    line.until(lambda: len(line.of_car(few)) == 4, "all results are stored")
    assert line.new_car() == many + 2


def test_the_lists_have_exactly_these_fields(line: Line) -> None:
    for path, fields in LISTS.items():
        rows = line.get(path)
        assert rows, path
        assert all(set(row) == fields for row in rows), path
        assert all(ENDS_WITH_Z.fullmatch(row["created_at"]) for row in rows), path


@pytest.mark.parametrize("path", list(LISTS))
def test_newest_first(line: Line, path: str) -> None:
    ids = [row["id"] for row in line.get(path, limit=1000)]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) > 1


def test_a_hundred_unless_asked_otherwise(line: Line) -> None:
    assert len(line.get("/sensor/result")) == 100
    assert len(line.get("/sensor/result", limit=1)) == 1
    assert len(line.get("/sensor/result", limit=1000)) == 1000


def test_pages_go_on_before_the_last_id(line: Line) -> None:
    found: list[int] = []
    while page := line.get("/sensor/result", limit=300, **({"before_id": found[-1]} if found else {})):
        found += [row["id"] for row in page]
    assert found == list(range(MANY + 4, 0, -1))


def test_filters(line: Line) -> None:
    few = line.get("/car/all")[1]["id"]
    rows = line.get("/sensor/result", car_id=few)
    assert [(row["device"], row["result"]) for row in rows] == [
        ("WHEEL", "OK"), ("WHEEL", "DEFECT"), ("LED", "DEFECT"), ("LED", "OK"),
    ]  # fmt: skip
    assert {row["device"] for row in line.get("/sensor/result", device="D3", limit=1000)} == {"D3"}
    assert [row["device"] for row in line.get("/sensor/result", result="DEFECT")] == ["WHEEL", "LED"]
    both = line.get("/sensor/result", car_id=few, device="LED", result="OK")
    assert [row["id"] for row in both] == [MANY + 1]
    assert line.get("/sensor/result", car_id=999_999) == []
    assert [row["result"] for row in line.get("/camera/result", result="DEFECT")] == ["DEFECT"] * 2
    assert line.get("/camera/result", car_id=few) == []


def test_defects_are_the_defects_only(line: Line) -> None:
    rows = line.get("/sensor/defects")
    assert rows == line.get("/sensor/result", result="DEFECT")
    assert line.get("/sensor/defects", device="LED") == [row for row in rows if row["device"] == "LED"]
    assert line.get("/sensor/defects", result="OK") == []


@pytest.mark.parametrize("path", list(LISTS))
def test_since_and_until_part_a_list_in_two(line: Line, path: str) -> None:
    rows = line.get(path, limit=1000)
    middle = rows[len(rows) // 2]["created_at"]
    newer, older = line.get(path, since=middle, limit=1000), line.get(path, until=middle, limit=1000)
    assert all(row["created_at"] >= middle for row in newer)
    assert all(row["created_at"] < middle for row in older)
    assert rows == (newer + older)[: len(rows)]
    assert line.get(path, since=middle, until=middle) == []
    assert line.get(path, since="2999-01-01T00:00:00Z") == line.get(path, until="1999-01-01T00:00:00Z") == []


def test_a_time_may_have_any_offset(line: Line) -> None:
    rows = line.get("/car/all")
    assert line.get("/car/all", since="1999-12-31T23:00:00-01:00") == rows
    assert line.get("/car/all", until="2999-01-01T09:00:00+09:00") == rows


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("limit", value) for value in ["1001", "0", "-1", "ten", "", "1e2", "10.0", " 5", "9" * 30, "१०"]),
        *(("before_id", value) for value in ["x", "", "1.5", "9" * 30]),
        *(("car_id", value) for value in ["x", "", "1 OR 1=1", "9" * 30]),
        *(("since", value) for value in ["yesterday", "", "2026-13-01T00:00:00Z", "0"]),
        ("until", "never"),
        ("colour", "red"),
    ],
)
def test_a_bad_parameter_is_a_422_that_names_it(line: Line, parameter: str, value: str) -> None:
    answer = line.http.get("/sensor/result", params={parameter: value})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert [field["field"] for field in error["fields"]] == [parameter]
    assert parameter in error["message"]


def test_every_bad_parameter_is_named_at_once(line: Line) -> None:
    answer = line.http.get("/sensor/result?limit=0&car_id=x&since=y&colour=red")
    assert {field["field"] for field in answer.json()["error"]["fields"]} == {"limit", "car_id", "since", "colour"}


def test_a_parameter_given_twice_is_refused(line: Line) -> None:
    answer = line.http.get("/sensor/result?limit=1&limit=2")
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["field"] == "limit"


@pytest.mark.parametrize("attempt", SQL)
@pytest.mark.parametrize(("path", "parameter"), [("/sensor/result", "device"), ("/camera/result", "result")])
def test_filters_are_values_and_never_sql(line: Line, path: str, parameter: str, attempt: str) -> None:
    answer = line.http.get(path, params={parameter: attempt})
    assert (answer.status_code, answer.json()) == (200, []) or answer.status_code == 422, answer.text
    assert line.count("car") == 3


@pytest.mark.parametrize("attempt", [text for text in SQL if text != "\x00"])
def test_what_looks_like_code_is_stored_and_shown_as_text(line: Line, attempt: str) -> None:
    stored: dict[str, Any] = line.http.post("/sensor/result", json={"device": attempt, "result": "OK"}).json()
    assert stored["device"] == attempt.upper()
    assert line.get("/sensor/result", device=attempt.upper(), limit=1) == [stored]
    assert line.query("SELECT device FROM sensor_result WHERE id = ?", stored["id"]) == [(attempt.upper(),)]
    line.until(lambda: attempt.upper() in line.statistics()["by_device"], "it is counted")
