"""Shapes that are known to be slow: each is warned of with its place, what it costs and what to do instead."""

import re
from pathlib import Path

import pytest

from engine.load import find_flows, load, load_text
from engine.slow_shapes import slow_shapes
from tests.process import ROOT

FLOW = """\
flow: line
tables:
  result: {{id: serial, car: int, device: text(20), state: text(9), created_at: time, index: [[car], [state, device]]}}
  note: {{id: serial, author: text(20)}}
sources:
  station: {{mqtt: {{topics: [station]}}}}
operators:
  checked: {{from: station, validate: {{device: text, state: text, car: int}}}}
{operators}
sinks:
  results: {{from: checked, sql: {{table: result{sql}}}}}
  seen: {{from: {last}, log: {{}}}}
queries:
  all: {{get: /all, table: result{query}}}
  notes: {{get: /notes, table: note, filters: [author]}}
"""


def warnings(operator: str = "", sql: str = "", query: str = "") -> list[str]:
    """Return the warnings of a flow, as `node option: costs (instead)`, where one of its parts is as it is given."""
    operators, last = (f"  one: {operator}", "one") if operator else ("", "checked")
    flow = load_text(FLOW.format(operators=operators, last=last, sql=sql, query=query), Path("flow.yaml"))
    found = slow_shapes(flow.raise_findings())
    assert all(str(finding).endswith(" [slow]") for finding in found)
    assert all(": warning: " in str(finding) for finding in found)
    return [f"{finding.node} {finding.option}: {finding.message} ({finding.hint})".strip() for finding in found]


def where(condition: str) -> list[str]:
    return warnings(f"{{from: checked, where: '{condition}'}}")


def test_a_flow_that_is_not_slow_has_no_warnings() -> None:
    assert warnings() == []


@pytest.mark.parametrize(
    ("condition", "instead"),
    [
        ('matches(device, "^led-1$")', 'device == "led-1"'),
        ('matches(device, "^led")', 'starts_with(device, "led")'),
        ('matches(meta.topic, "/ult01$")', 'ends_with(meta.topic, "/ult01")'),
        ('not matches(lower(device), "led") and car > 1', 'contains(lower(device), "led")'),
        ('matches(state, "^(OK|DEFECT)$")', 'state in ["OK", "DEFECT"]'),
    ],
)
def test_a_pattern_that_is_a_comparison(condition: str, instead: str) -> None:
    costs = "a regular expression, which takes 5 times as long as what says the same"
    assert where(condition) == [f"one where: {costs} ({instead})"]


@pytest.mark.parametrize(
    "condition",
    [
        'matches(device, "^led[0-9]+$")', 'matches(device, "l.d")', 'matches(device, "^(led|ult)")', 'device == "a"',
        'matches(device, "(?i)led")', 'capture(device, "led") == "led"', 'matches(device, "")',
    ],
)  # fmt: skip
def test_a_pattern_that_nothing_else_says(condition: str) -> None:
    assert where(condition) == []


def test_an_expression_has_its_place() -> None:
    text = FLOW.format(
        operators="  one: {from: checked, set: {led: 'matches(device, \"led\")'}}", last="one", sql="", query=""
    )
    finding = slow_shapes(load_text(text, Path("flow.yaml")))[0]
    assert (finding.line, text.splitlines()[8][finding.column - 1 :][:16]) == (9, "led: 'matches(de")
    assert str(finding).startswith(f"flow.yaml:9:{finding.column}: warning: node 'one': led: a regular expression")


@pytest.mark.parametrize(("batch", "count"), [(99, 1), (100, 0)])
def test_a_small_batch(batch: int, count: int) -> None:
    found = warnings(sql=f", batch: {batch}")
    assert [line.partition(":")[0] for line in found] == ["results batch"] * count


