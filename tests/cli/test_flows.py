"""`test` and `graph`: what they print, for people and as JSON, and how they end."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.command import write
from tests.cli.conftest import Call

TESTED = """\
flow: tested
sources:
  in: {http: {post: /in, allow: anyone}}
operators:
  checked: {from: in, validate: {n: int}}
  doubled: {from: checked, set: {n: n * 2}}
sinks:
  out: {from: doubled, log: {message: it came}}
  bad: {from: checked.rejected, log: {message: refused}}
tests:
  - name: it doubles
    send: [{at: 0s, to: in, data: {n: 2}}]
    expect: {out: [{n: 4}]}
"""
WRONG = """\
  - name: it trebles
    send: [{at: 0s, to: in, data: {n: 2}}]
    expect: {out: [{n: 6}]}
"""


@pytest.fixture
def tested(tmp_path: Path) -> Path:
    return write(tmp_path / "pack" / "tested.yaml", TESTED)


@pytest.mark.parametrize("command", ["lint", "test", "graph"])
def test_paths_without_a_flow(call: Call, tmp_path: Path, command: str) -> None:
    missing = call(command, tmp_path / "missing")
    assert (missing.exit_code, missing.stderr) == (2, f"millstream: {tmp_path / 'missing'}: no such file or folder\n")
    assert call(command, tmp_path).exit_code == 2


def test_tests_of_a_flow(call: Call, tested: Path) -> None:
    passed = call("test", tested)
    assert (passed.exit_code, passed.stdout) == (0, "ok   tested: it doubles\n1 passed, 0 failed\n")
    write(tested, TESTED + WRONG)
    failed = call("test", tested)
    assert failed.exit_code == 1
    assert failed.stdout.splitlines() == [
        "ok   tested: it doubles",
        "FAIL tested: it trebles",
        "     out[0].n: 6; got 4",
        "1 passed, 1 failed",
    ]


def test_tests_of_a_flow_as_json(call: Call, tested: Path) -> None:
    write(tested, TESTED + WRONG)
    failed = call("test", tested, "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout) == [
        {"flow": "tested", "test": "it doubles", "differences": []},
        {"flow": "tested", "test": "it trebles", "differences": ["out[0].n: 6; got 4"]},
    ]


def test_tests_of_a_flow_with_findings(call: Call, tested: Path) -> None:
    write(tested, TESTED.replace("from: checked,", "from: chekced,"))
    found = call("test", tested)
    assert found.exit_code == 1
    assert "did you mean 'checked'?" in found.stderr


def test_a_record_is_written_into_the_file_and_holds(call: Call, tested: Path) -> None:
    text = TESTED.replace("    expect: {out: [{n: 4}]}\n", "")
    write(tested, text)
    done = call("test", tested, "--record")
    assert (done.exit_code, done.stderr) == (0, f"recorded {tested}: it doubles\n")
    assert done.stdout == "ok   tested: it doubles\n1 passed, 0 failed\n"
    assert (
        tested.read_text() == text + "    expect:\n      out:\n        - {n: 4}\n      bad: []\n      deadletters: []\n"
    )
    assert call("test", tested, "--record").stderr == ""


def test_what_is_expected_already_is_overwritten_only_when_told(call: Call, tested: Path) -> None:
    write(tested, TESTED + WRONG)
    assert call("test", tested, "--record").exit_code == 1
    assert tested.read_text() == TESTED + WRONG
    done = call("test", tested, "--record", "--overwrite")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 passed, 0 failed")
    assert "n: 6" not in tested.read_text()
    assert call("test", tested, "--overwrite").exit_code == 2


def test_coverage_is_told_and_asked_for(call: Call, tested: Path) -> None:
    told = call("test", tested, "--coverage")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[1:3] == [
        "coverage of tested: 71 % (5 of 7 nodes and ways)",
        "     never reached: bad",
    ]
    assert call("test", tested, "--cover-min", "71").exit_code == 0
    low = call("test", tested, "--cover-min", "72")
    assert (low.exit_code, low.stderr) == (1, "--cover-min: tested: at least 72 %; got 71 %\n")
    found = json.loads(call("test", tested, "--coverage", "--json").stdout)
    assert found["tests"] == [{"flow": "tested", "test": "it doubles", "differences": []}]
    assert found["coverage"] == [
        {"flow": "tested", "percent": 71, "nodes": 5, "ways": 2}
        | {"not_reached": ["bad"], "not_taken": ["checked.rejected"]}
    ]


def test_outcomes_as_junit_xml(call: Call, tested: Path, tmp_path: Path) -> None:
    write(tested, TESTED + WRONG)
    assert call("test", tested, "--junit", tmp_path / "out" / "junit.xml").exit_code == 1
    (suite,) = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()  # noqa: S314  # ours
    assert (suite.attrib["name"], suite.attrib["tests"], suite.attrib["failures"]) == ("tested", "2", "1")


def test_the_tests_of_each_instance_run_under_its_name(call: Call, tested: Path) -> None:
    write(tested, TESTED.replace("flow: tested\n", "flow: tested_${line}\nfor_each: {line: [1, 2]}\n"))
    assert call("test", tested).stdout.splitlines() == [
        "ok   tested_1: it doubles",
        "ok   tested_2: it doubles",
        "2 passed, 0 failed",
    ]


def test_a_graph_for_documents(call: Call, tested: Path) -> None:
    assert call("graph", tested).stdout.splitlines() == [
        "flowchart LR",
        '  in(["in<br/>http"])',
        '  checked["checked<br/>validate"]',
        '  doubled["doubled<br/>set"]',
        '  out[/"out<br/>log"/]',
        '  bad[/"bad<br/>log"/]',
        "  in --> checked",
        "  checked --> doubled",
        "  doubled --> out",
        "  checked -- rejected --> bad",
    ]


def test_a_graph_as_json(call: Call, tested: Path) -> None:
    graph = json.loads(call("graph", tested, "--json").stdout)
    assert graph["nodes"]["checked"] == {"section": "operators", "kind": "validate", "about": ""}
    assert ["checked.rejected", "bad"] in graph["wires"]


def test_a_graph_is_of_one_flow(call: Call, tested: Path) -> None:
    write(tested.parent / "tiny.yaml")
    refused = call("graph", tested.parent)
    assert refused.exit_code == 2
    assert "graph: one flow" in refused.stderr
