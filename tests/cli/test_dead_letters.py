"""`millstream deadletters`, with a running gateway: what it prints, and what it changes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from engine.dead_letters import DeadLetterStore
from engine.letter import Selection
from tests.millstream_process import Millstream
from tests.process import wait_until

FLOW = """
flow: plant
tables:
  reading: {id: serial, n: number, kind: text(5)}
sources:
  asked: {http: {post: /readings, allow: anyone}}
operators:
  checked: {from: asked, validate: {n: {type: number, max: 9}, kind: {type: text, default: a}}}
sinks:
  rows: {from: checked, where: kind != "bad" or 1 / 0 > 1, sql: {table: reading}}
queries:
  readings: {get: /readings, allow: anyone, table: reading}
"""
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("plant")
    (folder / "plant.yaml").write_text(FLOW)
    with Millstream(folder, folder / "plant.yaml") as running:
        yield running


@pytest.fixture
def store(plant: Millstream) -> Iterator[DeadLetterStore]:
    """The store with what `post` brings; whatever was there before is dropped."""
    store = DeadLetterStore(plant.data / "flows" / "plant" / "deadletters.db")
    store.mark(store.rows(Selection(states=("new",)), 10_000), "dropped", "a test")
    yield store
    store.close()


@pytest.fixture
def run(plant: Millstream, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MILLSTREAM_DATA", str(plant.data))
    monkeypatch.setenv("COLUMNS", "200")

    def millstream(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["deadletters", "plant", *arguments])
        assert result.exit_code == code, result.output
        return result

    return millstream


def found(run: Run, *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def post(plant: Millstream, store: DeadLetterStore, *readings: dict[str, Any]) -> list[str]:
    """Post what cannot be processed; return the numbers of the letters."""
    before = store.counts().get("new", 0)
    assert httpx2.post(f"{plant.url}/readings", json=readings).status_code == 202
    wait_until(lambda: store.counts().get("new", 0) == before + len(readings), "the dead letters are there")
    return [str(letter.number) for letter in reversed(store.rows(limit=len(readings)))]


def readings(plant: Millstream) -> list[dict[str, Any]]:
    return httpx2.get(f"{plant.url}/readings").json()  # type: ignore[no-any-return]


def test_grouped_by_cause(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    post(plant, store, {"n": 10}, {"n": 11}, {"n": 1, "kind": "bad"})
    head, first, second, states = run().stdout.splitlines()
    assert head.split() == ["letters", "node", "latest", "cause"]
    assert (first.split()[:2], second.split()[:2]) == (["2", "checked"], ["1", "rows"])
    assert "3 new" in states
    causes = found(run)["causes"]
    assert [(cause["node"], cause["count"]) for cause in causes] == [("checked", 2), ("rows", 1)]
    assert len(found(run, "--node", "rows", "--since", "1h")["causes"]) == 1
    assert found(run, "--until", "1h")["causes"] == []


def test_one_by_one(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    numbers = post(plant, store, {"n": 10}, {"n": 11})
    lines = run("list", "--state", "new").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["number", *reversed(numbers), "2"]
    assert lines[-1] == "2 of 2"
    assert [one["number"] for one in found(run, "list", "--limit", "1", "--before", numbers[1])["letters"]] == [
        int(numbers[0])
    ]


def test_a_letter_by_its_number_or_the_beginning_of_its_id(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    [number] = post(plant, store, {"n": 10, "kind": "é"})
    text = run("show", number).stdout
    assert f"number      {number}\n" in text
    assert 'data        {"n": 10, "kind": "é"}\n' in text
    assert "node        checked\n" in text
    [letter] = found(run, "show", number)
    assert found(run, "show", letter["id"], "--node", "checked") == [letter]
    assert "begins the ids of several events" in run("show", letter["id"][:20], code=2).stderr
    assert "there is none" in run("show", "ffffffffffff", code=2).stderr
    assert "there is none" in run("show", number, "--node", "rows", code=2).stderr


def test_fix_and_retry(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    numbers = post(plant, store, {"n": 10}, {"n": 11, "kind": "b"}, {"n": 12})
    before = len(readings(plant))
    assert run("fix", numbers[0], "--data", '{"n": 1}').stdout == "1 edited\n"
    assert (
        run("fix", *numbers[1:], "--set", "n=2", "--set", "kind=x y", "--retry").stdout
        == "2 edited\n2 in the flow again\n"
    )
    assert run("retry", "--node", "checked").stdout == "1 in the flow again\n"
    wait_until(lambda: len(readings(plant)) == before + 3, "the rows are there")
    rows = sorted((row["n"], row["kind"]) for row in readings(plant)[-3:])
    assert rows == [(1, "a"), (2, "x y"), (2, "x y")]
    assert run("retry", numbers[0]).stdout == "0 in the flow again\n1 passed over: in the flow again already\n"


def test_one_that_fails_again_is_there_again(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    [number] = post(plant, store, {"n": 10})
    assert found(run, "retry", number) == [{"done": "in the flow again", "changed": 1, "skipped": {}}]
    wait_until(lambda: found(run, "show", number)[0]["state"] == "new", "it is back")
    assert found(run, "show", number)[0]["attempt"] == 2
    assert "new" in run("list", "--node", "checked").stdout


def test_drop(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    post(plant, store, {"n": 10}, {"n": 11}, {"n": 1, "kind": "bad"})
    cause = found(run)["causes"][0]["cause"]
    assert run("drop", "--cause", cause).stdout == "2 dropped\n"
    assert run("drop", "--all").stdout == "1 dropped\n"
    assert found(run)["causes"] == []


def test_the_original_comes_back(plant: Millstream, store: DeadLetterStore, run: Run) -> None:
    [number] = post(plant, store, {"n": 10})
    run("fix", number, "--set", "n=1")
    assert found(run, "show", number)[0]["fixed"] == {"n": 1}
    run("fix", number, "--original")
    assert found(run, "show", number)[0]["fixed"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["retry"], "which letters: ids, node, cause, since, until or state; or all"),
        (["drop", "--state", "lost"], "state: one of new, retried, dropped; got 'lost'"),
        (["fix", "1"], "exactly one of --data, --set, --original"),
        (["fix", "1", "--data", "{"], "--data: JSON; Input data was truncated"),
        (["fix", "1", "--set", "n"], "--set: FIELD=VALUE; got 'n'"),
        (["list", "--since", "yesterday"], "--since: a duration like 1h, or a time like"),
        (["lost"], "No such command 'lost'"),
    ],
)
def test_what_makes_no_sense(run: Run, arguments: list[str], text: str) -> None:
    assert text in " ".join(run(*arguments, code=2).stderr.split())


def test_a_flow_that_is_not_deployed(plant: Millstream, run: Run) -> None:
    result = CliRunner().invoke(app, ["deadletters", "other"])
    assert (result.exit_code, result.stderr) == (2, "millstream: a flow that is deployed; 'other' is not\n")
