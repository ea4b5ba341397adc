"""What windows compute, against NumPy and the standard library: in one stretch and merged from any two."""

import statistics
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EventFault
from engine.event import Event
from engine.expressions import parse
from engine.measure import Measures
from engine.measures_many import MEASURES, MOST, measure
from engine.sketches import ACCURACY, REGISTERS, add_frequent, merged_frequent

VALUES = [3, 1.5, 4, 1, 5, 9, 2.5, 6, 5, 3]
OPTIONS: dict[str, dict[str, Any]] = {
    "percentile": {"at": parse("90")},
    "top": {"most": parse("3")},
    "histogram": {"edges": [2.0, 5.0]},
}
BY_HAND: list[tuple[str, Any]] = [
    ("count", len(VALUES)),
    ("sum", sum(VALUES)),
    ("mean", statistics.fmean(VALUES)),
    ("min", 1),
    ("max", 9),
    ("range", float(np.ptp(VALUES))),
    ("first", 3),
    ("last", 3),
    ("delta", 0),
    ("rate", sum(VALUES) / 20),
    ("variance", statistics.variance(VALUES)),
    ("variance_population", statistics.pvariance(VALUES)),
    ("stddev", float(np.std(VALUES, ddof=1))),
    ("stddev_population", float(np.std(VALUES))),
    ("median", statistics.median(VALUES)),
    ("percentile", float(np.percentile(VALUES, 90))),
    ("distinct", len(set(VALUES))),
    ("mode", 3),
    ("top", [{"value": 3, "count": 2}, {"value": 5, "count": 2}, {"value": 1, "count": 1}]),
    ("histogram", [2, 4, 4]),
]
NUMBERS = st.one_of(st.integers(-1000, 1000), st.floats(-1000, 1000))


def of(does: str, timed: bool = False) -> Measures:
    return Measures([measure("x", {does: parse("v"), **OPTIONS.get(does, {})}, timed)])


def kept(measures: Measures, values: list[Any], at: int = 0) -> list[Any]:
    """Return what is kept of values at one second after the other, as a snapshot brings it back."""
    found = measures.new()
    for time, value in enumerate(values, at):
        measures.add(found, measures.values(Event(b"", time, "", "", "", {"v": value})), time)
    return restored(found)


def restored(found: list[Any]) -> list[Any]:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=list[Any])


def result(measures: Measures, found: list[Any]) -> Any:
    return measures.results(found, 20_000_000)["x"]


def test_each_measure_is_checked() -> None:
    assert {does for does, _ in BY_HAND} == set(MEASURES)


@pytest.mark.parametrize(("does", "expected"), BY_HAND)
@pytest.mark.parametrize("timed", [False, True])
def test_a_measure_is_what_one_computes_by_hand(does: str, expected: Any, timed: bool) -> None:
    measures = of(does, timed)
    assert result(measures, kept(measures, VALUES)) == (pytest.approx(expected) if does != "top" else expected)


@pytest.mark.parametrize("does", MEASURES)
@pytest.mark.parametrize("timed", [False, True])
@given(values=st.lists(NUMBERS, min_size=1, max_size=20), cut=st.integers(0, 20))
def test_two_stretches_together_are_the_whole(does: str, timed: bool, values: list[Any], cut: int) -> None:
    measures = of(does, timed)
    parts = [kept(measures, values[:cut]), kept(measures, values[cut:], min(cut, len(values)))]
    before = msgspec.msgpack.encode(parts)
    found, whole = result(measures, measures.merged(parts)), result(measures, kept(measures, values))
    assert msgspec.msgpack.encode(parts) == before
    close = does not in ("top", "mode", "histogram") and whole is not None
    assert found == (pytest.approx(whole, rel=1e-6, abs=1e-6) if close else whole)


@pytest.mark.parametrize("does", MEASURES)
def test_a_window_without_values_has_nothing_to_compute(does: str) -> None:
    measures = of(does)
    nothing = {"count": 0, "distinct": 0, "top": [], "histogram": [0, 0, 0]}
    assert result(measures, kept(measures, [None, None])) == nothing.get(does)


@pytest.mark.parametrize(("alone", "expected"), [("count", 3), ("rate", 0.15)])
def test_alone_it_is_of_the_events(alone: str, expected: float) -> None:
    measures = Measures([measure("x", alone)])
    assert result(measures, kept(measures, [1, None, "x"])) == expected


def test_a_sample_of_one_has_no_spread() -> None:
    assert [result(of(does), kept(of(does), [4])) for does in ("stddev", "variance")] == [None, None]
    assert result(of("variance_population"), kept(of("variance_population"), [4])) == 0


@pytest.mark.parametrize("does", ["first", "last", "delta"])
def test_by_the_events_own_time_it_is_the_order_of_time_that_counts(does: str) -> None:
    measures = of(does, timed=True)
    found = measures.new()
    for time, value in ((5, 50), (1, 10), (9, 90), (3, 30)):
        measures.add(found, [value], time)
    assert result(measures, restored(found)) == {"first": 10, "last": 90, "delta": 80}[does]


