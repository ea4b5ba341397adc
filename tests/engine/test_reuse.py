"""Reuse: parts with parameters, and one instance of a flow for each entry; both survive being one text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bundle import bundle, unbundle
from engine.deployed import whole_text
from engine.load import load, load_all, load_text
from engine.substitution import Surroundings
from engine.testing import run_tests

LINE = """\
flow: line_${line}
for_each: {line: 1..3}
settings: {base: {default: plant}}
include:
  - {file: parts/oven.yaml, with: {oven: north, topic: "${base}/${line}/north"}}
  - {file: parts/oven.yaml, with: {oven: south, topic: "${base}/${line}/south", limit: 300}}
tests:
  - name: each oven has its limit
    send:
      - {to: north_readings, topic: "plant/${line}/north", data: {celsius: 250}}
      - {to: south_readings, topic: "plant/${line}/south", data: {celsius: 250}}
    expect: {north_hot: [{celsius: 250, line: "${line}"}], south_hot: []}
"""
OVEN = """\
params: {oven: {about: its name}, topic: , limit: 240}
tables:
  reading: {id: serial, oven: text(20), celsius: number}
sources:
  ${oven}_readings: {mqtt: {topics: ["${topic}"], qos: 1}}
operators:
  ${oven}_hot:
    from: ${oven}_readings
    steps: [{where: "celsius > ${limit}"}, {set: {line: settings.line}}]
sinks:
  ${oven}_stored: {from: "${oven}_hot", sql: {table: reading, columns: {oven: "'${oven}'"}}}
"""


@pytest.fixture
def line(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/oven.yaml").write_text(OVEN)
    file = tmp_path / "line.yaml"
    file.write_text(LINE)
    return file


def test_every_instance_has_its_nodes_its_values_and_its_tests(line: Path) -> None:
    flows = [flow.raise_findings() for flow in load_all(line)]
    assert [(flow.name, flow.settings["line"]) for flow in flows] == [("line_1", 1), ("line_2", 2), ("line_3", 3)]
    assert [flow.nodes["north_readings"].component.topics for flow in flows] == [  # type: ignore[attr-defined]
        [f"plant/{number}/north"] for number in (1, 2, 3)
    ]
    assert list(flows[0].tables) == ["reading"]
    assert [outcome.differences for flow in flows for outcome in run_tests(flow)] == [[], [], []]


def test_an_instance_is_chosen_as_a_setting_is(line: Path) -> None:
    chosen = load_all(line, Surroundings(overrides={"line": "2"}))
    assert [flow.name for flow in chosen] == ["line_2"]
    assert chosen[0].instance == {"line": "2"}
    gone = load(line, Surroundings(overrides={"line": "9"}))
    assert "an entry for line=9; there is none [for-each]" in str(gone.document.findings[0])


def test_one_text_is_the_flow_without_its_folder(line: Path, tmp_path: Path) -> None:
    text = whole_text(load(line))
    (tmp_path / "parts/oven.yaml").unlink()
    again = load_text(text, line, Surroundings(overrides={"line": "3"})).raise_findings()
    assert (again.name, again.files) == ("line_3", {"parts/oven.yaml": OVEN})
    assert "can be read; parts/oven.yaml" in str(load(line).document.findings[0])


def test_a_table_gives_an_instance_a_line(tmp_path: Path) -> None:
    (tmp_path / "ovens.csv").write_text("oven,limit,code\nnorth,240,007\nsouth,250.5,-3\n")
    file = tmp_path / "ovens.yaml"
    file.write_text(
        "flow: oven_${oven}\nfor_each: {csv: ovens.csv}\n"
        "sources: {a: {mqtt: {topics: ['${oven}'], qos: 1}}}\n"
        "sinks: {z: {from: a, where: celsius > settings.limit, log: hot}}\n"
    )
    flows = [flow.raise_findings() for flow in load_all(file)]
    assert [(f.name, f.settings["limit"], f.settings["code"], f.instance) for f in flows] == [
        ("oven_north", 240, "007", {"oven": "north"}),
        ("oven_south", 250.5, -3, {"oven": "south"}),
    ]


def test_each_with_each() -> None:
    text = "flow: l_${site}_${line}\nfor_each: {site: a..c, line: [7, 8]}\nsources: {a: {mqtt: {topics: [t]}}}\n"
    flow = load_text(text + "sinks: {z: {from: a, log: '${site}'}}\n").raise_findings()
    assert [tuple(key.values()) for key in flow.instances] == [
        ("a", "7"), ("a", "8"), ("b", "7"), ("b", "8"), ("c", "7"), ("c", "8"),
    ]  # fmt: skip


def test_a_flows_name_has_the_values_in_small_letters(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    text = "flow: site_${site}\nfor_each: {site: A..C}\nsources: {a: {mqtt: {topics: ['${site}/t']}}}\n"
    file.write_text(text + "sinks: {z: {from: a, log: '${site}'}}\n")
    flows = [flow.raise_findings() for flow in load_all(file)]
    assert [(flow.name, flow.instance) for flow in flows] == [(f"site_{s.lower()}", {"site": s}) for s in "ABC"]
    assert flows[0].nodes["a"].component.topics == ["A/t"]  # type: ignore[attr-defined]


def test_parts_may_include_parts(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "flow: f\ninclude: [{file: a.yaml, with: {name: x}}]\nsources: {s: {mqtt: {topics: [t]}}}\n"
    )
    (tmp_path / "a.yaml").write_text("params: {name: }\ninclude: [{file: b.yaml, with: {name: '${name}_y'}}]\n")
    (tmp_path / "b.yaml").write_text("params: {name: }\nsinks:\n  ${name}: {from: s, log: hello}\n")
    flow = load(tmp_path / "f.yaml").raise_findings()
    assert list(flow.nodes) == ["s", "x_y"]
    assert sorted(flow.files) == ["a.yaml", "b.yaml"]


TEXTS = st.text(alphabet="ab:- #\n", max_size=40).filter(lambda text: "--- # file: " not in text)


@given(TEXTS, st.dictionaries(st.sampled_from(["a.yaml", "b/c.csv", "d e.yaml"]), TEXTS, max_size=3))
def test_a_bundle_gives_back_what_went_in(text: str, files: dict[str, str]) -> None:
    def ended(part: str) -> str:
        return part if part.endswith("\n") else part + "\n"

    main, found = unbundle(bundle(text, files))
    assert main == (ended(text) if files else text)
    assert found == {name: ended(part) for name, part in files.items()}
