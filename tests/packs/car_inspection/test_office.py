"""Attendance, and the rooms in which people talk: both for employees who are logged in."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from websockets.exceptions import InvalidStatus

from tests.packs.car_inspection.line import ENDS_WITH_Z, Line
from tests.packs.car_inspection.live import Socket

FIELDS = {"id", "employee", "day", "check_in", "check_out"}
MESSAGE = {"id", "room", "author", "text", "created_at"}


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_a_day_at_work(line: Line) -> None:
    with line.bearing(line.account("anna")) as anna:
        begun = anna.post("/attendance/check-in")
        assert begun.status_code == 201, begun.text
        row = begun.json()
        assert set(row) == FIELDS
        assert (row["employee"], row["day"], row["check_out"]) == ("anna", today(), None)
        assert ENDS_WITH_Z.fullmatch(row["check_in"])
        again = anna.post("/attendance/check-in")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        ended = anna.post("/attendance/check-out")
        assert ended.status_code == 200, ended.text
        assert ended.json() == row | {"check_out": ended.json()["check_out"]}
        assert ended.json()["check_out"] > row["check_in"]
        assert ENDS_WITH_Z.fullmatch(ended.json()["check_out"])
        assert anna.post("/attendance/check-out").status_code == 409
        assert anna.post("/attendance/check-in").status_code == 409
    assert line.count("attendance", "employee = 'anna'") == 1


def test_nobody_leaves_who_has_not_come(line: Line) -> None:
    with line.bearing(line.account("ben")) as ben:
        assert ben.post("/attendance/check-out").status_code == 409
    assert line.count("attendance", "employee = 'ben'") == 0


def test_nobody_checks_in_for_another(line: Line) -> None:
    with line.bearing(line.account("carl")) as carl:
        answer = carl.post("/attendance/check-in", json={"employee": "dora"})
        assert answer.status_code in (201, 422)
    assert line.count("attendance", "employee = 'dora'") == 0


def test_the_list_of_a_day(line: Line) -> None:
    for name in ("emil", "frida"):
        with line.bearing(line.account(name)) as client:
            assert client.post("/attendance/check-in").status_code == 201
    rows = line.get("/attendance", date=today())
    assert {"emil", "frida"} <= {row["employee"] for row in rows}
    assert all(set(row) == FIELDS and row["day"] == today() for row in rows)
    assert line.get("/attendance") == rows
    assert line.get("/attendance", date=(datetime.now(UTC) - timedelta(days=2)).date()) == []


@pytest.mark.parametrize("date", ["yesterday", "", "2026-02-30", "' OR 1=1 --", "2026-01-01T00:00:00Z!", "{{7*7}}"])
def test_a_date_that_is_none_is_a_422_that_names_it(line: Line, date: str) -> None:
    answer = line.http.get("/attendance", params={"date": date})
    assert answer.status_code == 422, answer.text
    assert [field["field"] for field in answer.json()["error"]["fields"]] == ["date"]


def said(line: Line, room: str, *texts: str, name: str = "anna") -> list[int]:
    """Say something in a room and return the numbers once they are heard."""
    with Socket(line, f"/ws/chat/{room}", line.account(name)) as client:
        client.next("history")
        numbers = []
        for text in texts:
            client.send({"text": text})
            heard = client.next("message")
            assert heard["text"] == text
            numbers.append(heard["id"])
    return numbers


def test_what_is_said_reaches_everybody_in_the_room_and_is_stored(line: Line) -> None:
    with (
        Socket(line, "/ws/chat/hall", line.account("anna")) as anna,
        Socket(line, "/ws/chat/hall", line.account("ben")) as ben,
        Socket(line, "/ws/chat/yard", line.account("ben")) as elsewhere,
    ):
        assert anna.next("history") == ben.next("history") == elsewhere.next("history") == []
        anna.send({"text": "안녕, wie geht's? <b>'; --"})
        heard = ben.next("message")
        assert anna.next("message") == heard
        said(line, "yard", "only here")
        assert elsewhere.next("message")["text"] == "only here"
    assert set(heard) == MESSAGE
    assert (heard["room"], heard["author"], heard["text"]) == ("hall", "anna", "안녕, wie geht's? <b>'; --")
    assert ENDS_WITH_Z.fullmatch(heard["created_at"])
    line.until(lambda: line.count("chat_message", "room = 'hall'") == 1, "the row is there")
    found = line.query("SELECT id, author, text FROM chat_message WHERE room = 'hall'")
    assert found == [(heard["id"], "anna", heard["text"])]


def test_who_comes_later_gets_the_history(line: Line) -> None:
    numbers = said(line, "canteen", "one", "two", "three")
    line.until(lambda: line.count("chat_message", "room = 'canteen'") == 3, "the rows are there")
    with Socket(line, "/ws/chat/canteen", line.account("ben")) as client:
        history = client.next("history")
    assert [message["text"] for message in history] == ["one", "two", "three"]
    assert [message["id"] for message in history] == numbers
    assert all(set(message) == MESSAGE and ENDS_WITH_Z.fullmatch(message["created_at"]) for message in history)


def test_nobody_speaks_for_another_or_into_another_room(line: Line) -> None:
    with Socket(line, "/ws/chat/shed", line.account("ben")) as client:
        client.next("history")
        more = {"author": "anna", "room": "hall", "id": 1, "created_at": "1999-01-01T00:00:00Z"}
        client.send({"text": "it was me", **more})
        heard = client.next("message")
    assert (heard["author"], heard["room"]) == ("ben", "shed")
    assert heard["created_at"] > "2020"


LONG = json.dumps({"text": "x" * 2001})


@pytest.mark.parametrize("frame", ['{"text": ""}', '{"text": 5}', "{}", '{"text": null}', LONG, "[1]", '"hi"'])
def test_what_cannot_be_said_is_a_dead_letter(line: Line, frame: str) -> None:
    letters = len(line.letters("office"))
    room = f"cellar-{letters}"
    with Socket(line, f"/ws/chat/{room}", line.account("ben")) as client:
        client.next("history")
        client.send(frame)
        line.until(lambda: len(line.letters("office")) == letters + 1, "the dead letter is there")
        client.send({"text": "still works"})
        client.next("message")
    line.until(lambda: line.count("chat_message", f"room = '{room}'") > 0, "the good one is stored")
    assert line.query("SELECT text FROM chat_message WHERE room = ?", room) == [("still works",)]


@pytest.mark.parametrize("frame", ["{", "", b"\x00\x01", "[" * 100_000 + "]" * 100_000, '{"text": "\\ud800"'])
def test_a_frame_that_is_no_json_gets_an_error_and_harms_nothing(line: Line, frame: str | bytes) -> None:
    with Socket(line, "/ws/chat/attic", line.account("ben")) as other:
        other.next("history")
        with Socket(line, "/ws/chat/attic", line.account("anna")) as client:
            client.next("history")
            client.send(frame)
            heard = client.next("error") if len(frame) < 1000 else client.await_next("close", lambda _: True).data
            assert heard["code"] in ("invalid_frame", 1009)
        said(line, "attic", "still works")
        other.next("message", lambda data: data["text"] == "still works")


@pytest.mark.parametrize("token", [None, "", "not-a-token"])
def test_no_chat_without_a_token(line: Line, token: str | None) -> None:
    assert refusal(line, token) in (401, 4401)


def test_no_chat_for_a_viewer(line: Line) -> None:
    assert refusal(line, line.account("vera", "viewer")) in (403, 4403)


def refusal(line: Line, token: str | None) -> int:
    """Return how a chat is refused: the status of the handshake, or the code of the close."""
    try:
        with Socket(line, "/ws/chat/hall", token) as client:
            return int(client.await_next("close", lambda _: True).data["code"])
    except InvalidStatus as fault:
        return fault.response.status_code
