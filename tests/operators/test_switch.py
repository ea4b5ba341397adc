"""`switch`: where each event goes, and that wires to its cases are checked."""

from typing import Any

import msgspec
import pytest

from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START

FLOW = """
flow: f
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators:
  sorted: {{from: given, switch: {switch}}}
  hotter: {{from: sorted.hot, set: {{t: t + 1}}}}
sinks:
  hot:  {{from: hotter, log: x}}
  cold: {{from: {cold}, log: x}}
  rest: {{from: sorted, log: x}}
"""


def run(switch: str, *data: dict[str, Any], taps: tuple[str, ...] = (), cold: str = "sorted.cold") -> Harness:
    harness = Harness(load_text(FLOW.format(switch=switch, cold=cold)).raise_findings(), taps=taps)
    harness.send([Sent(START, "given", msgspec.json.encode(item)) for item in data])
    return harness


def out(harness: Harness) -> dict[str, list[Any]]:
    return {sink: [event.data["t"] for event in harness.out[sink]] for sink in ("hot", "cold", "rest")}


def test_the_first_case_that_holds_gets_the_event() -> None:
    found = run("{hot: t > 80, cold: t > 50 or t < 0}", *({"t": t} for t in (90, 60, 20, -1)))
    assert out(found) == {"hot": [91], "cold": [60, -1], "rest": [20]}


def test_every_case_that_holds_gets_the_event_and_none_sees_what_another_changes() -> None:
    found = run("{cases: {hot: t > 80, cold: t > 50 or t < 0}, take: all}", *({"t": t} for t in (90, 60, 20, -1)))
    assert out(found) == {"hot": [91], "cold": [90, 60, -1], "rest": [20]}


@pytest.mark.parametrize("take", ["first", "all"])
def test_the_books_balance_where_nothing_takes_a_case(take: str) -> None:
    found = run(f"{{cases: {{hot: t > 80, odd: t % 2 == 1}}, take: {take}}}", *({"t": t} for t in (91, 81, 3, 2)),
                cold="sorted.hot")  # fmt: skip
    ledger = found.ledger()
    assert (ledger.remainder, ledger.where) == (0, {})
    assert ledger.terms()["filtered"] == {"first": 1, "all": 3}[take]
    assert ledger.terms()["made"] == {"first": 0, "all": 2}[take]


def test_a_condition_that_fails_is_a_dead_letter_with_its_case() -> None:
    (letter,) = run("{hot: t > 80, cold: t < 0}", {"t": "warm"}).dead
    assert letter.reason == 't > 80: cannot compare text with number; t = "warm"'


def test_a_case_that_nothing_takes_can_be_looked_at() -> None:
    found = run("{hot: t > 80, cold: t < 0, odd: t % 2 == 1}", {"t": 3}, {"t": 2}, taps=("sorted.odd",))
    assert [event.data["t"] for event in found.out["sorted.odd"]] == [3]


def test_lint_knows_the_cases() -> None:
    found = load_text(FLOW.format(switch="{hot: t > 80, cold: t < 0}", cold="sorted.cord")).document.findings
    assert [(f.code, f.message, f.hint) for f in found] == [
        ("unknown-output", "an output of 'sorted' (hot, cold, errors); got 'cord'", "did you mean 'cold'?")
    ]


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("{hot: t > }", "expected"),
        ("{Hot: t > 1}", "a name of small letters"),
        ("{errors: t > 1}", "other than errors"),
        ("{cases: {}}", "one case or more"),
        ("{cases: {hot: t > 1}, take: some}", "one of first, all; got 'some'"),
    ],
)
def test_lint_tells_what_is_wrong_with_a_case(switch: str, message: str) -> None:
    findings = load_text(FLOW.format(switch=switch, cold="given")).document.findings
    assert any(message in str(finding) or finding.code == "expression" for finding in findings), findings
