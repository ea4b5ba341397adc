"""The clock of an inbox: it never falls, passes over jumps, and tells what was a gap."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.arrival_clock import STILL, ArrivalClock
from engine.gap import PAUSE, Gap, between

SECOND = 1_000_000
NOON = 1_700_000_000 * SECOND


class System:
    """The system's clocks, moved by the test."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOON, 5 * SECOND

    def clock(self, last: int = 0) -> ArrivalClock:
        return ArrivalClock(last, lambda: self.wall, lambda: self.monotonic)

    def run(self, time: int, jump: int = 0) -> None:
        """Let time pass, in which the wall clock is set by so much."""
        self.wall += time + jump
        self.monotonic += time


@pytest.fixture
def system() -> System:
    return System()


def test_it_follows_the_system(system: System) -> None:
    clock = system.clock()
    for step in (1, SECOND, 3600 * SECOND, 1000):
        system.run(step)
        assert clock.now() == system.wall
    system.run(SECOND, jump=PAUSE // 2)
    assert clock.now() == system.wall
    assert clock.take() == []


def test_a_jump_forward_is_adopted_and_is_a_gap(system: System) -> None:
    clock = system.clock()
    system.run(SECOND, jump=3600 * SECOND)
    with capture_logs() as logs:
        assert clock.now() == system.wall == NOON + 3601 * SECOND
    assert clock.take() == [Gap(NOON + SECOND, system.wall)]
    assert clock.take() == []
    assert [(entry["log_level"], entry["seconds"]) for entry in logs] == [("warning", 3600.0)]


def test_after_a_jump_backward_time_passes_at_half_speed_until_it_is_caught_up(system: System) -> None:
    clock = system.clock()
    with capture_logs() as logs:
        system.run(10 * SECOND, jump=-3600 * SECOND)
        assert clock.now() == NOON + 5 * SECOND
        system.run(1000 * SECOND)
        assert clock.now() == NOON + 505 * SECOND
        for _ in range(7000):
            before = clock.now()
            system.run(SECOND)
            assert clock.now() - before in (SECOND // 2, SECOND, system.wall - before)
    assert clock.now() == system.wall
    assert [(entry["log_level"], "half speed" in entry["event"]) for entry in logs] == [("warning", True)]
    assert clock.take() == []


def test_what_is_caught_up_between_two_readings_is_no_jump(system: System) -> None:
    clock = system.clock()
    system.run(SECOND, jump=-60 * SECOND)
    clock.now()
    system.run(3600 * SECOND)
    assert clock.now() == system.wall
    assert clock.take() == []


def test_half_speed_is_exact_however_often_it_is_read(system: System) -> None:
    clock = system.clock()
    system.run(0, jump=-10 * SECOND)
    clock.now()
    for _ in range(1000):
        system.run(1)
        clock.now()
    assert clock.now() == NOON + 500


def test_a_start_after_downtime_is_a_gap_and_a_start_in_the_past_is_not(system: System) -> None:
    assert system.clock(NOON - 60 * SECOND).take() == [Gap(NOON - 60 * SECOND, NOON)]
    assert system.clock(NOON - PAUSE).take() == []
    assert system.clock(0).take() == []
    ahead = system.clock(NOON + 60 * SECOND)
    assert ahead.take() == []
    system.run(10 * SECOND)
    assert ahead.now() == NOON + 65 * SECOND


def test_a_process_that_stood_still_has_a_gap(system: System) -> None:
    clock = system.clock()
    for _ in range(3):
        system.run(SECOND)
        clock.beat()
    system.run(STILL)
    assert (clock.now(), clock.take()) == (system.wall, [])
    system.run(2 * SECOND)
    clock.now()
    system.run(60 * SECOND)
    assert clock.beat() == system.wall
    (gap,) = clock.take()
    assert gap == Gap(NOON + 3 * SECOND + STILL, NOON + 5 * SECOND + STILL)
    system.run(60 * SECOND)
    clock.now()
    assert clock.take() == [Gap(system.wall - 60 * SECOND, system.wall)]


def test_who_never_beats_never_stands_still(system: System) -> None:
    clock = system.clock()
    system.run(3600 * SECOND)
    clock.now()
    assert clock.take() == []


def test_a_time_may_be_asked_for(system: System) -> None:
    clock = system.clock()
    assert clock.now(NOON + 7) == NOON + 7
    assert clock.now() >= NOON + 7
    system.run(SECOND)
    assert clock.now() == system.wall


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1000, SECOND, 7 * SECOND, 3600 * SECOND]),
        st.one_of(st.just(0), st.integers(-7200 * SECOND, 7200 * SECOND), st.integers(-10, 10)),
        st.sampled_from(["now", "least", "beat", "again"]),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=300)
def test_whatever_the_clocks_do_it_never_falls_and_no_time_lies_in_a_gap(steps: list[tuple[int, int, str]]) -> None:
    system = System()
    clock, times, gaps = system.clock(), list[int](), list[Gap]()
    for passed, jump, step in steps:
        system.run(passed, jump)
        if step == "again":
            gaps += clock.take()
            clock = system.clock(times[-1] if times else 0)
        time = clock.beat() if step == "beat" else clock.now(times[-1] + 1 if times and step == "least" else 0)
        assert time >= system.wall
        times.append(time)
        gaps += clock.take()
    assert times == sorted(times)
    assert all(first.end <= second.start for first, second in pairwise(gaps))
    assert all(gap.end - gap.start > PAUSE for gap in gaps)
    assert not [time for time in times for gap in gaps if gap.start < time < gap.end]


def test_gaps_between_two_times_are_those_that_end_there() -> None:
    gaps = [Gap(10, 20), Gap(30, 40), Gap(50, 60)]
    assert between(gaps, 0, 19) == []
    assert between(gaps, 0, 20) == [Gap(10, 20)]
    assert between(gaps, 20, 55) == [Gap(30, 40)]
    assert between(gaps, 35, 100) == [Gap(35, 40), Gap(50, 60)]
    assert between(gaps, 60, 100) == []
