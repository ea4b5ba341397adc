"""What tests expect is written into the file, and nothing else in it changes."""

from pathlib import Path

import pytest

from engine.errors import UsageFault
from engine.expectation_recording import with_expectations
from engine.harness import Sent, block_of
from engine.load import load, load_all
from engine.recording import recorded
from engine.testing import START, run_tests

HEAD = """\
# A flow with comments.
flow: f   # its name
sources: {in: {mqtt: {topics: [t]}}}
operators: {big: {from: in, where: n > 1}}
sinks:
  out: {from: big, log: {message: 'it: "came"'}}   # a sink
"""
BLOCK = (
    HEAD
    + """\
tests:
  # the first
  - name: blocks
    send:
      - {to: in, data: {n: 1}}
      - to: in
        data: {n: 2, text: "a # b"}   # a comment at the end

  # the second
  - name: it stays
    send: [{to: in, data: {n: 5}}]
    expect:
      big: [{n: {any: true}}]
  - {name: in brackets, send: [{to: in, data: {n: 3}}]}   # and its comment
  - name: empty
    expect: {}   # nothing yet
    send: [{to: in, data: {n: 1}}]
# the end
"""
)
RECORDED = (
    HEAD
    + """\
tests:
  # the first
  - name: blocks
    send:
      - {to: in, data: {n: 1}}
      - to: in
        data: {n: 2, text: "a # b"}   # a comment at the end
    expect:
      out:
        - {n: 2, text: 'a # b'}
      deadletters: []

  # the second
  - name: it stays
    send: [{to: in, data: {n: 5}}]
    expect:
      big: [{n: {any: true}}]
  - {name: in brackets, send: [{to: in, data: {n: 3}}], expect: {out: [{n: 3}], deadletters: []}}   # and its comment
  - name: empty
    expect:
      out: []
      deadletters: []   # nothing yet
    send: [{to: in, data: {n: 1}}]
# the end
"""
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flow.yaml"
    path.write_bytes(text.encode())
    return path


def test_what_comes_out_is_written_and_all_else_stays(tmp_path: Path) -> None:
    found = with_expectations([load(written(tmp_path, BLOCK)).raise_findings()])
    assert found.tests == ["blocks", "in brackets", "empty"]
    assert found.text == RECORDED
    assert not any(outcome.differences for outcome in run_tests(load(written(tmp_path, RECORDED)).raise_findings()))


def test_recording_again_changes_nothing(tmp_path: Path) -> None:
    found = with_expectations([load(written(tmp_path, RECORDED)).raise_findings()])
    assert (found.tests, found.text) == ([], RECORDED)


def test_overwriting_writes_the_names_that_a_test_has(tmp_path: Path) -> None:
    found = with_expectations([load(written(tmp_path, RECORDED)).raise_findings()], overwrite=True)
    assert found.tests == ["blocks", "it stays", "in brackets", "empty"]
    assert found.text == RECORDED.replace("      big: [{n: {any: true}}]\n", "      big:\n        - {n: 5}\n")


def test_line_ends_and_a_missing_last_one_stay(tmp_path: Path) -> None:
    text = HEAD + "tests:\n- name: x\n  send: [{to: in, data: {n: 2}}]"
    path = written(tmp_path, text.replace("\n", "\r\n"))
    found = with_expectations([load(path).raise_findings()])
    assert found.text == (text + "\n  expect:\n    out:\n      - {n: 2}\n    deadletters: []").replace("\n", "\r\n")


@pytest.mark.parametrize(
    "payload",
    ['{"n": 9, "a": "on", "b": "12:30", "c": "", "d": "x: y", "e": "}", "f": null, "g": [1.5e-9, "\\u0007é"]}'],
)
def test_values_that_yaml_would_guess_come_back_as_they_were(tmp_path: Path, payload: str) -> None:
    for test in (
        f"[{{name: x, send: [{{to: in, raw: '{payload}'}}]}}]",
        f"\n- name: x\n  send: [{{to: in, raw: '{payload}'}}]",
    ):
        found = with_expectations([load(written(tmp_path, f"{HEAD}tests: {test}\n")).raise_findings()])
        (outcome,) = run_tests(load(written(tmp_path, found.text)).raise_findings())
        assert outcome.differences == []
        assert "12:30" in found.text.rpartition("expect")[2]


@pytest.mark.parametrize("style", ["|", ">", "|+", "|-"])
def test_a_text_in_lines_at_the_end_keeps_them(tmp_path: Path, style: str) -> None:
    """The parser's mark of such a text lies behind the empty lines that follow it."""
    text = f'{HEAD}tests:\n- name: x\n  send:\n  - to: in\n    raw: {style}\n      {{"n": 2}}\n\n\n# the end\n'
    found = with_expectations([load(written(tmp_path, text)).raise_findings()])
    assert found.text == text.replace("2}\n\n", "2}\n  expect:\n    out:\n      - {n: 2}\n    deadletters: []\n\n", 1)


INSTANCES = """\
flow: oven_${oven}
for_each: {oven: [1, 2]}
sources: {in: {mqtt: {topics: [t]}}}
operators: {named: {from: in, set: {oven: WHICH}}}
sinks: {out: {from: named, log: x}}
tests:
  - name: x
    send: [{to: in, data: {n: 2}}]
"""


def test_all_instances_of_a_flow_give_what_is_recorded(tmp_path: Path) -> None:
    same = written(tmp_path, INSTANCES.replace("WHICH", "7"))
    assert "- {n: 2, oven: 7}" in with_expectations(load_all(same)).text
    different = written(tmp_path, INSTANCES.replace("WHICH", '"${oven}"'))
    with pytest.raises(UsageFault, match="'x': the same of every instance; oven_1 and oven_2 differ"):
        with_expectations(load_all(different))


ASKING = """\
flow: f
sources: {in: {mqtt: {topics: [t]}}}
operators: {label: {from: in, call: {url: "http://127.0.0.1:1/", as: label}}}
sinks: {out: {from: label, log: x}}
tests:
  - name: asked
    send: [{to: in, data: {n: 1}}, {to: in, data: {n: 2}}]
    answers: {label: [{body: big}]}
"""


def test_answers_are_needed_for_all_that_is_asked(tmp_path: Path) -> None:
    with pytest.raises(
        UsageFault, match=r"'asked': `answers:` for each event that 'label' \(\d+\) asks about; got none"
    ):
        with_expectations([load(written(tmp_path, ASKING)).raise_findings()])
    answered = ASKING.replace("[{body: big}]", "[{body: big}, {body: small}]")
    found = with_expectations([load(written(tmp_path, answered)).raise_findings()])
    assert "- {n: 2, label: small}" in found.text


def test_real_traffic_of_a_flow_that_asks_is_recorded_without_what_comes_out(tmp_path: Path) -> None:
    """The answers are not in the inbox; once somebody has written them, `millstream test --record` does the rest."""
    flow = load(written(tmp_path, ASKING[: ASKING.index("tests:")])).raise_findings()
    found = recorded(flow, [block_of([Sent(START, "in", b'{"n": 1}', "t")], 1, START)])
    assert "expect:" not in found.text
    assert found.notes[0].startswith("answers from outside are not recorded: write `answers:` for 'label' (")
    answered = ASKING[: ASKING.index("tests:")] + found.text + "    answers: {label: [{body: big}]}\n"
    whole = with_expectations([load(written(tmp_path, answered)).raise_findings()])
    assert "- {n: 1, label: big}" in whole.text
