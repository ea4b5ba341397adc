"""Keyed state: shards, timers and marks; what fails costs its key or its event, never the flow."""

from typing import Any

import pytest

from engine.component import Emit, Stateful
from engine.event import Event
from engine.gap import Gap
from engine.keyed import SHARDS, Clock, Gate, Mark, Shard


class Alarm(Stateful[list[int]]):
    """Fires `after` each event's arrival; what it does then is said by the test."""

    state_type = list[int]
    after: int = 10
    """How long after an event it fires."""
    does: str = "forget"
    """forget, again, stuck or fail."""

    def on_event(self, state: list[int] | None, event: Event, emit: Emit) -> list[int]:
        """Wait from now on."""
        if event.data.get("bad"):
            raise ValueError("a bad event")
        return [event.arrival + self.after]

    def due(self, state: list[int]) -> int | None:
        """Return when it fires."""
        return state[0]

    def on_time(self, state: list[int], key: str, now: int, emit: Emit) -> list[int] | None:
        """Emit, and do what was said."""
        emit(Event(b"", now, key, "", "", {"fired": now}, None, now))
        if self.does == "fail":
            raise ArithmeticError("cannot")
        return {"forget": None, "again": [now + self.after], "stuck": state}[self.does]


def shard(clock: Clock | None = None, stages: tuple[str, ...] = ("sources",), **options: Any) -> Shard:
    return Shard(
        "alarm", Alarm(**options), frozenset(), "0", clock or Clock(), Gate(stages), lambda fault, event: fault
    )


def event(arrival: int, key: str = "k", **data: Any) -> Event:
    return Event(b"id", arrival, key, "", "", data, None, arrival)


def fired(found: list[Any]) -> list[tuple[str, int]]:
    return [(e.key, e.data["fired"]) for run in found if not isinstance(run, Mark) and run[0] == "" for e in run[1]]


def letters(found: list[Any]) -> list[str]:
    return [letter.reason for run in found if not isinstance(run, Mark) and run[0] == "!" for letter in run[1]]


def test_a_timer_fires_before_the_first_later_event_and_at_its_own_time() -> None:
    one = shard()
    assert fired(one.on_items([[event(0), event(5, "other")]])) == []
    assert fired(one.on_items([[event(100, "third")]])) == [("k", 10), ("other", 15)]


def test_a_mark_fires_what_is_due_and_no_more() -> None:
    one = shard(does="again")
    one.on_items([[event(0)]])
    assert fired(one.on_items([Mark("sources", 9)])) == []
    assert fired(one.on_items([Mark("sources", 35)])) == [("k", 10), ("k", 20), ("k", 30)]


def test_an_event_puts_a_timer_off() -> None:
    one = shard()
    one.on_items([[event(0)], [event(8)]])
    assert fired(one.on_items([Mark("sources", 17)])) == []
    assert fired(one.on_items([Mark("sources", 18)])) == [("k", 18)]


def test_the_heap_does_not_grow_with_the_events_of_a_key() -> None:
    one = shard()
    for arrival in range(1000):
        one.on_items([[event(arrival * 5)]])
    assert len(one._heap) == 1


def test_the_clock_knows_the_next_timer_and_that_there_is_none() -> None:
    clock = Clock()
    one = shard(clock)
    assert clock.next() is None
    one.on_items([[event(0), event(3, "other")]])
    assert clock.next() == 10
    one.on_items([Mark("sources", 12)])
    assert clock.next() == 13
    one.on_items([Mark("sources", 13)])
    assert clock.next() is None


@pytest.mark.parametrize(
    ("does", "reason"), [("fail", "ArithmeticError: cannot"), ("stuck", "ValueError: a later time to be called again")]
)
def test_a_timer_that_fails_forgets_its_key_and_is_told(does: str, reason: str) -> None:
    one = shard(does=does)
    one.on_items([[event(0), event(0, "other")]])
    assert letters(one.on_items([Mark("sources", 10)])) == [reason] * 2
    assert one.states == {}
    assert fired(one.on_items([[event(11)], Mark("sources", 21)])) == [("k", 21)]


