"""`change`: what differs from the last report goes through; the swinging door keeps the corners of a curve."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import FlowInvalid
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent

TYPED = """
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  checked: {from: given, validate: {t: number, s: text}}
  made: {from: checked, %s}
sinks: {out: {from: made, log: x}}
"""
Point = tuple[int, float]
"""Seconds since the start, and the value."""


def run(options: dict[str, Any], messages: list[Sent], time: str = "") -> Harness:
    harness = Harness(flow_of("change", options, source=f"{{mqtt: {{topics: [t]{time}}}}}"))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def passed(options: dict[str, Any], values: list[Any]) -> list[Any]:
    return [event.data["v"] for event in run(options, [sent(at, v=v, k="a") for at, v in enumerate(values)]).out["out"]]


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({"of": "v"}, [1, 1, 1.0, 2, 1, "1", "1", [1], [1]], [1, 2, 1, "1", [1]]),
        ({"of": "v"}, [1, None, 1, None, 2], [1, None, None, 2]),
        ({"of": "v", "deadband": 0.5}, [0, 0.5, -0.5, 0.75, 1.25, 0, 0.5], [0, 0.75, 0]),
        ({"of": "v", "percent": 10}, [100, 110, 111, 100, 99], [100, 111, 99]),
        ({"of": "v", "percent": 10, "deadband": 5}, [10, 14, 15, 16, 100, 109, 111], [10, 16, 100, 111]),
        ({"of": "v", "percent": 10}, [-100, -95, -110, -111], [-100, -111]),
        ({"of": "v", "percent": 10}, [0, 0, 0.001, -0.001], [0, 0.001, -0.001]),
    ],
)
def test_what_differs_from_the_last_report_goes_through(
    options: dict[str, Any], values: list[Any], expected: list[Any]
) -> None:
    assert passed(options, values) == expected


def test_without_of_the_whole_payload_counts() -> None:
    messages = [sent(at, k="a", **data) for at, data in enumerate([{"x": 1}, {"x": 1}, {"x": 1, "y": 1}, {"x": 1}])]
    harness = run({}, messages)
    assert [event.arrival for event in harness.out["out"]] == [START, START + 2 * SECOND, START + 3 * SECOND]
    assert len(harness.out["unchanged"]) == 1


def test_of_several_values_one_must_change_and_all_are_compared_with_the_same_report() -> None:
    given = [(0.0, "on"), (0.4, "on"), (0.8, "off"), (1.2, "off"), (1.4, "off")]
    messages = [sent(at, k="a", v=v, state=state) for at, (v, state) in enumerate(given)]
    harness = run({"of": ["v", "state"], "deadband": {"v": 0.5}}, messages)
    assert [event.data["v"] for event in harness.out["out"]] == [0.0, 0.8, 1.4]


def test_something_comes_after_the_longest_time() -> None:
    harness = run({"of": "v", "longest": "10s"}, [sent(at, k="a", v=1) for at in (0, 5, 9, 10, 19, 21)])
    assert [(event.arrival - START) / SECOND for event in harness.out["out"]] == [0, 10, 21]


@pytest.mark.parametrize("value", ["text", True, [1], 2**63, -(2**70)])
@pytest.mark.parametrize("options", [{"deadband": 1}, {"percent": 1}, {"deviation": 1}])
def test_what_is_no_number_is_a_dead_letter_also_as_the_first(options: dict[str, Any], value: Any) -> None:
    harness = run({"of": "v", **options}, [sent(0, k="a", v=value), sent(1, k="a", v=1)])
    assert [letter.reason[:5] for letter in harness.dead] == ["of: v"]
    assert [event.data["v"] for event in harness.out["out"]] == [1]


def test_the_reason_of_a_dead_letter_names_the_expression_of_the_list() -> None:
    harness = run({"of": ["n", "v + 1"]}, [sent(0, k="a", n=1, v="text")])
    assert "v + 1" in harness.dead[0].reason


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"deviation": 1}, "one value in of"),
        ({"of": ["a", "b"], "deviation": 1}, "one value in of"),
        ({"of": "a", "deviation": 1, "deadband": 1}, "without deadband"),
        ({"deadband": 1}, "the number that the deadband is for"),
        ({"of": ["a", "b"], "deadband": {"c": 1}}, "each of a, b; got c"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(FlowInvalid, match=text):
        flow_of("change", options)


@pytest.mark.parametrize("options", ["{of: s, deadband: 1}", "{of: [t, s], percent: {s: 1}}", "{of: s, deviation: 1}"])
def test_a_deadband_of_what_is_evidently_no_number_is_found(options: str) -> None:
    (finding,) = load_text(TYPED % f"change: {options}").document.findings
    assert (finding.code, "'s' is text" in finding.message) == ("field-type", True)
    assert not load_text(TYPED % "change: {of: [t, s], deadband: {t: 1}}").document.findings


def door(points: list[Point], deviation: float) -> list[Point]:
    """Return the points that go through."""
    messages = [sent(time, k="a", v=value, t=START / SECOND + time) for time, value in points]
    harness = run({"of": "v", "deviation": deviation}, messages, time=", time: t")
    assert not harness.dead
    return [((event.time - START) // SECOND, event.data["v"]) for event in harness.out["out"]]


def by_definition(points: list[Point], deviation: float) -> list[Point]:
    """Return the points that a swinging door lets through, from its definition, without doors and with exact numbers.

    From the pivot, each value of a stretch is seen between two rays; a stretch ends before the first point whose lower
    ray is steeper than the upper one of another, or the other way round: then the doors are more than parallel.
    """
    found, stretch = [points[0]], list[Point]()
    for point in points[1:]:
        if stretch and _is_closed(found[-1], [*stretch, point], deviation):
            found.append(stretch[-1])
            stretch = []
        stretch.append(point)
    return found


def _is_closed(pivot: Point, stretch: list[Point], deviation: float) -> bool:
    rays = [_rays(pivot, point, Fraction(deviation)) for point in stretch]
    return any(low > high for low, _ in rays for _, high in rays)


def _rays(pivot: Point, point: Point, deviation: Fraction) -> tuple[Fraction, Fraction]:
    rise, run = Fraction(point[1]) - Fraction(pivot[1]), point[0] - pivot[0]
    return (rise - deviation) / run, (rise + deviation) / run


def test_a_series_that_was_worked_by_hand() -> None:
    """Deviation 1, pivot (0, 0): lower and upper slopes are 0..2 (at 1), -.5..0.5 (2), -.33..0.33 (3), 1..1.5 (4): past
    parallel, since 1 > 0.33: (3, 0) goes through. From there 4..6 (at 4: +5), 4.5..5.5 (5: +10), -0.33..0.33 (6): (5, 10).
    """
    points: list[Point] = [(0, 0), (1, 1), (2, 0), (3, 0), (4, 5), (5, 10), (6, 0)]
    assert door(points, 1) == by_definition(points, 1) == [(0, 0), (3, 0), (5, 10)]


def test_parallel_is_not_yet_past_parallel() -> None:
    assert door([(0, 0), (1, 1), (2, 0), (3, -1), (4, -9)], 1) == [(0, 0), (3, -1)]
    assert door([(0, 0), (1, 2), (2, 0), (3, 0)], 1) == [(0, 0), (1, 2)]


def test_an_event_that_is_not_later_goes_through_and_leaves_the_door_as_it_is() -> None:
    assert door([(0, 0), (5, 5), (3, 70), (5, 50), (9, 9), (10, 0)], 1) == [(0, 0), (3, 70), (5, 50), (9, 9)]


def test_what_is_held_back_comes_after_the_longest_time() -> None:
    messages = [sent(at, k="a", v=at) for at in (0, 10, 20, 41)]
    harness = run({"of": "v", "deviation": 1, "longest": "30s"}, messages)
    assert [(e.data["v"], (e.arrival - START) / SECOND) for e in harness.out["out"]] == [(0, 0), (20, 30), (41, 60)]


series = st.lists(st.tuples(st.integers(1, 5), st.integers(-6, 6)), min_size=1, max_size=40).map(
    lambda steps: [(sum(step for step, _ in steps[: at + 1]), value) for at, (_, value) in enumerate(steps)]
)
walks = series.map(lambda points: [(t, sum(v for _, v in points[: at + 1]) / 2) for at, (t, _) in enumerate(points)])


@settings(max_examples=150)
@given(points=st.one_of(series, walks), deviation=st.sampled_from([0.5, 1.0, 2.5]))
def test_the_door_is_that_of_the_definition(points: list[Point], deviation: float) -> None:
    assert door(points, deviation) == by_definition(points, deviation)


@settings(max_examples=100)
@given(points=walks, deviation=st.sampled_from([0.5, 2.5]))
def test_lines_through_what_came_out_are_near_to_all_that_did_not(points: list[Point], deviation: float) -> None:
    """What is left out lies within twice the deviation of the line (and of some one line within the deviation)."""
    kept = door(points, deviation)
    for time, value in points:
        if time <= kept[-1][0]:
            (t0, v0), (t1, v1) = max(p for p in kept if p[0] <= time), min(p for p in kept if p[0] >= time)
            line = v0 if t0 == t1 else v0 + (v1 - v0) * (time - t0) / (t1 - t0)
            assert abs(line - value) < 2 * deviation + 1e-9