def test_a_window_of_an_older_snapshot_goes_on() -> None:
    """First and last had no time of their own then: what came first and last is what is there."""
    found = [[2, "a"], [2, "b"]]
    for does, old in zip(("first", "last"), found, strict=True):
        of(does, timed=True).add(old, ["c"], 7)
        assert result(of(does, timed=True), old) == {"first": "a", "last": "c"}[does]


@pytest.mark.parametrize("percent", [0, 1, 25, 50, 95, 99, 100])
@pytest.mark.parametrize("shape", ["lognormal", "normal", "uniform"])
def test_beyond_its_bound_a_percentile_is_within_one_percent(percent: int, shape: str) -> None:
    values = getattr(np.random.default_rng(7), shape)(size=20 * MOST)
    measures = Measures([measure("x", {"percentile": parse("v"), "at": parse(str(percent))})])
    at = np.percentile(values, percent, method="inverted_cdf")
    found = [kept(measures, list(part)) for part in np.split(values, 4)]
    assert result(measures, kept(measures, list(values))) == pytest.approx(float(at), rel=2 * ACCURACY, abs=1e-3)
    assert result(measures, measures.merged(found)) == result(measures, kept(measures, list(values)))


def test_at_its_bound_a_percentile_is_still_exact() -> None:
    values = [float(value) for value in np.random.default_rng(1).normal(size=MOST)]
    assert result(of("percentile"), kept(of("percentile"), values)) == pytest.approx(np.percentile(values, 90))
    assert len(msgspec.msgpack.encode(kept(of("percentile"), values * 20))) < 20_000


@pytest.mark.parametrize("many", [MOST, MOST + 1, 3000, 10_000, 30_000, 100_000])
def test_distinct_values_are_counted_within_four_standard_errors(many: int) -> None:
    measures = of("distinct")
    found = result(measures, kept(measures, [f"id-{number % many}" for number in range(many + 10)]))
    assert found == many if many <= MOST else abs(found / many - 1) < 4 * 1.04 / REGISTERS**0.5
    half = [kept(measures, [f"id-{n}" for n in part]) for part in (range(many // 2), range(many // 3, many))]
    assert result(measures, measures.merged(half)) == found


@pytest.mark.parametrize(("values", "expected"), [([1, 1.0, "1", True], 3), ([[1], [1], {"a": 1, "b": 2}], 2)])
def test_which_values_are_one(values: list[Any], expected: int) -> None:
    assert result(of("distinct"), kept(of("distinct"), values)) == expected


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 40))
def test_frequent_values_are_at_most_so_far_from_the_truth(values: list[int], cut: int) -> None:
    """With a bound of 2 different values, no count is too high, and none is too low by more than a third of all."""
    parts: list[dict[str, int]] = [{}, {}]
    for at, value in enumerate(values):
        add_frequent(parts[at >= cut], str(value), 2)
    found = merged_frequent(parts[0], parts[1], 2)
    assert len(found) <= 2
    for text, number in Counter(map(str, values)).items():
        assert number - len(values) / 3 <= found.get(text, 0) <= number


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("mean", "x: mean with an expression"),
        ("total", "x: one of count, sum, mean, min, max, range, first"),
        ({"meen": parse("v")}, "did you mean 'mean'?"),
        ({}, "got ''"),
        ({"mean": parse("v"), "at": parse("5")}, "x: mean alone; got at beside it"),
        ({"percentile": parse("v")}, "x: percentile with at; got nothing beside it"),
        ({"percentile": parse("v"), "at": parse("101")}, "x.at: a number from 0 to 100"),
        ({"percentile": parse("v"), "at": parse("v")}, "x.at: a number from 0 to 100"),
        ({"histogram": parse("v"), "edges": [1.0, 1.0]}, "x.edges: a list of 1 to 1000 numbers, each greater"),
        ({"histogram": parse("v"), "edges": parse("1")}, "x.edges: a list of 1 to 1000 numbers"),
        ({"top": parse("v"), "most": parse("0")}, "x.most: a whole number from 1 to 1000"),
        ({"mean": [1.0]}, "x: mean with an expression"),
    ],
)
def test_what_is_no_measure_says_why(given: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        measure("x", given)
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("does", "value", "reason"),
    [
        ("stddev", "hot", "compute.x: a number; got 'hot'"),
        ("median", True, "compute.x: a number; got True"),
        ("percentile", float("nan"), "compute.x: a finite number; got nan"),
        ("histogram", float("inf"), "compute.x: a finite number; got inf"),
        ("delta", 2**70, "compute.x: a number of at most 64 bits"),
        ("distinct", object(), "compute.x: a value that JSON can hold"),
        ("mode", "x" * 2000, "compute.x: a value of at most 1000 characters"),
    ],
)
def test_a_value_that_cannot_be_added_is_the_events_fault(does: str, value: Any, reason: str) -> None:
    with pytest.raises(EventFault) as raised:
        of(does).values(Event(b"", 0, "", "", "", {"v": value}))
    assert reason in raised.value.reason
