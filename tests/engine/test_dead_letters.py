"""The store of dead letters: idempotent, bounded, read by others while it is written."""

import multiprocessing
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.dead_letters import DeadLetterStore
from engine.errors import EnvironmentFault, Unavailable
from engine.letter import Cause, Letter, Selection


def letter(number: int, **changes: Any) -> Letter:
    fields: dict[str, Any] = {
        "id": number.to_bytes(16, "big"), "node": "results", "time": 1000 + number, "source": "station",
        "topic": "sensor/result", "reason": "column device: text; got 1", "cause": "column device: text; got …", "details": {"column": "device"},
        "payload": b'{"device": 1}', "version": "3f2a",
    }  # fmt: skip
    return Letter(**fields | changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeadLetterStore]:
    store = DeadLetterStore(tmp_path / "flow" / "deadletters.db")
    yield store
    store.close()


def again(first: Letter, **changes: Any) -> Letter:
    return msgspec.structs.replace(
        first, **{"time": first.time + 5000, "reason": "column device: text; got 2"} | changes
    )


def test_what_is_not_there_is_empty_and_not_made(store: DeadLetterStore) -> None:
    assert (store.rows(), store.causes(), store.get(b"1", "a"), store.find("1")) == ([], [], None, [])
    assert (store.count(), store.counts(), store.mark([letter(1)], "dropped", "ada")) == (0, {}, 0)
    assert not store.path.parent.exists()


def test_a_letter_comes_back_as_it_was(store: DeadLetterStore) -> None:
    given = letter(
        1, payload=b"\x00\xff", details={"a": [1.5, None, "🚗"]}, topic="a/'b'", reason="%s \\ \n", cause="%s \\",
        event_time=7, key="k", meta={"at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\xff"}, exact=b"\x80",
    )  # fmt: skip
    assert store.add([given]) == 1
    assert store.rows() == [msgspec.structs.replace(given, number=1)]
    assert store.get(given.id, "results") == store.rows()[0]


def test_what_cannot_be_written_is_kept_as_near_as_it_can(store: DeadLetterStore) -> None:
    store.add([letter(1, details={"value": 1j, "bad": float("nan")}, meta={"big": 1 << 70})])
    store.add([letter(2, details={"t": "\ud800"}, topic="\ud800")])
    assert [one.details for one in store.rows()] == [{"text": "{'t': '\\ud800'}"}, {"value": "1j", "bad": None}]
    assert (store.rows()[0].topic, store.rows()[1].meta) == ("?", {"big": float(1 << 70)})


def test_a_letter_that_comes_again_from_a_replay_stays_as_it_is(store: DeadLetterStore) -> None:
    assert store.add([letter(1), letter(2)]) == 2
    store.mark(store.rows(), "dropped", "ada")
    before = store.rows()
    assert store.add([letter(2), letter(1, reason="other"), letter(1, node="verdict")]) == 1
    assert store.rows(Selection(node="results")) == before


@pytest.mark.parametrize("state", ["new", "retried", "dropped"])
def test_one_that_fails_again_later_is_new(store: DeadLetterStore, state: str) -> None:
    """Also where the worker was faster than the mark, and where somebody dropped it meanwhile."""
    store.add([letter(1)])
    if state != "new":
        store.mark(store.rows(), state, "ada")
    assert store.add([again(letter(1)), again(letter(1))]) == 1
    [found] = store.rows()
    assert (found.state, found.attempt, found.changed_by, found.time) == ("new", 2, "", 6001)
    assert (found.reason, found.number, store.counts()) == ("column device: text; got 2", 1, {"new": 1})


def test_a_mark_that_comes_late_does_not_hide_a_new_failure(store: DeadLetterStore) -> None:
    store.add([letter(1)])
    read = store.rows()
    store.add([again(letter(1))])
    assert store.mark(read, "retried", "ada") == 0
    assert store.fix([(read[0], b"{}")], "ada") == 0
    assert store.rows()[0].state == "new"


def test_states_change_one_way(store: DeadLetterStore) -> None:
    store.add([letter(1), letter(2)])
    one, two = store.rows()
    assert store.mark([one], "dropped", "ada") == 1
    assert store.mark([one, two], "retried", "kim") == 2
    assert store.mark([one, two], "dropped", "ada") == store.mark([one, two], "retried", "ada") == 0
    assert store.fix([(one, b"{}")], "ada") == 0
    assert {(found.state, found.changed_by, found.changed_at > 0) for found in store.rows()} == {
        ("retried", "kim", True)
    }
    with pytest.raises(ValueError, match="one of retried, dropped; got 'lost'"):
        store.mark([], "lost", "ada")


def test_edited_data_stand_beside_the_original_as_long_as_it_is_theirs(store: DeadLetterStore) -> None:
    store.add([letter(1)])
    assert store.fix([(store.rows()[0], b'{"device": "a"}')], "ada") == 1
    fixed = store.rows()[0]
    assert (fixed.payload, fixed.fixed, fixed.changed_by) == (b'{"device": 1}', b'{"device": "a"}', "ada")
    store.add([again(letter(1), payload=b'{"device": "a"}')])
    assert (store.rows()[0].payload, store.rows()[0].fixed) == (b'{"device": 1}', b'{"device": "a"}')
    store.add([again(letter(1), time=9000, payload=b'{"device": 2}', exact=b"x")])
    assert (store.rows()[0].payload, store.rows()[0].fixed, store.rows()[0].exact) == (b'{"device": 2}', None, b"x")
    assert store.fix([(store.rows()[0], b"1")], "ada") == store.fix([(store.rows()[0], None)], "ada") == 1
    assert store.rows()[0].fixed is None


