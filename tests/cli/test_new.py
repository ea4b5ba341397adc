"""`new`: the list of examples, a copy under a name of one's own, and what it refuses."""

from pathlib import Path

import pytest

from cli import new
from tests.cli.command import write
from tests.cli.conftest import Call

ONE = """\
flow: one
about: Counts what comes.
sources:
  came: {http: {post: /came, allow: anyone}}
sinks:
  out: {from: came, log: {message: "flow: one"}}
tests:
  - name: it comes
    send: [{to: came, data: {n: 1}}]
    expect: {out: [{n: 1}]}
"""
MANY = ONE.replace("flow: one\n", "flow: many_${line}\nfor_each: {csv: lines.csv}\n", 1)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put two examples, a file alone and a folder, where the examples are looked for."""
    examples = tmp_path / "examples"
    write(examples / "one.yaml", ONE)
    write(examples / "many" / "many.yaml", MANY.replace("/came", '"/came/${line}"'))
    write(examples / "many" / "lines.csv", "line,most\na,1\nb,2\n")
    write(examples / "many" / "README.md", "of the example only")
    write(examples / "many" / "parts" / "other.yaml", "params: {}\n")
    monkeypatch.setattr(new, "EXAMPLES", examples)
    return examples


def test_without_a_name_it_lists_what_there_is(call: Call) -> None:
    assert call("new").stdout == "many  Counts what comes.\none   Counts what comes.\n"


def test_a_copy_has_the_new_name_and_its_tests_pass(call: Call, tmp_path: Path) -> None:
    made = call("new", "press_line", "--from", "one", "--into", tmp_path / "own")
    file = tmp_path / "own" / "press_line.yaml"
    assert (made.exit_code, made.stdout.splitlines()[0]) == (0, str(file))
    assert file.read_text() == ONE.replace("flow: one\n", "flow: press_line\n", 1)
    assert call("test", file).stdout == "ok   press_line: it comes\n1 passed, 0 failed\n"


def test_a_folder_is_copied_with_what_it_needs(call: Call, tmp_path: Path) -> None:
    made = call("new", "press", "--from", "many", "--into", tmp_path / "own")
    assert made.exit_code == 0
    files = {str(file.relative_to(tmp_path / "own")) for file in (tmp_path / "own").rglob("*") if file.is_file()}
    assert files == {"press.yaml", "lines.csv", "parts/other.yaml"}
    tested = call("test", tmp_path / "own").stdout.splitlines()
    assert tested[:2] == ["ok   press_a: it comes", "ok   press_b: it comes"]


def test_without_into_the_folder_has_the_flows_name(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("new", "press_line", "--from", "one").exit_code == 0
    assert (tmp_path / "press_line" / "press_line.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Press", "--from", "one"), "new: a name of small letters, digits and _; got 'Press'"),
        (("../press", "--from", "one"), "new: a name of small letters, digits and _; got '../press'"),
        (("press",), "new: --from: one of many, one; got ''"),
        (("press", "--from", "mony"), "new: --from: one of many, one; got 'mony' (did you mean 'many'?)"),
    ],
)
def test_what_it_does_not_understand(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call("new", *arguments)
    assert (refused.exit_code, refused.stderr) == (2, f"millstream: {said}\n")
    assert not (tmp_path / "press").exists()


def test_a_folder_that_is_there_is_left_as_it_is(call: Call, tmp_path: Path) -> None:
    mine = write(tmp_path / "own" / "press_line.yaml", "flow: mine\n")
    refused = call("new", "press_line", "--from", "one", "--into", tmp_path / "own")
    assert refused.exit_code == 2
    assert refused.stderr == f"millstream: new: a folder that is not there yet; {mine.parent} is\n"
    assert mine.read_text() == "flow: mine\n"
