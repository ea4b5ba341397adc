"""Declared queries over HTTP, on SQLite and on MariaDB: the same rows, the same refusals."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx2
import pytest

from engine.load import load_text
from tests.web.gateway_site import FLOW, Site, error
from web.answer_cache import AnswerCache
from web.answers import Answer

START = datetime(2025, 3, 1, 8, 0, tzinfo=UTC)
TIME = "an ISO 8601 time like 2025-03-01T08:00:00Z"
HOSTILE = ["' OR 1=1 --", '"; DROP TABLE car; --', "{{ 7*7 }}", "${secret}", "%s%d%%", ":device", "\\", "🚗", "a'b"]


async def fill(site: Site, count: int = 10) -> None:
    await site.insert("car", *({"id": n, "created_at": START} for n in (1, 2)))
    rows = [
        {
            "car_id": n % 2 + 1,
            "device": "LED" if n % 3 else "WHEEL",
            "result": "DEFECT" if n % 2 else "OK",
            "good": n % 2 == 0,
            "extra": {"n": [n]},
            "created_at": START + timedelta(minutes=n),
            "_event": n.to_bytes(16, "big"),
        }
        for n in range(count)
    ]
    await site.insert("sensor_result", *rows)


async def rows(site: Site, path: str, **params: Any) -> list[dict[str, Any]]:
    answer = await site.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_rows_come_newest_first_typed_and_without_the_event(any_site: Site) -> None:
    await fill(any_site)
    found = await rows(any_site, "/sensor/result")
    assert [row["id"] for row in found] == list(range(10, 0, -1))
    assert found[0] == {
        "id": 10, "car_id": 2, "device": "WHEEL", "result": "DEFECT", "good": False, "extra": {"n": [9]},
        "created_at": "2025-03-01T08:09:00Z",
    }  # fmt: skip


async def test_a_channel_is_told_which_events_the_rows_come_from(any_site: Site) -> None:
    await fill(any_site, 4)
    routes, ids = any_site.app.flow_routes, [n.to_bytes(16, "big") for n in range(4)]
    answer = await routes.ask("line", "sensor_results", {"device": "LED"})
    assert answer.events == frozenset(ids[1:3])
    assert b"_event" not in answer.body
    assert (await routes.ask("line", "by_device", {})).events is None
    sql = "select device, _event from sensor_result where id = :id"
    of_car = load_text(FLOW.replace("select * from car where id = :id", sql)).raise_findings()
    routes.replace([of_car])
    answer = await routes.ask("line", "one_car", {"id": "1"})
    assert (answer.body, answer.events) == (b'{"device":"WHEEL"}', frozenset(ids[:1]))


async def test_pages_reach_the_last_row_each_once(any_site: Site) -> None:
    await fill(any_site, 25)
    seen: list[int] = []
    params: dict[str, Any] = {"limit": 7}
    while page := await rows(any_site, "/sensor/result", **params):
        seen += [row["id"] for row in page]
        params["before_id"] = page[-1]["id"]
    assert seen == list(range(25, 0, -1))


async def test_pages_by_time_reach_the_last_row_each_once_where_times_do_not_grow_with_the_id(any_site: Site) -> None:
    await any_site.insert("car", {"id": 1, "created_at": START})
    minutes = [5, 1, 9, None, 3, 3, 8, 2, 3, 0]
    times = [None if minute is None else START + timedelta(minutes=minute) for minute in minutes]
    await any_site.insert("sensor_result", *({"car_id": 1, "device": "LED", "created_at": time} for time in times))
    seen: list[int] = []
    params: dict[str, Any] = {"since": "2025-03-01T08:01:00Z", "limit": 3}
    while page := await rows(any_site, "/sensor/result", **params):
        seen += [row["id"] for row in page]
        params["before_id"] = page[-1]["id"]
    assert seen == [3, 7, 1, 9, 6, 5, 8, 2]


async def test_pages_by_time_go_on_where_their_last_row_was_deleted(any_site: Site) -> None:
    await fill(any_site, 6)
    async with any_site.services.database.begin() as connection:
        await connection.exec_driver_sql("delete from sensor_result where id = 4")
    found = await rows(any_site, "/sensor/result", since="2025-03-01T08:01:00Z", before_id=4)
    assert [row["id"] for row in found] == [3, 2]


@pytest.mark.parametrize(
    ("params", "ids"),
    [
        ({"device": "WHEEL"}, [10, 7, 4, 1]),
        ({"car_id": 1, "result": "OK"}, [9, 7, 5, 3, 1]),
        ({"good": "true", "before_id": 4}, [3, 1]),
        ({"since": "2025-03-01T08:08:00Z"}, [10, 9]),
        ({"since": "2025-03-01T17:08:00+09:00"}, [10, 9]),
        ({"until": "2025-03-01T08:01:00"}, [1]),
        ({"device": "led"}, []),
        ({"since": "2025-03-01", "until": "2025-03-01T08:02:00Z"}, [2, 1]),
    ],
)
async def test_filters(site: Site, params: dict[str, Any], ids: list[int]) -> None:
    await fill(site)
    assert [row["id"] for row in await rows(site, "/sensor/result", **params)] == ids


async def test_a_plus_in_the_address_that_became_a_space_is_a_zone(site: Site) -> None:
    await fill(site)
    answer = await site.get("/sensor/result?since=2025-03-01T17:08:00+09:00")
    assert [row["id"] for row in answer.json()] == [10, 9]


async def test_fixed_conditions_limits_and_path_parameters(any_site: Site) -> None:
    await fill(any_site)
    assert [row["id"] for row in await rows(any_site, "/sensor/defects")] == [10, 8]
    assert [row["id"] for row in await rows(any_site, "/sensor/defects", limit=3)] == [10, 8, 6]
    assert {row["car_id"] for row in await rows(any_site, "/car/2/results")} == {2}
    error(await any_site.get("/sensor/defects", params={"limit": 4}), 422, "invalid_parameter")
    error(await any_site.get("/car/x/results"), 422, "invalid_parameter")


@pytest.mark.parametrize(
    ("params", "field", "expected", "got"),
    [
        ({"car_id": "abc"}, "car_id", "a whole number", "abc"),
        ({"car_id": "1e3"}, "car_id", "a whole number", "1e3"),
        ({"car_id": "99999999999999999999"}, "car_id", "a whole number", "99999999999999999999"),
        ({"limit": "0"}, "limit", "1..1000", "0"),
        ({"limit": "1001"}, "limit", "1..1000", "1001"),
        ({"limit": "-1"}, "limit", "1..1000", "-1"),
        ({"limit": "٣"}, "limit", "1..1000", "٣"),
        ({"before_id": ""}, "before_id", "a whole number", ""),
        ({"good": "maybe"}, "good", "true or false", "maybe"),
        ({"since": "yesterday"}, "since", TIME, "yesterday"),
        ({"since": "0001-01-01T00:00+09:00"}, "since", TIME, "0001-01-01T00:00+09:00"),
        ({"device": "a\0b"}, "device", "text", "a\0b"),
    ],
)  # fmt: skip
async def test_a_malformed_parameter_is_named(
    site: Site, params: dict[str, str], field: str, expected: str, got: str
) -> None:
    found = error(await site.get("/sensor/result", params=params), 422, "invalid_parameter")
    assert found["fields"] == [{"field": field, "expected": expected, "got": got}]


async def test_every_fault_is_told_and_misspelt_names_are_guessed(site: Site) -> None:
    found = error(await site.get("/sensor/result", params={"divice": "LED", "limit": "x"}), 422, "invalid_parameter")
    assert {field["field"] for field in found["fields"]} == {"divice", "limit"}
    assert "did you mean 'device'?" in next(f["expected"] for f in found["fields"] if f["field"] == "divice")
    twice = error(await site.get("/sensor/result?limit=1&limit=2"), 422, "invalid_parameter")
    assert twice["fields"] == [{"field": "limit", "expected": "one value", "got": "more than one"}]


async def test_hostile_text_is_data(any_site: Site) -> None:
    await fill(any_site, 2)
    for number, text in enumerate(HOSTILE):
        event = bytes([1, number]) * 8
        await any_site.insert("sensor_result", {"device": text, "result": "OK", "created_at": START, "_event": event})
        assert [row["device"] for row in await rows(any_site, "/sensor/result", device=text)] == [text]
        assert [row["device"] for row in await rows(any_site, "/by-device", device=text)] == [text]
    assert len(await rows(any_site, "/sensor/result")) == 2 + len(HOSTILE)


async def test_a_view_of_accounts_shows_no_password(any_site: Site) -> None:
    answer = await any_site.get("/people", who="manager")
    assert [row["username"] for row in answer.json()] == ["admin", "manager", "employee", "viewer"]
    assert set(answer.json()[0]) == {"id", "username", "role", "created_at"}
    error(await any_site.get("/people"), 403, "forbidden")


async def test_sql_groups_with_times_as_times(any_site: Site) -> None:
    await fill(any_site)
    assert await rows(any_site, "/by-device") == [
        {"device": "LED", "n": 6, "created_at": "2025-03-01T08:08:00Z"},
        {"device": "WHEEL", "n": 4, "created_at": "2025-03-01T08:09:00Z"},
    ]


async def test_sql_parameters_are_typed_with_defaults(any_site: Site) -> None:
    answer = await any_site.get("/typed", None, params={"i": -5})
    found = answer.json()
    assert (found["i"], float(found["n"]), found["t"], found["b"]) == (-5, 1.5, "x", True)
    assert datetime.fromisoformat(found["at"]).tzinfo is not None
    assert found["d"] == datetime.now(UTC).date().isoformat()
    given = {"i": 1, "b": "false", "at": "2025-03-01T00:00:00+01:00", "d": "2024-02-29"}
    found = (await any_site.get("/typed", None, params=given)).json()
    assert (found["b"], found["at"], found["d"]) == (False, "2025-02-28T23:00:00Z", "2024-02-29")


@pytest.mark.parametrize(
    ("params", "field", "expected"),
    [
        ({}, "i", "a value; it is required"),
        ({"i": "1.5"}, "i", "a whole number"),
        ({"i": "1", "n": "nan"}, "n", "a number"),
        ({"i": "1", "n": "1_0"}, "n", "a number"),
        ({"i": "1", "d": "2025-02-30"}, "d", "a date like 2025-03-01"),
        ({"i": "1", "account": "admin"}, "account", "one of i, n, t, b, at, d"),
    ],
)
async def test_sql_parameters_are_refused_by_name(
    site: Site, params: dict[str, str], field: str, expected: str
) -> None:
    found = error(await site.get("/typed", None, params=params), 422, "invalid_parameter")
    assert [(f["field"], f["expected"]) for f in found["fields"]] == [(field, expected)]


async def test_one_row_or_404(any_site: Site) -> None:
    await fill(any_site)
    assert (await any_site.get("/cars/1")).json() == {"id": 1, "created_at": "2025-03-01T08:00:00Z"}
    assert error(await any_site.get("/cars/77"), 404, "not_found")["message"] == "no such car"


async def test_an_answer_is_kept_for_its_parameters(site: Site) -> None:
    before = (await site.get("/counted")).json()
    await fill(site)
    assert (await site.get("/counted")).json() == before == {"n": 0, "plus": 0}
    assert (await site.get("/counted?add=1")).json() == {"n": 2, "plus": 1}
    assert error(await site.get("/counted?add=10"), 422, "invalid_parameter")["fields"][0]["expected"] == "..9"


async def test_the_cache_forgets_in_time_and_is_bounded_and_makes_an_answer_once() -> None:
    now, made = [0.0], []

    async def make() -> Answer:
        made.append(1)
        await asyncio.sleep(0)
        return Answer(b"x" * 1000)

    cache = AnswerCache(30, lambda: now[0])
    await asyncio.gather(*(cache.get("a", make) for _ in range(5)))
    assert len(made) == 1
    now[0] = 30
    await cache.get("a", make)
    assert len(made) == 2
    for key in range(300):
        await cache.get(key, make)
    await cache.get(0, make)
    assert len(made) == 303


async def test_the_caller_is_never_taken_from_parameters(any_site: Site) -> None:
    assert (await any_site.get("/whoami")).json() == {"name": "employee", "role": "employee"}
    error(await any_site.get("/whoami?name=admin"), 422, "invalid_parameter")
    error(await any_site.post("/attendance/check-in", json={"employee": "admin"}), 422, "invalid_parameter")


async def test_a_change_answers_its_row_and_breaks_no_uniqueness(any_site: Site) -> None:
    answer = await any_site.post("/attendance/check-in", json={"note": "early"})
    assert answer.status_code == 201
    row = answer.json()
    assert (row["employee"], row["note"], row["day"]) == ("employee", "early", datetime.now(UTC).date().isoformat())
    assert row["at"].endswith("Z")
    again = error(await any_site.post("/attendance/check-in"), 409, "conflict")
    assert again["message"] == "already checked in today"
    assert (await any_site.post("/attendance/check-in", who="manager")).status_code == 201


async def test_a_change_of_no_row_says_so(any_site: Site) -> None:
    await any_site.insert("attendance", {"id": 5, "employee": "employee", "day": date(2025, 3, 1), "note": "old"})
    answer = await any_site.ask("PATCH", "/attendance/5", json={"note": "new"})
    assert answer.json() == {"changed": 1}
    assert (await any_site.ask("PATCH", "/attendance/5", json={"note": "new"})).json() == {"changed": 1}
    assert (
        error(await any_site.ask("PATCH", "/attendance/6", json={"note": "x"}), 404, "not_found")["message"]
        == "no such attendance of yours"
    )
    error(await any_site.ask("PATCH", "/attendance/5", "manager", json={"note": "x"}), 404, "not_found")


async def test_two_check_ins_at_once_make_one_row(any_site: Site) -> None:
    await any_site.token("employee")
    answers = await asyncio.gather(*(any_site.post("/attendance/check-in") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"note": 1}', 422, "invalid_parameter"),
        (b'{"note": "' + b"x" * 21 + b'"}', 422, "invalid_parameter"),
        (b'{"note": "a", "id": 6}', 422, "invalid_parameter"),
        (b'{"note": null}', 422, "invalid_parameter"),
        (b'{"note"', 400, "invalid_json"),
        (b'{"note": "\xff"}', 400, "invalid_json"),
        (b"[]", 422, "not_an_object"),
        (b'{"note": ' + b"[" * 100_000, 400, "too_deep"),
        (b'{"note": "' + b"x" * (1 << 20) + b'"}', 413, "too_large"),
    ],
)
async def test_bodies_are_bounded_and_checked(site: Site, body: bytes, status: int, code: str) -> None:
    error(await site.ask("PATCH", "/attendance/5", content=body), status, code)


async def test_a_value_that_no_column_takes_is_refused(mariadb_site: Site) -> None:
    error(await mariadb_site.post("/attendance/check-in", json={"note": "x" * 21}), 422, "invalid_value")


async def test_a_kept_value_or_the_empty_one(site: Site) -> None:
    assert (await site.get("/dashboard/summary")).json() == {"total": 0}
    site.services.kept_values["line", "dashboard", "stats_update"] = b'{"total":7}'
    assert (await site.get("/dashboard/summary")).content == b'{"total":7}'
    error(await site.get("/dashboard/summary?x=1"), 422, "invalid_parameter")


async def test_a_fault_of_ours_shows_an_id_and_nothing_else(site: Site) -> None:
    found = error(await site.get("/broken"), 500, "internal")
    assert len(found["id"]) == 16
    assert "nowhere" not in str(found)


async def test_a_channel_asks_a_query_by_name(site: Site) -> None:
    await fill(site, 3)
    answer = await site.app.flow_routes.ask("line", "of_car", {"car_id": "2"})
    assert [row["car_id"] for row in httpx2.Response(200, content=answer.body).json()] == [2]