def test_an_event_that_fails_leaves_the_state_as_it_was() -> None:
    one = shard()
    one.on_items([[event(0)]])
    assert letters(one.on_items([[event(1, bad=True)]])) == ["ValueError: a bad event"]
    assert one.states == {"k": [10]}


def test_a_snapshot_is_bytes_of_now_and_brings_the_timers_back() -> None:
    one = shard()
    one.on_items([[event(0)]])
    snapshot = one.snapshot()
    one.on_items([[event(5)]])
    clock = Clock()
    two = shard(clock)
    two.restore(snapshot)
    assert (clock.next(), two.snapshot()) == (10, snapshot)
    assert fired(two.on_items([Mark("sources", 12)])) == [("k", 10)]
    assert one.snapshot() != snapshot


def test_a_mark_goes_on_when_every_stage_sent_it_and_every_shard_saw_it() -> None:
    clock, gate = Clock(), Gate(("a", "b"))
    shards = [Shard("n", Alarm(), frozenset(), s, clock, gate, lambda fault, event: fault) for s in SHARDS]
    assert [one.on_items([Mark("a", 7)]) for one in shards] == [[]] * 16
    assert [one.on_items([Mark("b", 5)]) for one in shards] == [[]] * 15 + [[Mark("n", 5)]]
    assert [one.on_items([Mark("b", 9)]) for one in shards] == [[]] * 15 + [[Mark("n", 7)]]


class Patient(Alarm):
    """An alarm that does not count downtime."""

    def on_gap(self, state: list[int], length: int) -> list[int]:
        """Wait longer."""
        if length == 13:
            raise ValueError("an unlucky gap")
        return [state[0] + length]


def patient(clock: Clock) -> Shard:
    return Shard("alarm", Patient(), frozenset(), "0", clock, Gate(("sources",)), lambda fault, event: fault)


@pytest.mark.parametrize("last", [Mark("sources", 1_019), [event(1_019, "late")]])
def test_a_gap_is_told_before_what_is_due_after_it_and_after_what_was_due_before(last: Any) -> None:
    clock = Clock()
    clock.learn([Gap(15, 1_015)])
    one = patient(clock)
    one.on_items([[event(4, "before"), event(9, "after")]])
    assert fired(one.on_items([last])) == [("before", 14), ("after", 1_019)]


def test_a_gap_moves_the_timer_and_who_does_not_mind_is_left_alone() -> None:
    clock = Clock()
    one, other = patient(clock), shard(Clock())
    other.clock.learn([Gap(5, 1_000)])
    for each in (one, other):
        each.on_items([[event(0)]])
    clock.learn([Gap(5, 1_000)])
    assert [fired(each.on_items([Mark("sources", 1_004)])) for each in (one, other)] == [[], [("k", 10)]]
    assert clock.next() == 1_005
    assert fired(one.on_items([Mark("sources", 1_005)])) == [("k", 1_005)]


def test_a_gap_is_crossed_once_whatever_is_read_again() -> None:
    clock = Clock()
    clock.learn([Gap(5, 1_000), Gap(2_000, 3_000)])
    clock.learn([Gap(5, 1_000)])
    one = patient(clock)
    one.on_items([[event(0)], Mark("sources", 1_001)])
    two = patient(clock)
    two.restore(one.snapshot())
    assert fired(two.on_items([Mark("sources", 1_500)])) == [("k", 1_005)]
    assert len(clock.gaps) == 2


def test_a_state_that_cannot_take_a_gap_is_forgotten_and_told() -> None:
    clock = Clock()
    clock.learn([Gap(5, 18)])
    one = patient(clock)
    one.on_items([[event(0)]])
    assert letters(one.on_items([Mark("sources", 18)])) == ["ValueError: an unlucky gap"]
    assert (one.states, clock.next()) == ({}, None)
