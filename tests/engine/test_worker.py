"""What a worker says of its nodes, and what it does when something in it fails; the rest is seen in test_gateway."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.appended import appended_tables
from engine.deployed import record_of, write_record
from engine.flow import Flow
from engine.load import load, load_text
from engine.outlet import Outlet
from engine.settings import kept_secret, lock, read_environment
from engine.worker import node_counts
from tests.engine.inbox_case import writing
from tests.process import ROOT

FLOW = """\
flow: line
tables:
  row:   {id: serial, n: int}
  state: {id: serial, n: int, unique: [[n]]}
sources:
  in: {http: {post: /in, allow: anyone}}
operators:
  checked: {from: in, validate: {n: int}}
sinks:
  rows:   {from: checked, sql: {table: row}}
  states: {from: checked, sql: {table: state, mode: upsert, by: [n]}}
  bad:    {from: checked.rejected, log: {message: refused}}
"""


@pytest.fixture
def flow() -> Flow:
    return load_text(FLOW).raise_findings()


def test_only_tables_that_are_appended_to_carry_the_event(flow: Flow) -> None:
    assert appended_tables(flow) == {"row"}


def test_counts_of_each_node(flow: Flow) -> None:
    async def nothing(outside: Any) -> None:
        raise AssertionError("not opened")

    outlet = Outlet(dict.fromkeys(("rows", "states", "bad", "!"), nothing), lambda letter: None)
    outlet.lanes["rows"].state.written = 5
    outlet.lanes["rows"].state.away = "gone"
    outlet.lanes["rows"].state.retries = 2
    out = {"in": 9, "checked": 6, "checked.rejected": 3}
    assert node_counts(flow, out, outlet, {"checked": 1}) == {
        "in": {"in": 9, "out": 9, "dead": 0},
        "checked": {"in": 9, "out": 6, "dead": 1},
        "rows": {"in": 6, "out": 5, "dead": 0, "retries": 2, "away": 1, "spilled": 0},
        "states": {"in": 6, "out": 0, "dead": 0, "retries": 0, "away": 0, "spilled": 0},
        "bad": {"in": 3, "out": 0, "dead": 0, "retries": 0, "away": 0, "spilled": 0},
    }


def work(data: Path, flow: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a worker to its end, as the gateway starts it but without one."""
    kept_secret(data / "link.token")
    ours = {"MILLSTREAM_DATA": str(data), **(env or {})}
    with subprocess.Popen(
        [sys.executable, "-m", "millstream", "worker", flow],
        cwd=ROOT, env=os.environ | ours, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.read()  # its stdin stays open: a worker ends with its gateway
        return subprocess.CompletedProcess([], process.wait(30), stderr=said)


@pytest.fixture
async def deployed(tmp_path: Path) -> Path:
    """Return a data folder in which the flow is deployed and has an inbox."""
    data, file = tmp_path / "data", tmp_path / "line.yaml"
    settings = read_environment({"MILLSTREAM_DATA": str(data)})
    file.write_text(FLOW)
    write_record(settings, "line", record_of(load(file).raise_findings(), {}, {}))
    async with writing(settings.flow_folder("line") / "inbox.db", "line"):
        return data


def test_a_flow_that_is_not_deployed(tmp_path: Path) -> None:
    done = work(tmp_path, "line")
    assert done.returncode == 2
    assert done.stderr.startswith("millstream: a flow that is deployed; 'line' is not")


def test_a_second_worker_of_a_flow_does_not_start(deployed: Path) -> None:
    held = lock(deployed / "flows" / "line" / "worker.lock", "")
    try:
        done = work(deployed, "line")
    finally:
        os.close(held)
    assert done.returncode == 3
    assert done.stderr == f"millstream: {deployed}/flows/line: another worker of this flow is still running\n"


def test_a_database_address_that_is_none(deployed: Path) -> None:
    done = work(deployed, "line", {"MILLSTREAM_DATABASE": "oracle://host/name"})
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_a_broken_inbox_ends_it_with_its_name(deployed: Path) -> None:
    inbox = deployed / "flows" / "line" / "inbox.db"
    inbox.write_bytes(b"no inbox" * 1000)
    done = work(deployed, "line")
    assert done.returncode == 3
    assert str(inbox) in done.stderr
    assert "Traceback" not in done.stderr
