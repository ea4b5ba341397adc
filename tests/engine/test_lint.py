"""Lint: every mistake of the tables in tests/cases/lint is told with its exact text, all of a file at once, in bounded time."""

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import FlowInvalid
from engine.finding_codes import finding_codes
from engine.load import find_flows, load, load_text
from engine.substitution import Surroundings
from tests.process import ROOT

CASES = Path(__file__).parent.parent / "cases/lint"
FLOWS = find_flows([ROOT / "flows/car_inspection"])
BOUND = 30.0


def cases() -> Iterator[tuple[str, str, list[str]]]:
    """Yield (name, flow, findings) of each case: `=====` and its name, the flow, `-----`, and what lint says."""
    for file in sorted(CASES.glob("*.cases")):
        for case in re.split(r"^===== ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, _, rest = case.partition("\n")
            text, _, expected = rest.partition("-----\n")
            yield f"{file.stem}: {name}", text, expected.splitlines()


TABLE = list(cases())


def findings(text: str, around: Surroundings | None = None) -> list[str]:
    return [str(finding) for finding in load_text(text, Path("flow.yaml"), around).document.findings]


def test_the_table_is_there() -> None:
    """A mistake is a code with its text, whatever the names, places and values in it."""
    texts = [line for _, _, expected in TABLE for line in expected]
    kinds = {re.sub(r"'[^']*'|[\d.]+", "_", line.partition(": ")[2]) for line in texts}
    assert len(TABLE) >= 160
    assert len(kinds) >= 300
    assert len({name for name, _, _ in TABLE}) == len(TABLE)
    assert [name for name, _, expected in TABLE if not expected] == []


@pytest.mark.parametrize(("name", "text", "expected"), TABLE, ids=[name for name, _, _ in TABLE])
def test_a_mistake_is_told_with_its_place(name: str, text: str, expected: list[str]) -> None:
    assert findings(text) == expected


def test_findings_stand_in_file_order() -> None:
    for _, text, _ in TABLE:
        found = load_text(text).document.findings
        assert found == sorted(found, key=lambda finding: (finding.path != "flow.yaml", finding.line, finding.column))


def test_every_code_has_a_case() -> None:
    """A code that no case shows is a finding that nobody has read."""
    shown = {re.findall(r"\[([a-z-]+)\]$", line)[0] for _, _, expected in TABLE for line in expected}
    elsewhere = {"component", "depth", "encoding", "file", "file-size", "setting-type", "slow"}
    at_a_place = {code for code, entry in finding_codes().items() if entry.connects}
    assert codes_in_sources() - shown - elsewhere - at_a_place == set()


def codes_in_sources() -> set[str]:
    """Return every code that stands where a finding or problem is made, and those of table, query and channel."""
    files = [file for folder in ("engine", "operators", "sources", "sinks", "web", "cli") for file in folder_of(folder)]
    found = {code for file in files for code in _codes(ast.parse(file.read_text()))}
    return found | {"channel", "query", "table", "duration", "rate", "size", "unknown-option", "missing-option", "slow"}


def folder_of(name: str) -> list[Path]:
    return list((ROOT / name).glob("*.py"))


def _codes(tree: ast.Module) -> Iterator[str]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            given = [word.value for word in call.keywords if word.arg == "code" and name == "Finding"]
            given += call.args[:1] if name in ("find", "_find", "_lost", "Problem") and len(call.args) > 1 else []
            constants = (str(one.value) for one in given if isinstance(one, ast.Constant))
            yield from (code for code in constants if re.fullmatch("[a-z-]+", code))


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_the_packs_lint_clean(path: Path) -> None:
    assert load(path).document.findings == []


def test_what_is_wrong_before_the_text_can_be_read(tmp_path: Path) -> None:
    missing, latin, wide, large = (
        tmp_path / name for name in ("missing.yaml", "latin.yaml", "wide.yaml", "large.yaml")
    )
    latin.write_bytes(b"flow: f\nabout: caf\xe9\n")
    wide.write_bytes("flow: f\n".encode("utf-16"))
    large.write_bytes(b"flow: f # " + b"x" * (1 << 20))
    found = [
        str(load(path).document.findings[0]).removeprefix(f"{tmp_path}/") for path in (missing, latin, wide, large)
    ]
    assert found == [
        "missing.yaml:1:1: a readable file; No such file or directory [file]",
        "latin.yaml:2:1: UTF-8; got byte 0xe9 [encoding]",
        "wide.yaml:1:1: UTF-8; got byte 0xff [encoding]",
        "large.yaml:1:1: a flow file of at most 1048576 bytes; got 1048586 [file-size]",
    ]


def test_control_characters_are_told_with_their_place() -> None:
    assert findings("flow: f\nabout: a\x01b\n") == ["flow.yaml:2:9: YAML; control characters are not allowed [yaml]"]


SETTINGS = """\
flow: f
settings:
  most: {env: MOST, default: 5}
  share: {env: SHARE, default: 0.5}
  open: {env: OPEN, default: true}
  names: {env: NAMES, default: [a]}
  key: {env: KEY, secret: true}
sources: {a: {mqtt: {topics: ["${names}/x"], qos: 1}}}
sinks: {z: {from: a, log: "most ${most}, ${key}"}}
"""


def test_settings_from_outside_that_do_not_fit() -> None:
    environment = {"MOST": "many", "SHARE": "nan", "OPEN": "maybe", "NAMES": "{}", "KEY": "hunter2"}
    found = findings(SETTINGS, Surroundings(environment=environment, overrides={"moist": "1"}))
    assert found == [
        "flow.yaml:2:1: --set moist: a setting of this flow (did you mean 'most'?) [unknown-setting]",
        "flow.yaml:3:3: most: a whole number, as the default is; got 'many' from outside [setting-type]",
        "flow.yaml:4:3: share: a number, as the default is; got 'nan' from outside [setting-type]",
        "flow.yaml:5:3: open: true or false, as the default is; got 'maybe' from outside [setting-type]",
        "flow.yaml:6:3: names: a JSON list, as the default is; got '{}' from outside [setting-type]",
        "flow.yaml:9:42: a secret alone in its option; got ${key} in a longer text [unknown-setting]",
    ]


def test_no_finding_shows_a_secret() -> None:
    text = SETTINGS.replace('log: "most ${most}, ${key}"', "log: {message: '${key}', level: '${key}'}")
    found = findings(text, Surroundings(environment={"KEY": "hunter2"}))
    assert found == [
        "flow.yaml:9:28: node 'z': message: text; got a secret [option-value]",
        "flow.yaml:9:47: node 'z': level: one of debug, info, warning, error; got a secret [option-value]",
    ]


N = 10_000
NODE = "  n{0}: {{from: {2}{1}, where: a > {0}}}\n"
HEAD = "flow: f\nsources: {n0: {mqtt: {topics: [t]}}}\noperators:\n"
TAIL = f"sinks: {{z: {{from: n{N - 1}, log: x}}}}\n"
HOSTILE = {
    "a billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "lists in lists": "flow: " + "[" * 1_000_000,
    "mappings in mappings": "flow: " + "{a: " * 250_000,
    "entries in entries": "flow: f\nx:\n" + "- " * 500_000 + "a",
    "indented deep": "".join(" " * i + "a:\n" for i in range(1400)),
    "keys of keys": "? " * 500_000,
    "ten thousand nodes in a row": HEAD + "".join(NODE.format(i, i - 1, "n") for i in range(1, N)) + TAIL,
    "ten thousand wrong wires": HEAD + "".join(NODE.format(i, i - 1, "m") for i in range(1, N)) + TAIL,
    "a circle of ten thousand": HEAD + "".join(NODE.format(i, i - 1 or N - 1, "n") for i in range(1, N)) + TAIL,
    "ten thousand nodes that each set a field": HEAD.replace("n0:", "m:")
    + "  n0: {from: m, validate: {a: number}}\n"
    + "".join(f"  n{i}: {{from: n{i - 1}, set: {{f{i}: b + f{i - 1}}}}}\n" for i in range(1, N))
    + TAIL,
    "a thousand wrong names in a thousand": HEAD.replace("n0:", "m:")
    + f"  n0: {{from: m, validate: {{{', '.join(f'field_{i}: number' for i in range(1000))}}}}}\n"
    + "".join(f"  n{i}: {{from: n{i - 1}, where: feild_{i} > 1}}\n" for i in range(1, N))
    + TAIL,
    "ten thousand unknown sections": "flow: f\n" + "".join(f"k{i}: 1\n" for i in range(N)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_read_in_bounded_time(name: str) -> None:
    begin = time.monotonic()
    found = load_text(HOSTILE[name]).document.findings
    assert time.monotonic() - begin < BOUND
    assert bool(found) == (name != "ten thousand nodes in a row")


def test_a_long_circle_is_told_short() -> None:
    _, circle = findings(HOSTILE["a circle of ten thousand"])
    assert circle == (
        "flow.yaml:4:8: node 'n1': from: no cycle; got n1 → n2 → n3 → n4 → n5 → n6 → n7 → n8 → … → n1 [cycle]"
    )


def test_the_command_line_tells_the_same_and_connects_to_nothing(tmp_path: Path) -> None:
    """Addresses that nobody listens at make no difference to lint."""
    _, text, expected = next(case for case in TABLE if "several mistakes" in case[0])
    (tmp_path / "flow.yaml").write_text(text)
    environment = {"MILLSTREAM_MQTT": "mqtt://127.0.0.1:1", "MILLSTREAM_DATABASE": "mysql+aiomysql://u:p@127.0.0.1:1/d"}
    command = [sys.executable, "-m", "millstream", "lint", str(tmp_path)]
    plain, as_json = (
        subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        for more in ((), ("--json",))
    )
    lines = plain.stderr.removeprefix("millstream: ").replace(f"{tmp_path}/", "").splitlines()
    assert (plain.returncode, lines) == (1, expected)
    assert [finding["line"] for finding in json.loads(as_json.stdout)] == [int(line.split(":")[1]) for line in expected]


def test_a_flow_with_findings_does_not_run() -> None:
    with pytest.raises(FlowInvalid, match="at least one source"):
        load_text("flow: f").raise_findings()