@pytest.mark.parametrize(
    ("options", "count"),
    [("of: state, by: [device], every: 19ms", 1), ("of: state, by: [device], every: 20ms", 0), ("of: state, every: 1ms", 0)],
)  # fmt: skip
def test_a_tally_that_comes_out_all_the_time(options: str, count: int) -> None:
    found = warnings(f"{{from: checked, tally: {{{options}}}}}")
    assert [line.partition(":")[0] for line in found] == ["one every"] * count


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ("every: 1s, by: event, lateness: 601s", 1),
        ("every: 1s, by: event, lateness: 600s", 0),
        ("every: 1s, lateness: 1h", 0),
        ("every: 1m, by: event, lateness: 1h", 0),
    ],
)
def test_many_open_windows(options: str, count: int) -> None:
    found = warnings(f"{{from: checked, key: device, window: {{{options}}}}}")
    assert [line.partition(":")[0] for line in found] == ["one lateness"] * count
    assert not count or "up to 601 windows" in found[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("length: 101s, every: 1s", ["one length: each window is put together from 101 parts"]),
        ("length: 100s, every: 1s", []),
        ("count: 100, step: 9", ["one step: each event is added to 11 windows"]),
        ("count: 100, step: 10", []),
    ],
)
def test_windows_of_many_parts(options: str, expected: list[str]) -> None:
    found = warnings(f"{{from: checked, key: device, window: {{{options}}}}}")
    assert [line.partition(": with 100")[0] for line in found] == expected


@pytest.mark.parametrize(
    ("key", "kind", "count"),
    [
        ("meta.id", "tally: {of: state}", 1),
        ("device", "tally: {of: state}", 0),
        ("meta.id", "set: {n: 1}", 0),
        ("meta.topic", "window: {every: 1m}", 0),
    ],
)
def test_a_key_for_every_event(key: str, kind: str, count: int) -> None:
    found = warnings(f"{{from: checked, key: {key}, {kind}}}")
    assert [line.partition(":")[0] for line in found] == ["one key"] * count


def test_pictures_before_the_check() -> None:
    text = """\
flow: camera
sources: {{camera: {{mqtt: {{topics: [camera]}}}}}}
operators:
  first: {{from: camera, {first}}}
  second: {{from: first, {second}}}
sinks: {{seen: {{from: second, log: {{}}}}}}
"""
    image, check = "image: {of: picture, as: images}", "validate: {result: text, picture: text}"
    late = slow_shapes(load_text(text.format(first=image, second=check)).raise_findings())
    assert [(finding.node, finding.option) for finding in late] == [("first", "of")]
    assert slow_shapes(load_text(text.format(first=check, second=image)).raise_findings()) == []


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (", filters: [car, id]", []),
        (", filters: [state]", []),
        (", filters: [device]", ["all.filters.0"]),
        (", filters: [device], where: {state: BAD}", []),
        (", filters: [device], where: {state: [BAD, OK]}", ["all.filters.0"]),
        (", where: {device: LED}", ["all.where.device"]),
        (", newest: car", []),
    ],
)
def test_a_query_without_an_index(query: str, options: list[str]) -> None:
    found = warnings(query=query)
    assert [line.partition(":")[0] for line in found] == options
    assert all("result: {index: [[device]]}" in line for line in found)


def test_a_flow_with_findings_has_no_warnings() -> None:
    text = FLOW.format(operators="", last="nothing", sql=", batch: 1", query="")
    flow = load_text(text)
    assert flow.document.findings
    assert slow_shapes(flow) == []


@pytest.mark.parametrize("path", find_flows([ROOT / "flows"], below=True), ids=lambda path: path.stem)
def test_the_packs_have_no_warnings(path: Path) -> None:
    assert slow_shapes(load(path)) == []


def test_the_docs_have_no_warnings() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "flows").rglob("*.md")]
    blocks = [block for page in pages for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)]
    flows = [load_text(block) for block in blocks if re.search(r"^flow:", block, re.M)]
    assert len(flows) >= 3
    assert [str(warning) for flow in flows for warning in slow_shapes(flow)] == []
