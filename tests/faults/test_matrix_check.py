"""The matrix sees what is wrong: each kind of damage, done by hand, is counted and fails the row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.matrix.check import Outcome, compare
from tests.faults.matrix.dashboard import Numbers
from tests.faults.matrix.events import Acknowledged, Device
from tests.faults.matrix.load import Final, Seen, Status
from tests.faults.matrix.report import BEGIN, END, README, write_readme
from tests.faults.matrix.watch import Table
from tests.services import MariaDB

MILLISECONDS = 1_700_000_000_000
EVENTS, EVERY = 60, 10
TABLES = (
    "CREATE TABLE event (id BIGINT AUTO_INCREMENT PRIMARY KEY, device VARCHAR(20), n BIGINT, t DOUBLE)",
    "CREATE TABLE closed_window (device VARCHAR(20), opened DATETIME(6), events BIGINT)",
    "CREATE TABLE late_event (device VARCHAR(20), n BIGINT)",
)


@pytest.fixture
def table(mariadb: MariaDB) -> Iterator[Table]:
    """What a faultless run leaves: ten events a second of one device, and its windows but for the last three."""
    found = Table(mariadb.database("check"))
    for statement in TABLES:
        found.rows(statement)
    for n in range(1, EVENTS + 1):
        found.rows("INSERT INTO event (device, n, t) VALUES ('m0', %s, %s)", n, MILLISECONDS + (n - 1) * 100)
    for second in range(3):
        opened = "FROM_UNIXTIME(%s)"
        found.rows("SET time_zone = '+00:00'")
        found.rows(f"INSERT INTO closed_window VALUES ('m0', {opened}, 10)", MILLISECONDS // 1000 + second)  # noqa: S608
    yield found
    found.close()


def final(**changes: object) -> Final:
    seen = Seen({"m0": list(range(EVERY, EVENTS + 1, EVERY))}, EVENTS, 0, 0, 0, 1)
    status = Status(acknowledged=EVENTS, stopped=True)
    known = {"status": status, "acknowledged": {"m0": [(1, EVENTS)]}, "refused": [], "resent": [], "dashboards": [seen]}
    return Final(**{**known, **changes})  # type: ignore[arg-type]


def outcome(table: Table, last: Final) -> Outcome:
    found = Outcome("a row", acknowledged=last.status.acknowledged, http_errors=last.status.http_errors)
    compare(found, table, last, EVERY)
    return found


def test_a_faultless_run_holds(table: Table) -> None:
    found = outcome(table, final())
    assert found.fails == []
    assert (found.stored, found.lost, found.doubled, found.split, found.windows) == (EVENTS, 0, 0, 0, 3)


@pytest.mark.parametrize(
    ("damage", "counts", "fails"),
    [
        ("DELETE FROM event WHERE n = 60", {"lost": 1}, "1 lost"),
        ("INSERT INTO event (device, n, t) SELECT device, n, t FROM event WHERE n = 60", {"doubled": 1}, "1 doubled"),
        ("UPDATE closed_window SET events = 9 LIMIT 1", {"split": 1}, "1 windows split"),
        ("INSERT INTO closed_window SELECT * FROM closed_window LIMIT 1", {"split": 1}, "1 windows split"),
        ("DELETE FROM closed_window LIMIT 1", {"split": 1}, "1 windows split"),
        ("INSERT INTO late_event VALUES ('m0', 7)", {"late": 1}, "1 late"),
    ],
)
def test_damage_to_the_tables_is_seen(table: Table, damage: str, counts: dict[str, int], fails: str) -> None:
    table.rows(damage)
    found = outcome(table, final())
    assert {name: getattr(found, name) for name in counts} == counts
    assert fails in found.fails


def test_what_the_publisher_sent_again_may_come_twice(table: Table) -> None:
    table.rows("INSERT INTO event (device, n, t) SELECT device, n, t FROM event WHERE n = 60")
    found = outcome(table, final(resent=[("m0", 60)]))
    assert (found.doubled, found.resent_twice) == (0, 1)


@pytest.mark.parametrize(
    ("seen", "fails"),
    [
        (Seen({"m0": [10, 20, 40, 50, 60]}, EVENTS, 0, 0, 0, 1), "dashboards missed 1 pushes"),
        (Seen({"m0": [10, 20, 30, 40, 50, 50, 60]}, EVENTS, 0, 0, 0, 1), "dashboards got 1 pushes twice"),
        (
            Seen({"m0": [10, 20, 30, 40, 50, 60]}, EVENTS - 1, 0, 0, 0, 1),
            f"the kept totals say [59], stored are {EVENTS}",
        ),
    ],
)
def test_what_a_dashboard_lacks_is_seen(table: Table, seen: Seen, fails: str) -> None:
    assert outcome(table, final(dashboards=[seen])).fails == [fails]


def test_what_was_never_acknowledged_and_an_http_error_fail(table: Table) -> None:
    status = Status(acknowledged=EVENTS, open=3, http_errors=2, last_error="500")
    assert outcome(table, final(status=status)).fails == ["3 events were never acknowledged", "2 HTTP errors: 500"]


def test_numbers_of_frames_are_followed_over_reconnects() -> None:
    numbers = Numbers()
    for number in ("a-4", "a-5", "a-6", "a-6", "a-9", "b-1", "b-2"):
        numbers.take(number)
    assert (numbers.missed, numbers.doubled, numbers.resets) == (2, 1, 1)


def test_acknowledgements_in_any_order_make_ranges() -> None:
    known = Acknowledged()
    for n in (2, 1, 5, 3):
        known.add([n])
    assert (len(known), known.ranges()) == (4, [(1, 3), (5, 5)])


def test_a_tenth_is_rubbish_and_has_no_number() -> None:
    events = Device("m0", 0.1, objects=False, every=100, pad=0).make(1000)
    assert sum(event.n == 0 for event in events) == 100
    assert [event.n for event in events if event.n] == list(range(1, 901))
    assert len({event.payload for event in events}) == 1000


def test_the_table_takes_its_place_in_the_readme(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())
    for lost in (0, 3):
        found = Outcome("worker", fault="worker kill -9", acknowledged=12_000, stored=12_000 - lost, lost=lost)
        found.must(not lost, f"{lost} lost")
        write_readme([found], copy)
    before, _, rest = copy.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    assert before + after == README.read_text().split(BEGIN)[0] + README.read_text().split(END)[1]
    assert "| worker kill -9 | 12,000 | 11,997 | 3 | 0 | 0 of 0 | 0.0 s | 0.0 s | - | FAILS |" in table.splitlines()
