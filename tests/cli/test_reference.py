"""`list`, `explain`, `schema` and the help of each command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.registry import SECTIONS, components
from tests.cli.conftest import Call
from tests.process import ROOT

COMMANDS = ("run", "lint", "test", "list", "explain", "schema", "graph", "accounts")


def test_every_kind_is_listed_with_a_line(call: Call) -> None:
    listed = call("list").stdout.splitlines()
    kinds = json.loads(call("list", "--json").stdout)
    assert kinds.keys() == set(SECTIONS)
    for section in SECTIONS:
        assert kinds[section].keys() == components(section).keys()
        for name, text in kinds[section].items():
            assert text
            assert f"  {name:12} {text}" in listed


def test_a_kind_is_explained(call: Call) -> None:
    shown = call("explain", "validate").stdout
    assert shown.startswith("# validate (operator)")
    assert "## Options" in shown


def test_a_function_is_explained(call: Call) -> None:
    assert "round(number, [digits]) (function)" in call("explain", "round").stdout
    both = call("explain", "split").stdout
    assert "# split (operator)" in both
    assert "# split(text, [separator]) (function)" in both
    assert call("explain", "functions.split").stdout.startswith("# split(text, [separator]) (function)")
    assert "| `crc32(value)` |" in call("explain", "functions").stdout


def test_a_name_of_several_sections_is_explained_for_each_or_for_one(call: Call) -> None:
    both = call("explain", "mqtt").stdout
    assert "# mqtt (source)" in both
    assert "# mqtt (sink)" in both
    assert "# mqtt (source)" not in call("explain", "sinks.mqtt").stdout


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("validat", "explain: a kind (see `millstream list`); got 'validat' (did you mean 'validate'?)"),
        ("operators.mqtt", "explain: a kind (see `millstream list`); got 'operators.mqtt' (did you mean 'mqtt'?)"),
        ("zzzzz", "explain: a kind (see `millstream list`); got 'zzzzz'"),
    ],
)
def test_an_unknown_kind(call: Call, kind: str, expected: str) -> None:
    refused = call("explain", kind)
    assert (refused.exit_code, refused.stderr) == (2, f"millstream: {expected}\n")


def test_explain_without_a_kind(call: Call) -> None:
    assert call("explain").exit_code == 2


def test_pages_of_all_kinds(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    old = folder / "operators/pictures/gone-1.svg"
    old.parent.mkdir(parents=True)
    old.touch()
    call("explain", "--into", folder)
    written = {str(path.relative_to(folder)) for path in folder.glob("*/*.md")}
    assert written == {f"{section}/{name}.md" for section in SECTIONS for name in components(section)}
    assert {path.name for path in folder.glob("*.md")} == {"README.md", "functions.md", "lint.md"}
    assert not old.exists()
    assert "](pictures/window-1.svg)" in (folder / "operators/window.md").read_text()
    assert "pictures/" not in call("explain", "window").stdout


def test_the_schema_is_json(call: Call) -> None:
    schema = json.loads(call("schema").stdout)
    assert set(SECTIONS) <= schema["properties"].keys()


def test_help_lists_every_command_with_a_line(call: Call) -> None:
    shown = call("--help").stdout
    assert "Usage: millstream " in shown
    for command in COMMANDS:
        assert f" {command} " in shown
    assert "│ worker " not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(call: Call, command: str) -> None:
    helped = call(command, "--help")
    assert helped.exit_code == 0
    assert f"Usage: millstream {command}" in helped.stdout


@pytest.mark.parametrize("words", ["bogus", "run", "lint", "accounts bogus", "lint --bogus ."])
def test_wrong_usage_ends_with_2(call: Call, words: str) -> None:
    assert call(*words.split()).exit_code == 2


def test_help_needs_neither_the_database_library_nor_the_components() -> None:
    code = (
        "import sys, runpy; sys.argv = ['millstream', '--help']\n"
        "try: runpy.run_module('millstream', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*sorted({'sqlalchemy', 'bytewax', 'cv2', 'uvicorn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "", done.stdout + done.stderr


@pytest.mark.parametrize(("before", "about"), [("", "Topic filters; "), ("field_docs.leave_out()", "None")])
def test_who_runs_flows_reads_no_docstrings_of_fields(before: str, about: str) -> None:
    code = (
        f"from engine import field_docs\n{before}\nfrom engine.registry import kinds\n"
        "print(kinds('sources')[0]['mqtt'].model_fields['topics'].description)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(about), done.stdout + done.stderr


def test_reading_a_flow_without_pictures_needs_no_opencv() -> None:
    code = (
        "import sys; from engine.load import load_text\n"
        "load_text('flow: line\\nsources: {in: {http: {post: /in}}}\\nsinks: {out: {from: in, log: {}}}').raise_findings()\n"
        "print(*sorted({'cv2', 'numpy', 'web', 'amqtt', 'alembic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "\n", done.stdout + done.stderr


def test_a_code_of_lint_is_explained(call: Call) -> None:
    told = call("explain", "unknown-field").stdout
    assert told.startswith("### unknown-field\n")
    assert "celcius > 240" in told
    assert "### file\n" in call("explain", "file").stdout
    assert call("explain", "lint.file").stdout.startswith("### file\n")
    assert call("explain", "lint").stdout.startswith("# Findings of lint\n")
    assert "(did you mean 'unknown-field'?)" in call("explain", "unknown-feld").stderr
