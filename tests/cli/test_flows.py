"""`lint`, `test` and `graph`: what they print, for people and as JSON, and how they end."""

import json
from pathlib import Path

import pytest

from tests.cli.command import TINY, write
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


def test_lint_of_a_good_pack(call: Call, tested: Path) -> None:
    write(tested.parent / "more" / "tiny.yaml")
    assert call("lint", tested.parent).stdout == "2 flows, no findings\n"
    assert call("lint", tested).stdout == "1 flow, no findings\n"
    good = call("lint", tested, "--json")
    assert (good.exit_code, json.loads(good.stdout)) == (0, [])


def test_lint_tells_every_finding_of_every_flow_with_its_place(call: Call, tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", TINY.replace("allow: anyone", "allow: boss"))
    two = write(tmp_path / "two.yaml", TINY.replace("from: in", "from: inn"))
    found = call("lint", two, one)
    assert (found.exit_code, found.stdout) == (1, "")
    lines = found.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{one}:3:26", f"{two}:5:9"]
    assert "did you mean 'in'?" in lines[1]
    as_json = call("lint", two, one, "--json")
    assert as_json.exit_code == 1
    findings = json.loads(as_json.stdout)
    assert {(Path(finding["path"]).name, finding["line"]) for finding in findings} == {("one.yaml", 3), ("two.yaml", 5)}


@pytest.mark.parametrize("command", ["lint", "test", "graph"])
def test_paths_without_a_flow(call: Call, tmp_path: Path, command: str) -> None:
    missing = call(command, tmp_path / "missing")
    assert (missing.exit_code, missing.stderr) == (2, f"millstream: {tmp_path / 'missing'}: no such file or folder\n")
    assert call(command, tmp_path).exit_code == 2


def test_lint_of_what_is_no_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "picture.yaml").write_bytes(bytes(range(256)))
    found = call("lint", tmp_path / "picture.yaml")
    assert found.exit_code == 1
    assert found.stderr.startswith(f"{tmp_path / 'picture.yaml'}:")


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


def test_lint_warns_of_what_is_slow_and_does_not_fail(call: Call, tested: Path) -> None:
    write(tested, TESTED.replace("n: n * 2", "n: n * 2, led: 'matches(name, \"led\")'"))
    found = call("lint", tested)
    assert (found.exit_code, found.stderr) == (0, "")
    warning, summary = found.stdout.splitlines()
    assert warning.startswith(f"{tested}:6:")
    assert ": warning: node 'doubled': led: " in warning
    assert '(contains(name, "led")) [slow]' in warning
    assert summary == "1 flow, no findings, 1 warning"
    as_json = call("lint", tested, "--json")
    assert as_json.exit_code == 0
    assert [(finding["severity"], finding["code"]) for finding in json.loads(as_json.stdout)] == [("warning", "slow")]
