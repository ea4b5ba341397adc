"""The store of dead letters: idempotent, read by others while it is written."""

import multiprocessing
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.dead_letters import DeadLetterStore, Letter, ReasonCount
from engine.errors import EnvironmentFault, Unavailable


def letter(number: int, **changes: Any) -> Letter:
    fields: dict[str, Any] = {
        "id": number.to_bytes(16, "big"), "node": "results", "time": 1000 + number, "source": "station",
        "topic": "sensor/result", "reason": "column device: text; got 1", "details": {"column": "device"},
        "payload": b'{"device": 1}', "version": "3f2a",
    }  # fmt: skip
    return Letter(**fields | changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeadLetterStore]:
    store = DeadLetterStore(tmp_path / "flow" / "deadletters.db")
    yield store
    store.close()


def test_what_is_not_there_is_empty_and_not_made(store: DeadLetterStore) -> None:
    assert (store.rows(), store.by_reason(), store.get(b"1", "a")) == ([], [], None)
    assert (store.count(), store.mark([(b"1", "a")], "dropped")) == (0, 0)
    assert not store.path.parent.exists()


def test_a_letter_comes_back_as_it_was(store: DeadLetterStore) -> None:
    given = letter(1, payload=b"\x00\xff", details={"a": [1.5, None, "🚗"]}, topic="a/'b'", reason="%s \\ \n")
    assert store.add([given]) == 1
    assert store.rows() == [msgspec.structs.replace(given, number=1)]
    assert store.get(given.id, "results") == store.rows()[0]


def test_details_that_are_no_json_are_kept_as_text(store: DeadLetterStore) -> None:
    store.add([letter(1, details={"value": 1j, "bad": float("nan")})])
    store.add([letter(2, details={"t": "\ud800"}, topic="\ud800")])
    assert [one.details for one in store.rows()] == [{"text": "{'t': '\\ud800'}"}, {"value": "1j", "bad": None}]
    assert store.rows()[0].topic == "?"


def test_a_letter_that_is_known_is_not_added_again(store: DeadLetterStore) -> None:
    assert store.add([letter(1), letter(2)]) == 2
    store.mark([(letter(1).id, "results")], "dropped")
    assert store.add([letter(2), letter(1, reason="other"), letter(1, node="verdict")]) == 1
    assert [(one.node, one.state, one.reason) for one in store.rows(node="results")] == [
        ("results", "new", "column device: text; got 1"),
        ("results", "dropped", "column device: text; got 1"),
    ]


def test_pages_follow_each_other_while_letters_come(store: DeadLetterStore) -> None:
    store.add(letter(n) for n in range(10))
    first = store.rows(limit=4)
    store.add([letter(99)])
    second = store.rows(limit=4, before=first[-1].number)
    assert [one.time - 1000 for one in first + second] == [9, 8, 7, 6, 5, 4, 3, 2]


def test_reasons_are_counted(store: DeadLetterStore) -> None:
    store.add([*(letter(n) for n in range(5)), letter(7, node="verdict", reason="one_of"), letter(9, reason="no")])
    store.mark([(letter(0).id, "results"), (b"unknown", "results")], "retried")
    assert store.by_reason("new") == [
        ReasonCount("results", "column device: text; got 1", 4, 1004),
        ReasonCount("results", "no", 1, 1009),
        ReasonCount("verdict", "one_of", 1, 1007),
    ]
    assert (store.count(), store.count(state="new"), store.count("verdict")) == (7, 6, 1)


def test_a_state_that_there_is_not(store: DeadLetterStore) -> None:
    with pytest.raises(ValueError, match="one of new, retried, dropped; got 'lost'"):
        store.mark([], "lost")


def _write(path: Path, begin: int) -> None:
    store = DeadLetterStore(path)
    for number in range(begin, begin + 200, 10):
        store.add(letter(one) for one in range(number, number + 10))
    store.close()


def test_others_read_and_write_at_the_same_time(store: DeadLetterStore) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(store.path, begin)) for begin in (0, 100)]
    for writer in writers:
        writer.start()
    seen = [0]
    while any(writer.is_alive() for writer in writers):
        seen.append(store.count())
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen == sorted(seen)
    assert all(count % 10 == 0 for count in seen)
    assert store.count() == 300


def test_a_locked_file_is_a_matter_of_later(store: DeadLetterStore) -> None:
    store.add([letter(1)])
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = DeadLetterStore(store.path, patience=0.1)
    with pytest.raises(Unavailable, match="database is locked"):
        impatient.add([letter(2)])
    assert impatient.count() == 1
    other.execute("ROLLBACK")
    assert impatient.add([letter(2)]) == 1
    impatient.close()
    other.close()


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database, but long enough to be one" * 100)
    with pytest.raises(EnvironmentFault, match="file is not a database"):
        DeadLetterStore(tmp_path / "x.db").count()
