"""The ledger of a flow: what became of all that it received. It is exact over crashes, replays and redeploys.

What is counted travels through the dataflow with the events, and the totals are part of the outlet's snapshot, so they
belong to the same cut as state and position: what is processed again is counted again from where that cut stood.

An event that two nodes take goes two *ways*; a window makes events of its own. So the books are kept in ways:

    received + retried + branched + made = stored + state + filtered + deduplicated + late + dead + dropped + in flight

and the difference of both sides, at each node by itself, must be 0.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.dead import DeadLetter
from engine.flow import Flow
from engine.ledger_accounts import Accounts, Settled

AT = "@"
INBOX = "inbox"


class Totals(msgspec.Struct):
    """What a snapshot holds: the offset at which counting began and up to which all is counted, and what it came to.

    `taken` are the records read between these offsets, `waiting` what sinks have not yet written (on disk).
    """

    base: int | None = None
    offset: int = 0
    taken: int = 0
    terms: dict[str, int] = {}
    where: dict[str, int] = {}
    waiting: int = 0

    def with_settled(self, settled: Settled, base: int | None, offset: int, waiting: int) -> "Totals":
        """Return the totals with what was settled since."""
        terms, where = _sum(self.terms, settled.terms), _sum(self.where, settled.where)
        return Totals(base, offset, self.taken + settled.taken, terms, {k: v for k, v in where.items() if v}, waiting)


class Ledger(msgspec.Struct, kw_only=True):
    """The terms in ways; `remainder` is how many are lost or doubled, `where` says at which nodes (lost: above 0)."""

    received: int = 0
    retried: int = 0
    branched: int = 0
    made: int = 0
    stored: int = 0
    state: int = 0
    filtered: int = 0
    deduplicated: int = 0
    late: int = 0
    dead: int = 0
    dropped: int = 0
    in_flight: int = 0
    remainder: int = 0
    where: dict[str, int] = {}

    def terms(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {name: getattr(self, name) for name in TERMS}


TERMS = tuple(name for name in Ledger.__struct_fields__ if name != "where")
GIVEN = ("received", "retried", "branched", "made")


def ledger_of(totals: Totals, head: int) -> Ledger:
    """Return the ledger when the inbox is committed up to `head`."""
    base = totals.offset if totals.base is None else totals.base
    missed = totals.offset - base - totals.taken
    where = totals.where | ({INBOX: missed} if missed else {})
    unread = max(0, head - totals.offset)
    found = Ledger(**totals.terms, where=where, remainder=sum(map(abs, where.values())))
    found.received += missed + unread
    found.stored -= totals.waiting
    found.in_flight += unread + totals.waiting
    return found


def moved(terms: Mapping[str, int], records: int) -> dict[str, int]:
    """Return the terms after the inbox has grown by some records that nobody has read."""
    return {**terms, "received": terms["received"] + records, "in_flight": terms["in_flight"] + records}


class Book:
    """Where a worker keeps the counts. All on the dataflow's thread, but `refused`, `conflated` and `ledger` on any."""

    def __init__(self, flow: Flow | None = None) -> None:
        self.totals = Totals()
        self._accounts = Accounts(flow) if flow else None
        self._counts: dict[str, int] = {}
        self._put: dict[str, int] = {}
        self._base: int | None = None
        self._offset = 0
        self._lock = threading.Lock()
        self._aside: Counter[str] = Counter()

    def begin(self, offset: int) -> None:
        """Count from here on, where nothing was counted before."""
        if self._base is None:
            self._base = self._offset = offset

    def restore(self, totals: Totals) -> None:
        """Go on from a snapshot."""
        if totals.base is not None:
            self.totals = totals
            self._base, self._offset = totals.base, totals.offset

    def count(self, counts: Iterable[tuple[str, Any]]) -> None:
        """Add what came through the dataflow: (name, number), and under "@" the offsets before and after a read."""
        known = self._counts
        for name, number in counts:
            if name == AT:
                self.begin(number[0])
                self._offset = number[1]
            else:
                known[name] = known.get(name, 0) + number

    def dead(self, letters: Iterable[DeadLetter]) -> None:
        """Count dead letters that came through the dataflow."""
        self.count((f"dead {letter.node}", 1) for letter in letters if letter.kept)

    def refused(self, nodes: Iterable[str]) -> None:
        """Count, by sink, events that were refused: they are dead letters."""
        with self._lock:
            self._aside.update(f"refused {node}" for node in nodes)

    def conflated(self, node: str, number: int) -> None:
        """Count events that a sink gave up for a later one."""
        with self._lock:
            self._aside[f"conflated {node}"] += number

    def cut(self, put: Mapping[str, int], waiting: int = 0) -> Totals:
        """Settle all that was counted, at the end of an epoch; `put` is what each sink was given so far."""
        with self._lock:
            aside, self._aside = self._aside, Counter()
        counts, self._counts = self._counts, {}
        counts |= aside
        counts |= {f"put {name}": number - self._put.get(name, 0) for name, number in put.items()}
        self._put = dict(put)
        counts = {name: number for name, number in counts.items() if number}
        settled = self._accounts.settle(counts) if self._accounts else Settled()
        self.totals = self.totals.with_settled(settled, self._base, self._offset, waiting)
        return self.totals

    def ledger(self, head: int) -> Ledger | None:
        """Return the ledger of the last cut, when the inbox is committed up to `head`; None before the first."""
        return None if self.totals.base is None else ledger_of(self.totals, head)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}
