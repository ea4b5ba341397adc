"""What a flow test can send and expect: matchers, lists, channels, time between steps, and how differences read."""

import re
from typing import Any

import pytest

from engine.errors import FlowInvalid
from engine.expectation import ABSENT, compare, differences
from engine.load import load_text
from engine.matching import aligned, paired
from engine.testing import run_tests

FLOW = """
flow: f
sources: {in: {mqtt: {topics: [t]}}, stamped: {mqtt: {topics: [u], time: at}}}
operators:
  sums: {from: in, window: {every: 10s, compute: {n: count}}}
  own:  {from: stamped, window: {every: 10s, by: event, compute: {n: count}}}
sinks:
  out:  {from: in, log: x}
  push: {from: in, where: n > 1, channel: {name: board, event: reading, fields: [n]}}
  kept: {from: sums, channel: {name: board, event: count, keep: last}}
  ends: {from: own, log: x}
channels: {board: {path: /ws/board}}
tests:
"""


def outcome(test: str) -> list[str]:
    """Return the differences of one test, given without its name."""
    (found,) = run_tests(load_text(f"{FLOW}  - {{name: t, {test}}}\n").raise_findings())
    return found.differences


@pytest.mark.parametrize(
    ("wanted", "got", "found"),
    [
        ({"any": True}, 0, []),
        ({"any": True}, None, [": any value; got None"]),
        ({"any": True}, ABSENT, [": any value; got None"]),
        ({"absent": True}, ABSENT, []),
        ({"absent": True}, None, [": no such field; got None"]),
        ({"approx": 1.5, "within": 0.1}, 1.6, []),
        ({"approx": 1.5, "within": 0.1}, 1.61, [": 1.5 ± 0.1; got 1.61"]),
        ({"approx": 3}, 3.000001, []),
        ({"approx": 3}, 3.00001, [": 3 ± 3e-06; got 3.00001"]),
        ({"approx": 1}, True, [": 1 ± 1e-06; got True"]),
        ({"approx": 1}, "1", [": 1 ± 1e-06; got '1'"]),
        ({"matches": "^ult[0-9]+$"}, "ult01", []),
        ({"matches": "^ult[0-9]+$"}, "ult", [": text that matches ^ult[0-9]+$; got 'ult'"]),
        ({"matches": "1"}, 1, [": text that matches 1; got 1"]),
        ({"one_of": ["a", {"matches": "^b"}]}, "bc", []),
        ({"one_of": ["a", None]}, ABSENT, []),
        ({"one_of": ["a", "b"]}, "c", [": one of ['a', 'b']; got 'c'"]),
        ({"contains": "bc"}, "abcd", []),
        ({"contains": {"n": 1}}, [{"n": 2}, {"n": 1, "m": 2}], []),
        ({"contains": 3}, [1, 2], [": a list with 3; got [1, 2]"]),
        ({"unordered": [1, 2]}, [2, 1], []),
        ({"count": 2, "last": 5}, [4, 5], []),
        ({"count": 3}, [4, 5], [": 3 events; got 2\n    got    4\n    got    5"]),
        (None, ABSENT, []),
        (None, 0, [": None; got 0"]),
    ],
)
def test_matchers(wanted: Any, got: Any, found: list[str]) -> None:
    assert list(differences(wanted, got)) == found


@pytest.mark.parametrize("name", ["any", "contains", "count", "approx", "one_of", "matches", "absent"])
def test_what_came_out_with_a_field_of_a_matchers_name_is_compared_as_it_is(name: str) -> None:
    assert list(differences({name: 3}, {name: 3, "more": 1})) == []
    assert list(differences({name: 3}, {name: 4})) == [f".{name}: 3; got 4"]


def test_exactly_allows_no_other_fields_at_any_depth() -> None:
    wanted, got = {"a": 1, "b": [{"c": 2}]}, {"a": 1, "b": [{"c": 2, "d": 3}], "e": 4}
    assert list(differences(wanted, got)) == []
    assert list(differences(wanted, got, exactly=True)) == [".b[0].d: no such field; got 3", ".e: no such field; got 4"]


def test_events_that_are_missing_or_too_many_are_told_apart_from_those_that_fit() -> None:
    events = [{"n": n} for n in range(20)]
    assert list(compare("out", events[1:3], events[:3])) == ['out: 2 events; got 3\n    got    [0] {"n":0}']
    assert list(compare("out", [{"n": 0}, {"n": 9}, {"n": 2}], [{"n": 0}, {"n": 2}])) == [
        'out: 3 events; got 2\n    wanted [1] {"n":9}'
    ]
    (many,) = compare("out", [], events)
    assert many.splitlines()[0] == "out: 0 events; got 20"
    assert many.splitlines()[-1] == "    … and 14 more"
    assert len(many.splitlines()) == 8


def test_another_order_is_said_to_be_one() -> None:
    assert list(compare("out", [{"n": 1}, {"n": 2}], [{"n": 2}, {"n": 1}])) == [
        'out: these 2 events in this order; got them in another\n    got    {"n":2}\n    got    {"n":1}'
    ]
    assert list(compare("out", [{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 3}])) == ["out[1].n: 2; got 3"]


