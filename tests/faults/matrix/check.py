"""What a row has shown: compares what was acknowledged with the tables and with what the dashboards saw."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import msgspec

from tests.faults.matrix.load import Final, Seen
from tests.faults.matrix.rig import Rig
from tests.faults.matrix.watch import Table

WIDTH, LATENESS = 1_000, 2_000
Key = tuple[str, int]
KEPT = "SELECT device, n, COUNT(*) FROM event GROUP BY device, n"
WINDOWS = f"SELECT device, FLOOR(t / {WIDTH}) * {WIDTH}, COUNT(*) FROM event GROUP BY 1, 2"  # noqa: S608 - a number
NEWEST = "SELECT device, MAX(t) FROM event GROUP BY device"


class Outcome(msgspec.Struct):
    """One row of the matrix. Counts are of events, gaps and recovery in seconds; `fails` says what does not hold."""

    row: str
    fault: str = ""
    acknowledged: int = 0
    stored: int = 0
    dead: int = 0
    lost: int = 0
    doubled: int = 0
    split: int = 0
    gap_stored: float = 0.0
    gap_pushed: float = 0.0
    recover: float = 0.0
    recoveries: list[float] = []
    seconds: float = 0.0
    load_cpu: float = 0.0
    late: int = 0
    windows: int = 0
    pushes_missed: int = 0
    pushes_doubled: int = 0
    http_errors: int = 0
    busy: int = 0
    resent: int = 0
    resent_twice: int = 0
    notes: list[str] = []
    fails: list[str] = []

    @property
    def holds(self) -> bool:
        """Tell whether the row shows what it must."""
        return not self.fails

    def must(self, condition: object, what: str) -> None:
        """Note what does not hold."""
        if not condition:
            self.fails.append(what)


def outcome(name: str, rig: Rig, final: Final, seconds: float, *, may_begin_anew: bool = False) -> Outcome:
    """Return what every row has in common, with what must hold in every row."""
    status = final.status
    found = Outcome(
        name, acknowledged=status.acknowledged + len(final.refused), seconds=seconds,
        load_cpu=round(status.cpu / max(seconds, 1), 3), gap_stored=rig.watch.longest_gap, gap_pushed=status.gap,
        recoveries=rig.recoveries, recover=max(rig.recoveries, default=0.0), http_errors=status.http_errors,
        busy=status.busy, resent=len(final.resent),
    )  # fmt: skip
    compare(found, rig.table, final, rig.spec.every)
    resets = sum(board.resets for board in final.dashboards)
    if may_begin_anew and resets:
        found.notes.append(f"dashboards began anew, with a snapshot, {resets} times")
    else:
        found.must(not resets, f"dashboards had to begin anew {resets} times")
    return found


def compare(found: Outcome, table: Table, final: Final, every: int) -> None:
    """Count what was lost, doubled, split, late and missed, and judge it; one event in `every` is pushed."""
    _events(found, table, final)
    _windows(found, table)
    _pushes(found, final, every)
    _judge(found, final)


def _events(found: Outcome, table: Table, final: Final) -> None:
    kept: Counter[Key] = Counter({(str(d), int(str(n))): int(str(c)) for d, n, c in table.rows(KEPT)})
    due = acknowledged(final)
    resent = set(final.resent)
    found.stored = kept.total()
    found.lost = len(due - kept.keys())
    found.doubled = sum(count - 1 for key, count in kept.items() if key not in resent)
    found.resent_twice = sum(count - 1 for key, count in kept.items() if key in resent)


def acknowledged(final: Final) -> set[Key]:
    """Return every (device, n) that a sender was told is safe."""
    ranges = ((device, pair) for device, pairs in final.acknowledged.items() for pair in pairs)
    return {(device, n) for device, (first, last) in ranges for n in range(first, last + 1)}


def _windows(found: Outcome, table: Table) -> None:
    """Count the windows that came twice, have another count than their events, or never came; and what was late."""
    newest = {str(device): float(str(t)) for device, t in table.rows(NEWEST)}
    events = {(str(d), int(float(str(start)))): int(str(count)) for d, start, count in table.rows(WINDOWS)}
    due = {key: count for key, count in events.items() if key[1] + WIDTH <= newest[key[0]] - LATENESS}
    closed: Counter[Key] = Counter()
    wrong: set[Key] = set()
    for device, opened, count in table.rows("SELECT device, opened, events FROM closed_window"):
        key = (str(device), _milliseconds(opened))
        closed[key] += 1
        if closed[key] > 1 or events.get(key) != count:
            wrong.add(key)
    found.windows, found.split = len(closed), len(wrong | (due.keys() - closed.keys()))
    found.late = table.number("SELECT COUNT(*) FROM late_event")


def _milliseconds(moment: object) -> int:
    assert isinstance(moment, datetime)
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _pushes(found: Outcome, final: Final, every: int) -> None:
    """Compare what each dashboard saw, by its numbers and by its content; one that connected late may lack the start."""
    due = {key for key in acknowledged(final) if key[1] % every == 0}
    for board in final.dashboards:
        seen = Counter({(device, n): count for device, ns in board.seen.items() for n, count in Counter(ns).items()})
        first = {device: min(ns) for device, ns in board.seen.items()}
        missing = [key for key in due - seen.keys() if key[1] > first.get(key[0], 0)]
        found.pushes_missed += max(board.missed, len(missing))
        found.pushes_doubled += max(board.doubled, sum(count - 1 for count in seen.values()))


def _judge(found: Outcome, final: Final) -> None:
    found.must(found.acknowledged > 0 and found.windows > 0, "there is something to see")
    found.must(final.status.stopped, f"{final.status.open} events were never acknowledged")
    found.must(not found.lost, f"{found.lost} lost")
    found.must(not found.doubled, f"{found.doubled} doubled")
    found.must(not found.split, f"{found.split} windows split")
    found.must(not found.late, f"{found.late} late")
    found.must(not found.pushes_missed, f"dashboards missed {found.pushes_missed} pushes")
    found.must(not found.pushes_doubled, f"dashboards got {found.pushes_doubled} pushes twice")
    found.must(not found.http_errors, f"{found.http_errors} HTTP errors: {final.status.last_error}")
    wrong = [board.total for board in final.dashboards if not _counts_all(board, found.stored)]
    found.must(not wrong, f"the kept totals say {wrong}, stored are {found.stored}")


def _counts_all(board: Seen, stored: int) -> bool:
    return board.total == stored
