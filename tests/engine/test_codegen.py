"""The generated function of a stage: each node sees what it should, and one bad event costs itself only."""

from typing import Any

import msgspec
import pytest

from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START


def run(
    operators: str, sinks: str, *data: Any, sources: str = "{given: {mqtt: {topics: [t]}}}", at: int = START
) -> Harness:
    text = f"flow: f\nsources: {sources}\noperators: {operators}\nsinks: {sinks}\n"
    harness = Harness(load_text(text).raise_findings())
    harness.send([Sent(at, "given", msgspec.json.encode(item), "line/1") for item in data])
    return harness


def out(harness: Harness, sink: str = "z") -> list[Any]:
    return [event.data for event in harness.out[sink]]


def test_events_keep_their_order_on_each_branch() -> None:
    harness = run(
        "{o: {from: given, where: n != 2}}",
        "{z: {from: o, log: x}, y: {from: given, log: x}}",
        *({"n": n} for n in range(5)),
    )
    assert [data["n"] for data in out(harness)] == [0, 1, 3, 4]
    assert [data["n"] for data in out(harness, "y")] == [0, 1, 2, 3, 4]


def test_two_inputs_of_one_node_are_both_taken() -> None:
    operators = (
        "{a: {from: given, set: {by: \"'a'\"}}, b: {from: given, set: {by: \"'b'\"}}, c: {from: [a, b], set: {c: 1}}}"
    )
    harness = run(operators, "{z: {from: c, log: x}}", {"n": 1}, {"n": 2})
    assert sorted((data["n"], data["by"]) for data in out(harness)) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


@pytest.mark.parametrize("where", ["source", "operator", "sink"])
def test_a_condition_that_fails_costs_its_event_only(where: str) -> None:
    conditions = {name: ", where: n > 1" if name == where else "" for name in ("source", "operator", "sink")}
    harness = run(
        f"{{o: {{from: given, set: {{m: n}}{conditions['operator']}}}}}",
        f"{{z: {{from: o, log: x{conditions['sink']}}}}}",
        {"n": 1},
        {"n": "text"},
        {"n": 2},
        {},
        sources=f"{{given: {{mqtt: {{topics: [t]}}{conditions['source']}}}}}",
    )
    assert out(harness) == [{"n": 2, "m": 2}]
    (letter,) = harness.dead
    assert letter.node == {"source": "given", "operator": "o", "sink": "z"}[where]
    assert letter.reason == 'n > 1: cannot compare text with number; n = "text"'
    assert letter.values == {"n": "text"}
    assert letter.event.data == {"n": "text"} | ({"m": "text"} if where == "sink" else {})


def test_a_key_is_text_and_a_missing_one_is_the_events_fault() -> None:
    operators = "{o: {from: given, key: k, group: {opens: 'true', as: g}}}"
    harness = run(operators, "{z: {from: o, log: x}}", {"k": 1}, {"k": "1"}, {"k": None}, {"k": [1]})
    assert [(event.key, event.data["g"]) for event in harness.out["z"]] == [("1", 1), ("1", 2), ("[1]", 1)]
    assert [letter.reason for letter in harness.dead] == ["key: a value; got none"]


def test_a_key_of_one_branch_is_not_that_of_another() -> None:
    operators = "{a: {from: given, key: k, set: {x: meta.key}}, b: {from: given, key: n, set: {x: meta.key}}}"
    harness = run(
        operators, "{z: {from: a, log: x}, y: {from: b, log: x}, raw: {from: given, log: x}}", {"k": "k", "n": "n"}
    )
    assert [out(harness, sink)[0].get("x") for sink in ("z", "y", "raw")] == ["k", "n", None]
    assert [harness.out[sink][0].key for sink in ("z", "y", "raw")] == ["k", "n", ""]


def test_what_fails_goes_to_errors_with_its_reason_and_to_the_dead_letters() -> None:
    harness = run(
        "{o: {from: given, set: {m: n + 1}}}",
        "{z: {from: o, log: x}, bad: {from: o.errors, log: x}}",
        {"n": "a"},
        {"n": 1},
    )
    assert out(harness) == [{"n": 1, "m": 2}]
    assert out(harness, "bad")[0]["n"] == "a"
    assert out(harness, "bad")[0]["reason"] == harness.dead[0].reason


def test_the_faults_of_an_operator_with_memory_are_told_alike() -> None:
    operators = "{o: {from: given, tally: {of: r, counts: {high: n > 1}}}}"
    harness = run(operators, "{z: {from: o, log: x}, bad: {from: o.errors, log: x}}", {"n": "text"})
    assert [letter.reason for letter in harness.dead] == ['n > 1: cannot compare text with number; n = "text"']
    assert out(harness, "bad") == [{"n": "text", "reason": harness.dead[0].reason}]


def test_on_error_drop_keeps_no_letter_and_counts_it() -> None:
    operators = "{o: {from: given, set: {m: n + 1}, on_error: drop}, p: {from: o, set: {m: m + 1}}}"
    harness = run(operators, "{z: {from: p, log: x}}", {"n": "a"}, {"n": 1})
    assert (out(harness), harness.dead) == ([{"n": 1, "m": 3}], [])
    assert harness.ledger().dropped == 1


