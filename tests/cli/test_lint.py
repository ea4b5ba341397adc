"""`lint`: what it prints, for people and as JSON, and how it ends."""

import json
import socket
from pathlib import Path

import pytest

from tests.cli.command import TINY, write
from tests.cli.conftest import Call
from tests.cli.test_flows import TESTED
from tests.process import LOCALHOST, ROOT, free_port


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


def test_lint_of_what_is_no_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "picture.yaml").write_bytes(bytes(range(256)))
    found = call("lint", tmp_path / "picture.yaml")
    assert found.exit_code == 1
    assert found.stderr.startswith(f"{tmp_path / 'picture.yaml'}:")


def test_lint_warns_of_what_is_slow_and_does_not_fail(call: Call, tested: Path) -> None:
    write(
        tested,
        TESTED.replace("n: int", "n: int, name: text").replace("n: n * 2", "n: n * 2, led: 'matches(name, \"led\")'"),
    )
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


def test_a_finding_as_json_says_its_tier_and_where_it_is_explained(call: Call, tested: Path) -> None:
    write(tested, TESTED.replace("from: checked,", "from: chekced,").replace("{message: refused}", "{mesage: refused}"))
    found = call("lint", tested, "--json")
    assert found.exit_code == 1
    wire, option = json.loads(found.stdout)
    assert (option["code"], option["hint"]) == ("unknown-option", "did you mean 'message'?")
    assert wire == {
        "tier": "wiring", "code": "unknown-node", "severity": "error", "message": "a node; got 'chekced'",
        "path": str(tested), "line": 6, "column": 13, "node": "doubled", "option": "from",
        "hint": "did you mean 'checked'?", "docs": "docs/components/lint.md#unknown-node",
    }  # fmt: skip


PAGE = """\
# Two flows

```yaml
flow: one
sources: {in: {http: {post: /in}}}
sinks: {out: {from: in, log: hello}}
tests: [{name: it comes, send: [{to: in, data: {a: 1}}], expect: {out: [{a: 1}]}}]
```

```yaml
flow: two
sources: {in: {http: {post: /in}}}
sinks: {out: {from: in, log: hello}}
```
"""


def test_flows_in_a_page_are_linted_and_tested(call: Call, tmp_path: Path) -> None:
    """Two flows of one page may have the same path: they are not run together."""
    page = write(tmp_path / "docs" / "page.md", PAGE)
    assert call("lint", page).stdout == "2 flows, no findings\n"
    assert "ok   one: it comes\n1 passed, 0 failed\n" in call("test", tmp_path / "docs").stdout
    write(
        page,
        PAGE.replace("{to: in", "{to: ni").replace("from: in, log: hello}}\n```\n", "from: in, lgo: hello}}\n```\n"),
    )
    found = call("lint", tmp_path)
    assert found.exit_code == 1
    assert [line.partition(": ")[0] for line in found.stderr.splitlines()] == [f"{page}:7:34", f"{page}:13:25"]


def test_a_page_without_flows(call: Call, tmp_path: Path) -> None:
    page = write(tmp_path / "page.md", "# Nothing here\n")
    assert call("lint", page).exit_code == 2
    assert call("run", write(tmp_path / "docs" / "page.md", PAGE).parent).exit_code == 2


def test_instances_that_want_one_path(call: Call, tmp_path: Path) -> None:
    text = TINY.replace("flow: tiny", "flow: tiny_${n}\nfor_each: {n: 1..2}")
    found = call("lint", write(tmp_path / "each.yaml", text))
    assert found.exit_code == 1
    assert "a path of its own; POST /in is that of tiny_1.in" in found.stderr
    assert call("lint", write(tmp_path / "each.yaml", text.replace("/in", '"/in/${n}"'))).exit_code == 0


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give ports of its own to the place that is looked at."""
    ports = {"MILLSTREAM_PORT": str(free_port()), "MILLSTREAM_BROKER_PORT": str(free_port())}
    for name, value in ports.items():
        monkeypatch.setenv(name, value)
    return ports


def test_the_place_is_looked_at_only_when_asked(call: Call, tested: Path, place: dict[str, str]) -> None:
    with socket.create_server((LOCALHOST, int(place["MILLSTREAM_PORT"]))):
        assert call("lint", tested).exit_code == 0
        found = call("lint", tested, "--connect")
        as_json = call("lint", tested, "--connect", "--json")
    assert (found.exit_code, found.stdout) == (1, "")
    assert "(MILLSTREAM_PORT); Address already in use [port-taken]" in found.stderr
    assert [(row["tier"], row["node"], row["line"]) for row in json.loads(as_json.stdout)] == [("environment", "in", 3)]
    assert call("lint", tested, "--connect").stdout == "1 flow, no findings\n"
    assert not (tested.parent.parent / "data").exists()


def test_what_is_wrong_with_a_flow_comes_before_the_place(call: Call, tested: Path, place: dict[str, str]) -> None:
    write(tested, TESTED.replace("from: checked,", "from: chekced,"))
    with socket.create_server((LOCALHOST, int(place["MILLSTREAM_PORT"]))):
        found = call("lint", tested, "--connect", "--json")
    assert [row["code"] for row in json.loads(found.stdout)] == ["unknown-node"]


def test_warnings_of_the_place_do_not_fail(call: Call, tmp_path: Path, place: dict[str, str]) -> None:
    text = TINY.replace("http: {post: /in, allow: anyone}", "file: {path: later.csv, format: csv}")
    found = call("lint", write(tmp_path / "flow.yaml", text), "--connect")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.endswith("is waited for [no-file]\n1 flow, no findings, 1 warning\n")


def test_our_readme_and_docs_lint_clean(call: Call) -> None:
    found = call("lint", ROOT / "README.md", ROOT / "docs")
    assert (found.exit_code, found.stderr) == (0, "")
