"""What the tests of a flow reach: nodes, and the ways of each."""

from engine.coverage import coverage
from engine.load import load_text

FLOW = """
flow: f
sources: {in: {mqtt: {topics: [t]}, where: n > 0}}
operators:
  ways:  {from: in, switch: {hot: n > 80, cold: n < 10}}
  big:   {from: ways, where: n > 50}
  hurry: {from: in, key: meta.topic, alert: {when: n > 90, clear_when: n < 20, repeat: 1m, table: none}}
  row:   {from: in, steps: [{set: {m: n * 2}}, {where: m > 4}]}
sinks:
  cold: {from: ways.cold, log: x}
  hot:  {from: ways.hot, log: x}
  rest: {from: big, log: x, where: n < 60}
  told: {from: [hurry, row], log: x}
tests:
"""


def reached(*tests: str) -> tuple[list[str], list[str]]:
    listed = "".join(f"  - {{name: t, {test}}}\n" for test in tests)
    found = coverage(load_text(FLOW + (listed or "  []\n")).raise_findings())
    assert found.percent == 100 * (found.nodes + found.ways - len(found.not_reached) - len(found.not_taken)) // (
        found.nodes + found.ways
    )
    return found.not_reached, found.not_taken


def test_nothing_is_reached_without_tests() -> None:
    nodes, ways = reached()
    assert nodes == ["in", "ways", "big", "hurry", "row/1", "row", "cold", "hot", "rest", "told"]
    assert ways == [
        "in where: true", "in where: false", "ways main output", "ways.cold", "ways.hot", "big where: true",
        "big where: false", "hurry: fired", "hurry: cleared", "hurry: repeated", "row where: true", "row where: false",
        "rest where: true", "rest where: false",
    ]  # fmt: skip


def test_what_events_take_is_seen() -> None:
    assert reached("send: [{to: in, data: {n: 55}}]") == (
        ["cold", "hot"],
        [
            "in where: false", "ways.cold", "ways.hot", "big where: false", "hurry: fired", "hurry: cleared",
            "hurry: repeated", "row where: false", "rest where: false",
        ],
    )  # fmt: skip


def test_an_event_that_fails_takes_no_way() -> None:
    nodes, ways = reached("send: [{to: in, data: {n: x}}]")
    assert "in" not in nodes
    assert {"in where: true", "in where: false"} <= set(ways)


def test_tests_reach_together() -> None:
    values = [0, 95, 30, 55, 70, 1]
    sent = [f"send: [{{to: in, data: {{n: {value}}}}}]" for value in values]
    alarm = "send: [{to: in, data: {n: 95}}, {advance: 2m}, {to: in, data: {n: 1}}]"
    assert reached(*sent, alarm) == ([], [])


def test_what_comes_with_a_node_does_not_count() -> None:
    """The alert's table, its sink and the source of what people do stand in no file."""
    text = FLOW.replace(", table: none", "")
    found = coverage(load_text(f"{text}  - {{name: t, send: []}}\n").raise_findings())
    assert found.not_reached == reached()[0]


def test_it_reads_as_a_few_lines() -> None:
    text = "flow: g\nsources: {in: {mqtt: {topics: [t]}}}\nsinks: {a: {from: in, log: x}, b: {from: in, where: n, log: x}}\n"
    test = "tests: [{name: t, send: [{to: in, data: {n: 1}}]}]\n"
    assert list(coverage(load_text(text + test).raise_findings()).lines()) == [
        "coverage of g: 80 % (4 of 5 nodes and ways)",
        "     never taken: b where: false",
    ]
