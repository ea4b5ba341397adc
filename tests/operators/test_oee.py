"""`oee`: against Vorne's worked example, sums that must hold, and shifts, silence and counters by hand."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.event import moment
from engine.harness import Harness
from engine.testing import START
from tests.operators.replay import SECOND, flow_of, sent

MINUTE, HOUR = 60, 3600
TO_HOUR = HOUR - START // SECOND % HOUR  # seconds from the start to the next full hour
TO_SHIFT = 8 * HOUR - START // SECOND % (8 * HOUR)
OPTIONS = {"of": "state", "good": "good", "bad": "bad", "ideal": 1.0}


def shifts(options: dict[str, Any], given: list[dict[str, Any]], until: float = 0) -> list[dict[str, Any]]:
    """Return what came out for readings with `at` in seconds, and when time has passed to `until`."""
    harness = Harness(flow_of("oee", OPTIONS | options, key=""))
    for reading in given:
        harness.send([sent(**reading)])
    harness.tick(START + round(until * SECOND))
    return [event.data for event in harness.out["out"]]


def adds_up(shift: dict[str, Any]) -> bool:
    spent = shift["productive_time"] + shift["down_time"] + shift["speed_loss"] + shift["quality_loss"]
    return bool(shift["planned_time"] == pytest.approx(spent) == pytest.approx(shift["run_time"] + shift["down_time"]))


def test_a_shift_is_that_of_the_published_example() -> None:
    """Vorne, oee.com, "OEE Calculation": 480 min, breaks 60, stops 47, ideal 1.0 s, 19,271 pieces, 423 rejected."""
    begin = TO_SHIFT
    found = shifts(
        {},
        [
            {"at": begin, "state": "running"},
            {"at": begin + 100 * MINUTE, "state": "planned"},
            {"at": begin + 160 * MINUTE, "state": "running"},
            {"at": begin + 200 * MINUTE, "state": "jam"},
            {"at": begin + 247 * MINUTE, "state": "running"},
            {"at": begin + 470 * MINUTE, "good": 19_271 - 423, "bad": 423},
        ],
        begin + 8 * HOUR,
    )[-1]
    assert (found["planned_time"], found["run_time"]) == (420 * MINUTE, 373 * MINUTE)
    assert (found["down_time"], found["excluded_time"], found["unknown_time"]) == (47 * MINUTE, 60 * MINUTE, 0)
    assert found["availability"] == pytest.approx(0.8881, abs=5e-5)
    assert found["performance"] == pytest.approx(0.8611, abs=5e-5)
    assert found["quality"] == pytest.approx(0.9780, abs=6e-5)
    assert found["oee"] == pytest.approx(0.7479, abs=5e-5)
    assert found["oee"] == pytest.approx(found["availability"] * found["performance"] * found["quality"])
    assert (found["start"], found["end"]) == (
        moment(START + begin * SECOND),
        moment(START + (begin + 8 * HOUR) * SECOND),
    )
    assert found["final"]
    assert adds_up(found)


events = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["running", "planned", "jam", None]),
        "good": st.one_of(st.none(), st.integers(0, 50)),
        "bad": st.one_of(st.none(), st.integers(0, 5)),
        "ask": st.booleans(),
    }
)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([0.5, 7, 60, 900]), events), min_size=1, max_size=20))
def test_what_the_time_was_spent_on_adds_up_and_nothing_is_counted_twice(
    steps: list[tuple[float, dict[str, Any]]],
) -> None:
    at, given_ = 0.0, list[dict[str, Any]]()
    for gap, reading in steps:
        at += gap
        given_.append({"at": at, **reading})
    found = shifts({"every": "10m", "report": "ask", "idle": "20m"}, given_, at + 2 * HOUR)
    for shift in found:
        assert adds_up(shift)
        length = (shift["end"] - shift["start"]).total_seconds()
        assert shift["planned_time"] + shift["excluded_time"] + shift["unknown_time"] <= length + 1e-6
    final = [shift for shift in found if shift["final"]]
    assert sum(shift["total"] for shift in final) == sum((e["good"] or 0) + (e["bad"] or 0) for _, e in steps)
    assert all(a["end"] <= b["start"] for a, b in pairwise(final))
    longest = 10 * MINUTE - 1e-6
    assert all((shift["end"] - shift["start"]).total_seconds() >= longest for shift in final)


def test_a_report_comes_at_once_and_the_shift_goes_on() -> None:
    given_: list[dict[str, Any]] = [{"at": 0, "state": "running", "good": 60}, {"at": 100, "ask": True}]
    found = shifts({"every": "1h", "report": "ask"}, given_, TO_HOUR)
    assert [(shift["final"], shift["run_time"], shift["good"]) for shift in found] == [
        (False, 100.0, 60.0),
        (True, float(TO_HOUR), 60.0),
    ]
    assert found[0]["performance"] == pytest.approx(0.6)


def test_a_state_lasts_over_the_end_of_a_shift() -> None:
    found = shifts({"every": "1h"}, [{"at": 0, "state": "running"}], TO_HOUR + 2 * HOUR)
    assert [shift["run_time"] for shift in found] == [TO_HOUR, HOUR, HOUR]


def test_a_machine_that_is_silent_for_long_is_unknown_and_then_forgotten() -> None:
    found = shifts({"every": "1h", "idle": "10m"}, [{"at": 0, "state": "running"}], TO_HOUR + 9 * HOUR)
    assert [(shift["run_time"], shift["unknown_time"]) for shift in found] == [(600.0, TO_HOUR - 600.0)]


def test_silence_goes_on_over_the_end_of_a_shift_and_a_report_does_not_break_it() -> None:
    given_: list[dict[str, Any]] = [{"at": 0, "state": "running"}, {"at": 1000, "ask": True}]
    found = shifts({"every": "1h", "idle": "90m", "report": "ask"}, given_, TO_HOUR + 9 * HOUR)
    assert sum(shift["run_time"] for shift in found if shift["final"]) == 5400.0


def test_ratios_without_a_divisor_are_none() -> None:
    [found] = shifts({"every": "1h"}, [{"at": 0, "state": "planned"}], TO_HOUR)
    assert [found[name] for name in ("availability", "performance", "quality", "oee")] == [None] * 4
    [found] = shifts({"every": "1h"}, [{"at": 0, "state": "jam"}], TO_HOUR)
    assert [found[name] for name in ("availability", "performance", "quality", "oee")] == [0.0, None, None, 0.0]


def test_the_ideal_time_may_change_with_the_product() -> None:
    given_: list[dict[str, Any]] = [
        {"at": 0, "state": "running"},
        {"at": 1, "good": 10, "bad": 1, "cycle": 2},
        {"at": 2, "good": 100, "cycle": 0.5},
    ]
    [found] = shifts({"every": "1h", "ideal": "cycle"}, given_, TO_HOUR)
    assert (found["productive_time"], found["quality_loss"]) == (70.0, 2.0)
    assert found["performance"] == pytest.approx(72 / TO_HOUR)


def test_a_counter_that_falls_began_anew() -> None:
    given_ = [{"at": at, "state": "running", "good": n} for at, n in enumerate((1000, 1010, 1010, 3, 5))]
    [found] = shifts({"every": "1h", "counts": "counter"}, given_, TO_HOUR)
    assert found["good"] == 15.0


def test_states_may_be_true_and_false_or_numbers() -> None:
    for state, running in ((True, [True]), (1, [1]), ("RUN", ["RUN", "SLOW"])):
        [found] = shifts({"every": "1h", "running": running}, [{"at": 0, "state": state}], TO_HOUR)
        assert found["run_time"] == TO_HOUR
    [found] = shifts({"every": "1h", "running": [1]}, [{"at": 0, "state": True}], TO_HOUR)
    assert found["down_time"] == TO_HOUR


def test_shifts_have_names_and_begin_in_local_time() -> None:
    """The start is 22:13 UTC: 07:13 in Seoul."""
    options = {"shifts": {"day": "07:00", "night": "19:00"}, "zone": "Asia/Seoul"}
    found = shifts(options, [{"at": 0, "state": "running"}], 24 * HOUR)
    assert [(shift["shift"], f"{shift['start']:%H:%M}", shift["run_time"]) for shift in found] == [
        ("day", "22:00", 12 * HOUR - 800.0),
        ("night", "10:00", 12.0 * HOUR),
    ]


def test_wrong_numbers_are_dead_letters_and_change_nothing() -> None:
    harness = Harness(flow_of("oee", OPTIONS | {"ideal": "cycle"}, key=""))
    for reading in ({"good": "x"}, {"bad": -1}, {"good": 1}, {"good": 1, "cycle": -2}, {"other": 1}):
        harness.send([sent(0, **reading)])
    assert [letter.reason for letter in harness.dead] == [
        "good: a number; got 'x'",
        "bad: a number of at least 0",
        "ideal: a number of at least 0",
        "ideal: a number of at least 0",
    ]
    assert not any(shard.states for shard in harness.shards["made"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": "1h", "shifts": {"a": "06:00"}}, "either every or shifts"),
        ({"shifts": {"a": "6:00"}}, "a time of day"),
        ({"shifts": {"a": "25:00"}}, "a time of day"),
        ({"shifts": {"a": "06:00", "b": "06:00"}}, "times of day that differ"),
        ({"zone": "Mars/Base"}, "unknown time zone"),
        ({"of": None}, "availability needs states"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        flow_of("oee", OPTIONS | options)
