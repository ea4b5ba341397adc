"""`drop` and `rename`: which fields are left, by which names; `split` beside its examples."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import field_paths
from engine.code_writer import Record
from engine.expression_check import Type
from engine.harness import Harness
from engine.load import load_text
from engine.registry import components
from tests.operators.replay import flow_of, sent


def run(kind: str, options: Any, *data: dict[str, Any]) -> Harness:
    harness = Harness(flow_of(kind, options, key=""))
    for at, item in enumerate(data):
        harness.send([sent(at, **item)])
    return harness


def out(kind: str, options: Any, *data: dict[str, Any]) -> list[dict[str, Any]]:
    return [event.data for event in run(kind, options, *data).out["out"]]


NESTED = {"a": 1, "b": {"c": 2, "d": [{"e": 3, "f": 4}, 5]}, "b2": 6, "x[1]": 7}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["a", "none"], {"b": NESTED["b"], "b2": 6, "x[1]": 7}),
        ("b*", {"a": 1, "x[1]": 7}),
        (["b?", "b.c", "a"], {"b": {"d": [{"e": 3, "f": 4}, 5]}, "x[1]": 7}),
        (["b.d.e", "x[1]"], {"a": 1, "b": {"c": 2, "d": [{"f": 4}, 5]}, "b2": 6}),
        (["*.c", "b.d.*", "a.z"], {"a": 1, "b": {"d": [{}, 5]}, "b2": 6, "x[1]": 7}),
        ({"all_but": ["a", "b.d.e"]}, {"a": 1, "b": {"d": [{"e": 3}]}}),
        ({"all_but": ["b*.c", "b2", "x[1]"]}, {"b": {"c": 2}, "b2": 6, "x[1]": 7}),
        ({"all_but": ["a.z", "none"]}, {}),
    ],
)
def test_names_patterns_and_paths(options: Any, left: dict[str, Any]) -> None:
    assert out("drop", options, NESTED) == [left]


@pytest.mark.parametrize("options", [["a", "b.c"], ["b*"], {"all_but": ["a", "b2"]}, {"all_but": ["a", "b.c"]}])
def test_what_is_known_of_the_fields_changes_nothing(options: Any) -> None:
    """Behind `validate` each field is a variable, else it is in a dict."""
    declared = {"a": "int", "b": {"type": "map", "fields": {"c": "int", "d": "list"}}, "b2": "int"}
    flow = load_text(f"""
flow: f
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators: {{v: {{from: given, validate: {declared}}}, o: {{from: v, drop: {options}}}}}
sinks: {{out: {{from: o, log: x}}}}
""").raise_findings()
    harness = Harness(flow)
    harness.send([sent(0, **NESTED)])
    plain = {name: value for name, value in NESTED.items() if name in declared}
    assert [event.data for event in harness.out["out"]] == out("drop", options, plain)


def test_dropping_a_known_field_writes_no_line() -> None:
    class Lines:
        record = Record(fields={"a": "w1", "b": "w2"}, types={"a": Type("number"), "b": Type("text")})
        gone: Record

        def go_on(self, record: Record) -> None:
            self.gone = record

    code = Lines()
    components("operators")["drop"].model_validate({"names": ["a"]}).code(code)  # type: ignore[attr-defined]
    assert (code.gone.fields, code.gone.types) == ({"b": "w2"}, {"b": Type("text")})


@pytest.mark.parametrize("options", [{}, {"names": ["a"], "all_but": ["b"]}, ["a..b"], [""]])
def test_drop_refuses_what_makes_no_sense(options: Any) -> None:
    with pytest.raises(Exception, match=r"either names or all_but|joined by single dots"):
        flow_of("drop", options, key="")


names = st.sampled_from(["a", "b", "c", "*", "a*", "?"])
leaves: st.SearchStrategy[Any] = st.one_of(st.integers(0, 3), st.none(), st.just([]), st.just({}))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.dictionaries(st.sampled_from("abc"), inner, max_size=3), st.lists(inner, max_size=2)),
    max_leaves=8,
)


@given(
    data=st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    paths=st.lists(st.lists(names, min_size=1, max_size=3).map(".".join), min_size=1, max_size=3),
)
def test_what_is_dropped_once_is_gone_and_what_stays_alone_stays(data: dict[str, Any], paths: list[str]) -> None:
    steps = field_paths.paths_of(paths)
    left, kept = field_paths.without(data, steps), field_paths.only(data, steps)
    assert field_paths.without(left, steps) == left
    assert field_paths.only(kept, steps) == kept
    assert {name for name in data if field_paths.step(steps, name) is field_paths.ENDS} == data.keys() - left.keys()


def test_a_name_that_is_no_field_is_found() -> None:
    flow = """
flow: f
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators: {{v: {{from: given, validate: {{temperature: number}}}}, o: {{from: v, {node}}}}}
sinks: {{out: {{from: o, log: x}}}}
"""
    for node in ("drop: [temprature]", "rename: {t: temprature}", "drop: {all_but: [temprature]}"):
        (finding,) = load_text(flow.format(node=node)).document.findings
        assert (finding.code, finding.hint) == ("unknown-field", "did you mean 'temperature'?"), node
    assert load_text(flow.format(node="drop: [t*, x*]")).document.findings == []


def test_rename_keeps_places_swaps_and_replaces() -> None:
    assert [list(data.items()) for data in out("rename", {"z": "a", "b": "c"}, {"a": 1, "b": 2, "c": 3}, {"b": 2})] == [
        [("z", 1), ("b", 3)],
        [("b", 2)],
    ]
    assert out("rename", {"a": "b", "b": "a"}, {"a": 1, "b": 2}, {"a": 1}) == [{"b": 1, "a": 2}, {"b": 1}]


def test_rename_gives_a_field_one_name() -> None:
    with pytest.raises(Exception, match="got two for 'a'"):
        flow_of("rename", {"x": "a", "y": "a"}, key="")


def test_split_adds_the_fields_of_each_entry_or_says_what_is_none() -> None:
    harness = run("split", {"of": "x", "index": "at"}, {"x": [{"y": 1}, {"y": 2, "x": 3}]}, {"x": [{"y": 1}, 2]})
    assert [event.data for event in harness.out["out"]] == [
        {"x": [{"y": 1}, {"y": 2, "x": 3}], "y": 1, "at": 0},
        {"x": 3, "y": 2, "at": 1},
    ]
    assert [letter.reason for letter in harness.dead] == ["x: entries with fields, as there is no `as`; got int"]


def test_split_keeps_what_is_empty_if_told_to() -> None:
    data: tuple[dict[str, Any], ...] = ({"x": []}, {"x": {}}, {}, {"x": 0}, {"x": ""})
    harness = run("split", {"of": "x", "as": "y", "on_empty": "keep"}, *data)
    assert [event.data for event in harness.out["out"]] == [{"x": []}, {"x": {}}, {}]
    assert [letter.reason for letter in harness.dead] == [
        "x: a list or mapping; got int",
        "x: a list or mapping; got str",
    ]