def test_on_error_of_a_node_with_steps_is_that_of_every_step() -> None:
    operators = "{o: {from: given, on_error: drop, steps: [{set: {m: 1}}, {set: {m: n + 1}}]}}"
    assert run(operators, "{z: {from: o, log: x}}", {"n": "a"}).dead == []


def test_steps_run_in_a_row_under_the_nodes_name() -> None:
    operators = "{o: {from: given, where: n > 0, key: k, steps: [{set: {m: n + 1}}, {where: m > 2}, {set: {m: m * 10, by: meta.key}}]}}"
    harness = run(operators, "{z: {from: o, log: x}}", {"n": 1, "k": "a"}, {"n": 2, "k": "b"}, {"n": 0})
    assert out(harness) == [{"n": 2, "k": "b", "m": 30, "by": "b"}]
    assert harness.plan.source.counts == {"given": 3, "o/1": 2, "o/2": 1, "o": 1}


def test_counts_say_what_left_each_node() -> None:
    operators = "{o: {from: given, validate: {n: int}}, p: {from: o, split: {of: '[1, 2]', as: x}}}"
    harness = run(operators, "{z: {from: p, log: x}, bad: {from: o.rejected, log: x}}", {"n": 1}, {"n": "a"}, {"n": 2})
    assert harness.plan.source.counts == {"given": 3, "o": 2, "o.rejected": 1, "p": 4}


def test_what_cannot_be_decoded_is_a_letter_of_its_source_with_its_bytes() -> None:
    harness = run("{o: {from: given, set: {m: 1}}}", "{z: {from: o, log: x}}", [1], 7, {"n": 1})
    assert [(letter.node, letter.reason) for letter in harness.dead] == [
        ("given", "decode: a JSON object; got a list"),
        ("given", "decode: a JSON object; got a number"),
    ]
    assert [letter.payload for letter in harness.dead] == [b"[1]", b"7"]
    assert len(out(harness)) == 1


CHAIN = "{{from: n{0}, where: exists(a)}}"


@pytest.mark.parametrize("length", [20, 100, 600])
def test_a_long_row_of_nodes_compiles(length: int) -> None:
    """Python allows a hundred levels of indentation."""
    operators = ", ".join(f"n{i}: " + CHAIN.format(i - 1) for i in range(1, length))
    harness = run(
        f"{{{operators}}}",
        f"{{z: {{from: n{length - 1}, log: x}}}}",
        {"a": 1},
        {},
        sources="{n0: {mqtt: {topics: [t]}}}",
    )
    assert harness.out["z"] == []
    harness.send([Sent(START, "n0", b'{"a": 1}')])
    assert len(harness.out["z"]) == 1
    assert harness.plan.source.counts["n17"] == 1


def test_a_long_row_of_nodes_that_emit_compiles() -> None:
    """Python allows twenty blocks inside each other."""
    operators = ", ".join(
        f"n{i}: {{from: {f'n{i - 1}' if i else 'given'}, split: {{of: a, as: b}}}}" for i in range(15)
    )
    assert len(out(run(f"{{{operators}}}", "{z: {from: n14, log: x}}", {"a": [1]}))) == 1


def test_ways_that_meet_again_and_again_are_written_once() -> None:
    """A flow of forks and joins has as many ways as events have copies, but the code grows with the nodes only."""
    nodes = ["n0: {from: given, set: {x: 0}}"]
    for i in range(1, 11):
        nodes += [f"a{i}: {{from: n{i - 1}, set: {{x: x + 1}}}}", f"b{i}: {{from: n{i - 1}, where: x < 0}}"]
        nodes += [f"n{i}: {{from: [a{i}, b{i}], set: {{x: x * 2}}}}"]
    harness = run(f"{{{', '.join(nodes)}}}", "{z: {from: n10, log: x}}", {})
    assert out(harness) == [{"x": 2046}]
    assert len(harness.plan.source.source) < 100_000


def test_a_branch_that_changes_an_event_owns_it_only_when_nobody_else_has_it() -> None:
    operators = "{a: {from: given, set: {x: 1}}, b: {from: a, set: {x: 2}}, c: {from: a, set: {x: 3}}, d: {from: [b, c], set: {y: x}}}"
    harness = run(operators, "{z: {from: d, log: x}, y: {from: a, log: x}, w: {from: b, log: x}}", {})
    assert (out(harness), out(harness, "y"), out(harness, "w")) == (
        [{"x": 2, "y": 2}, {"x": 3, "y": 3}],
        [{"x": 1}],
        [{"x": 2}],
    )


def test_what_is_let_through_is_still_shared_with_the_other_branches() -> None:
    """A condition makes no copy: the node after it may not change what another branch has as well."""
    operators = "{a: {from: given, where: n > 5}, b: {from: a, set: {n: n * 2}}, c: {from: given, where: n > 0}}"
    harness = run(operators, "{z: {from: b, log: x}, y: {from: c, log: x}, w: {from: given, log: x}}", {"n": 6})
    assert (out(harness), out(harness, "y"), out(harness, "w")) == ([{"n": 12}], [{"n": 6}], [{"n": 6}])