def test_pages_follow_each_other_while_letters_come(store: DeadLetterStore) -> None:
    store.add(letter(n) for n in range(10))
    first = store.rows(limit=4)
    store.add([letter(99)])
    second = store.rows(limit=4, before=first[-1].number)
    assert [one.time - 1000 for one in first + second] == [9, 8, 7, 6, 5, 4, 3, 2]
    assert [one.time - 1000 for one in store.after(Selection(node="results"), 8, 2)] == [8, 9]


def test_letters_are_grouped_by_cause(store: DeadLetterStore) -> None:
    store.add(letter(n, reason=f"column device: text; got {n}") for n in range(5))
    store.add([letter(7, node="verdict", reason="one_of"), letter(9, reason="no 'x' in 3")])
    store.mark(store.rows(Selection(numbers=(1,))), "retried", "ada")
    assert store.causes(Selection(states=("new",))) == [
        Cause("results", "column device: text; got …", 4, 1004, "column device: text; got 4"),
        Cause("results", "no '…' in …", 1, 1009, "no 'x' in 3"),
        Cause("verdict", "one_of", 1, 1007, "one_of"),
    ]
    assert (store.count(), store.count(Selection(node="verdict"))) == (7, 1)
    assert store.counts() == {"new": 6, "retried": 1}


def test_a_selection_is_all_that_is_given(store: DeadLetterStore) -> None:
    store.add([*(letter(n) for n in range(10)), letter(3, node="verdict", reason="other")])
    chosen = Selection(
        node="results", cause="column device: text; got …", since=1003, until=1005, numbers=(1, 4, 5, 11)
    )
    assert [one.number for one in store.rows(chosen)] == [5, 4]
    assert store.count(chosen) == 2
    assert store.rows(Selection(states=())) == []


def test_a_letter_is_found_by_its_number_or_the_beginning_of_its_id(store: DeadLetterStore) -> None:
    store.add([letter(1), letter(1, node="verdict"), letter(0xFF0000)])
    assert [one.number for one in store.find("2")] == [2]
    assert [one.number for one in store.find(letter(1).id.hex())] == [1, 2]
    assert [one.number for one in store.find("00000000000000000000000000FF")] == [3]
    assert [one.number for one in store.find("000000000000000000")] == [1, 2, 3]
    for text in ("ff", "no id", "12345678901", "1" * 33, ""):
        assert [one.number for one in store.find(text)] == ([1, 2, 3] if not text else [])


def test_of_a_full_store_the_done_give_way_and_new_ones_stay(tmp_path: Path) -> None:
    store = DeadLetterStore(tmp_path / "small.db", most=4)
    store.add(letter(n) for n in range(4))
    store.mark(store.rows(Selection(numbers=(3,))), "dropped", "ada")
    store.mark(store.rows(Selection(numbers=(1,))), "retried", "ada")
    store.add([letter(5)])
    assert [one.number for one in store.rows()] == [5, 4, 2, 1]
    with pytest.raises(Unavailable, match="full of dead letters that are new: retry or drop some"):
        store.add([letter(6), letter(7)])
    assert [one.number for one in store.rows()] == [5, 4, 2, 1]
    assert store.full_since() is not None
    store.add([letter(5), letter(1), letter(3)])
    assert store.full_since() is None
    assert store.counts() == {"new": 3, "retried": 1}
    store.mark(store.rows(), "dropped", "ada")
    store.add([letter(6), letter(7)])
    assert store.counts() == {"new": 2, "dropped": 2}
    store.close()


def test_a_full_file_is_full_by_bytes(tmp_path: Path) -> None:
    store = DeadLetterStore(tmp_path / "small.db", most_bytes=1 << 20)

    def fill() -> None:
        for n in range(100):
            store.add([letter(n, payload=bytes(50_000))])

    with pytest.raises(Unavailable, match="full of dead letters"):
        fill()
    count = store.count()
    assert 15 <= count <= 20
    store.mark(store.rows(Selection(numbers=(1, 2))), "dropped", "ada")
    store.add([letter(1000, payload=bytes(50_000))])
    assert store.counts() == {"new": count - 1}
    store.close()


def test_a_file_of_the_first_version_is_changed_in_place(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(
        "CREATE TABLE dead (id BLOB NOT NULL, node TEXT NOT NULL, time INTEGER NOT NULL, source TEXT NOT NULL, "
        "topic TEXT NOT NULL, reason TEXT NOT NULL, details TEXT NOT NULL, payload BLOB NOT NULL, version TEXT NOT NULL, "
        "state TEXT NOT NULL DEFAULT 'new', PRIMARY KEY (id, node)); CREATE INDEX dead_reason ON dead (state, node);"
    )
    for n, state in ((1, "new"), (2, "dropped"), (3, "new")):
        row = (letter(n).id, "results", n, "station", "t", f"n: text; got {n}", "{}", b"{}", "3f2a", state)
        old.execute("INSERT INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.commit()
    stores = [DeadLetterStore(tmp_path / "old.db"), DeadLetterStore(tmp_path / "old.db")]
    assert [store.counts() for store in stores] == [{"new": 2, "dropped": 1}] * 2
    assert stores[0].causes() == [Cause("results", "n: text; got …", 3, 3, "n: text; got 3")]
    [found] = stores[1].rows(Selection(numbers=(1,)))
    assert (found.event_time, found.meta, found.attempt, found.fixed, found.key) == (1, None, 1, None, "")
    assert stores[1].add([letter(3, time=3), letter(4)]) == 1
    for store in stores:
        store.close()
    old.execute("PRAGMA user_version = 9")
    old.close()
    with pytest.raises(EnvironmentFault, match="expected a file of version 1; got 9"):
        DeadLetterStore(tmp_path / "old.db").count()


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