def test_events_of_which_something_is_said() -> None:
    events = [{"n": 1}, {"n": 2}, {"n": 2}]
    for expected in (
        {"count": 3},
        {"first": {"n": 1}, "last": {"n": 2}},
        {"unordered": [{"n": 2}, {"n": 2}, {"n": 1}]},
        {"includes": [{"n": 2}, {"n": 2}]},
    ):
        assert list(compare("out", expected, events)) == []
    assert list(compare("out", {"unordered": [{"n": 2}, {"n": 1}]}, events)) == [
        'out.unordered: 2 and no others\n    got    {"n":2}'
    ]
    assert list(compare("out", {"includes": [{"n": 1}, {"n": 1}]}, events)) == [
        'out.includes: 2, in any order\n    wanted {"n":1}\n    got    {"n":2}\n    got    {"n":2}'
    ]
    assert list(compare("out", {"last": {"n": 1}, "count": 0}, [])) == ["out.last: {'n': 1}; got None"]


def test_each_that_is_wanted_finds_a_partner_where_that_is_possible() -> None:
    """The first that fits is not always the right one: {} fits both."""
    fits = lambda wanted, got: wanted.items() <= got.items()  # noqa: E731
    assert paired([{}, {"a": 1}], [{"a": 1}, {"a": 2}], fits) == [1, 0]
    assert paired([{"a": 3}], [{"a": 1}], fits) == [None]
    many = [{"a": n} for n in range(300)]
    assert paired(many, many[::-1], fits) == list(reversed(range(300)))
    assert aligned("abcd", "axcde", str.__eq__) == [
        *[(0, 0), (1, None), (None, 1), (2, 2), (3, 3)], (None, 4)]  # fmt: skip


def test_steps_without_a_time_come_when_the_one_before_does_or_after_the_time_between() -> None:
    sent = "send: [{at: 3s, to: in, data: {n: 1}}, {to: in, data: {n: 2}}, {advance: 10s}, {to: in, data: {n: 3}}]"
    assert outcome(f"{sent}, expect: {{sums: [{{n: 2}}], out: [{{n: 1}}, {{n: 2}}, {{n: 3}}]}}") == []
    assert outcome(f"{sent}, advance: 10s, expect: {{sums: [{{n: 2}}, {{n: 1}}]}}") == []
    last = "send: [{to: in, data: {n: 1}}, {advance: 9s}], expect: {sums: []}"
    assert outcome(last) == []
    assert outcome(last.replace("9s", "10s")) == ['sums: 0 events; got 1\n    got    [0] {"key":"","start":'
        '"2023-11-14T22:13:20Z","end":"2023-11-14T22:13:30Z","n":1}']  # fmt: skip


def test_what_a_channels_clients_see() -> None:
    sent = "send: [{to: in, data: {n: 1, m: 1}}, {to: in, data: {n: 2, m: 2}}, {advance: 10s}]"
    assert outcome(f"{sent}, exactly: true, expect: {{board.reading: [{{n: 2}}]}}") == []
    assert outcome(f"{sent}, expect: {{board.count: {{last: {{n: 2}}}}}}") == []
    assert outcome(f"{sent}, expect: {{board.reading: [{{n: 3}}]}}") == ["board.reading[0].n: 3; got 2"]


def test_events_that_several_sinks_push_under_one_name_are_in_the_order_of_arrival() -> None:
    text = FLOW.replace("  ends:", "  also: {from: in, where: n <= 1, channel: {name: board, event: reading}}\n  ends:")
    sent = "send: [{to: in, data: {n: 2}}, {at: 1s, to: in, data: {n: 1}}, {at: 2s, to: in, data: {n: 3}}]"
    test = f"  - {{name: t, {sent}, expect: {{board.reading: [{{n: 2}}, {{n: 1}}, {{n: 3}}]}}}}\n"
    assert [one.differences for one in run_tests(load_text(text + test).raise_findings())] == [[]]


def test_late_data() -> None:
    at = "send: [{{to: stamped, data: {{at: {}}}}}, {{to: stamped, data: {{at: {}}}}}, {{to: stamped, data: {{at: {}}}}}]"
    sent = at.format(1700000001, 1700000015, 1700000002)
    assert outcome(f"{sent}, expect: {{own.late: [{{at: 1700000002}}], own: [{{n: 1}}]}}") == []
    assert outcome(f"{sent}, expect: {{own.late: []}}")[0].startswith("own.late: 0 events; got 1")


@pytest.mark.parametrize(
    ("test", "text"),
    [
        ("expect: {board.readin: []}", "an event of channel 'board' (reading, count); got 'readin' (did you mean 'reading'?)"),
        ("expect: {boord.reading: []}", "a node or deadletters; got 'boord.reading'"),
        ("expect: {out: {cuont: 3}}", "got 'cuont' (did you mean 'count'?)"),
        ("expect: {out: {}}", "count, first, last, unordered or includes"),
        ("expect: {out: {count: -1}}", "at least 0"),
        ("expect: {out: 3}", "a list"),
        ("expect: {out: [{n: {matches: '('}}]}", "out: a regular expression; missing ): ("),
        ("expect: {out: [{n: {approx: a, within: 1}}]}", "numbers as approx and within"),
        ("send: [{advance: 3}]", "a duration like 30s, 5m, 2h or 7d; got 3"),
        ("send: [{advance: 3s, to: in}]", "got 'advance'"),
    ],
)  # fmt: skip
def test_a_test_that_means_nothing_is_found(test: str, text: str) -> None:
    with pytest.raises(FlowInvalid, match=re.escape(text)):
        load_text(f"{FLOW}  - {{name: t, {test}}}\n").raise_findings()
