"""The table log: rows as they were at a version, what changed between, and what is forgotten."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EnvironmentFault
from engine.table_log import NAME, TableLogFile

SHAPE, PAIR = "device(id)", "pair(a, b)"


@pytest.fixture
def log(tmp_path: Path) -> TableLogFile:
    return TableLogFile(tmp_path)


def row(number: int) -> dict[str, Any]:
    return {"id": "d", "n": number}


def test_rows_are_as_they_were_at_each_version(log: TableLogFile) -> None:
    assert [log.add({SHAPE: {"d": row(1), "e": row(5)}}), log.add({SHAPE: {"d": row(2)}})] == [1, 2]
    assert log.add({SHAPE: {"e": None}, PAIR: {(1, "x"): row(7)}}) == 3
    assert log.rows(1)[SHAPE] == {"d": row(1), "e": row(5)}
    assert log.rows(2)[SHAPE] == {"d": row(2), "e": row(5)}
    assert log.rows(3) == {SHAPE: {"d": row(2)}, PAIR: {(1, "x"): row(7)}}
    assert log.changes(1, 3) == {SHAPE: {"d": row(2), "e": None}, PAIR: {(1, "x"): row(7)}}
    assert (log.head(), log.first(SHAPE), log.first(PAIR), log.first("no(id)")) == (3, 1, 3, 0)


def test_a_table_has_its_first_rows_before_it_was_live(log: TableLogFile) -> None:
    log.add({SHAPE: {"d": row(1)}})
    log.add({PAIR: {(1, "x"): row(7)}})
    assert log.rows(0) == {SHAPE: {"d": row(1)}, PAIR: {(1, "x"): row(7)}}


def test_values_of_all_kinds_come_back(log: TableLogFile) -> None:
    values = {
        "t": datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
        "n": 2.5,
        "b": True,
        "j": {"a": [1, None]},
        "s": "ä",
        "none": None,
    }
    log.add({SHAPE: {7: values}})
    assert log.rows(1)[SHAPE] == {7: values}


def test_a_version_is_found_by_the_offset_of_its_mark(log: TableLogFile, tmp_path: Path) -> None:
    for number in range(3):
        log.add({SHAPE: {"d": row(number)}})
    assert log.unmarked() == 3
    log.mark(1, 10)
    log.mark(2, 20, 2_000)
    log.mark(1, 10, 1_000)
    assert (log.unmarked(), log.before(10), log.before(11), log.before(20), log.before(99)) == (3, 0, 1, 1, 2)
    log.mark(3, 30, 9_000)
    log.mark(3, 40, 9_900)
    assert (log.unmarked(), log.before(31)) == (0, 3)
    assert TableLogFile(tmp_path).late(3, 7_500) == [(2, 2_000), (3, 9_000)]
    assert log.late(2, 500) == [(2, 2_000)]
    assert log.late(0, 500) == []


def test_what_was_replaced_before_the_oldest_event_is_forgotten(log: TableLogFile) -> None:
    for number in range(5):
        log.add({SHAPE: {"d": row(number), "e": None if number == 2 else row(number)}})
        log.mark(number + 1, 10 * (number + 1))
    before = [log.rows(version) for version in range(6)]
    log.trim(35)
    assert [log.rows(version) for version in (3, 4, 5)] == before[3:]
    assert log.changes(0, 3)[SHAPE] == {"d": row(2)}
    log.trim(1_000)
    assert log.rows(5) == before[5]
    assert log.changes(0, 9) == {SHAPE: {"d": row(4), "e": row(4)}}


def test_what_is_no_log_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database, but bytes enough for a header" * 10)
    with pytest.raises(EnvironmentFault, match="the rows of live tables; file is not a database"):
        TableLogFile(tmp_path)
