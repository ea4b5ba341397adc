"""The examples: they lint, pass their tests, run for real, and each is the begin of a flow of one's own."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.new import EXAMPLES, examples
from engine.component import RoutedSource
from engine.flow import Flow
from engine.flow_tests import Send
from engine.load import load_all
from engine.testing import run_tests
from tests.millstream_process import Millstream
from tests.packs.car_inspection.device import Device
from tests.process import wait_until

FILES = examples()
GROUPS = 3
AWAY = {"metrics_to_influx", "webhook"}  # whom they write to is not there: what is for them waits
TABLE = (EXAMPLES / "README.md").read_text()


def flows_of(file: Path) -> list[Flow]:
    """Return the flow of a file, or its instances; raises where lint finds something."""
    return [flow.raise_findings() for flow in load_all(file)]


def test_there_are_twenty_and_the_readme_names_each() -> None:
    assert len(FILES) >= 20
    assert re.findall(r"^\| \[`(\w+)`\]", TABLE, flags=re.MULTILINE) == list(FILES)


@pytest.mark.parametrize("name", FILES)
def test_an_example_has_no_finding_and_no_warning(name: str) -> None:
    for flow in flows_of(FILES[name]):
        assert flow.document.findings == []
        assert flow.name.startswith(name)
        assert flow.about
    assert len(FILES[name].read_text().splitlines()) <= 80


@pytest.mark.parametrize("name", FILES)
def test_an_example_passes_its_tests(name: str) -> None:
    for flow in flows_of(FILES[name]):
        outcomes = run_tests(flow)
        assert len(outcomes) >= 2
        assert [outcome for outcome in outcomes if outcome.differences] == []


@pytest.mark.parametrize("name", FILES)
def test_a_flow_of_ones_own_begins_with_it(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    made = CliRunner().invoke(app, ["new", "press_line", "--from", name, "--into", str(folder)])
    assert made.exit_code == 0, made.output
    for flow in flows_of(folder / "press_line.yaml"):
        assert flow.name.startswith("press_line")
        assert [outcome for outcome in run_tests(flow) if outcome.differences] == []


class Plant(NamedTuple):
    """A running Millstream with some of the examples."""

    process: Millstream
    flows: list[Flow]


@pytest.fixture(scope="module", params=range(GROUPS))
def plant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """Run a part of the examples on the embedded defaults; whom they call on the outside is not there."""
    files = list(FILES.values())[request.param :: GROUPS]
    process = Millstream(tmp_path_factory.mktemp("examples"), *files)
    try:
        process.start(within=180)
        yield Plant(process, [flow for file in files for flow in flows_of(file)])
    finally:
        process.power_cut()


def sendings(flow: Flow) -> list[Send]:
    """Return what the flow's first test sends to sources that devices and people reach."""
    kinds = {node.name: node.kind for node in flow.section("sources")}
    sent = [step for step in flow.tests[0].send if isinstance(step, Send)]
    return [step for step in sent for _ in range(step.times) if kinds[step.to] in ("mqtt", "http")]


def send_all(flow: Flow, http: httpx.Client, device: Device) -> None:
    """Send as devices and people do: over the broker, and by HTTP, where the flow's answer is waited for."""
    sources = {node.name: node.component for node in flow.section("sources")}
    for step in sendings(flow):
        source = sources[step.to]
        body = step.raw if step.raw is not None else json.dumps(step.data or {})
        if isinstance(source, RoutedSource):
            method, path, _ = source.route()
            answer = http.request(method, path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (201, 202, 404), answer.text
        else:
            device.publish([(step.topic, body)])


def waiting(http: httpx.Client, flows: list[Flow]) -> list[str]:
    """Return what is still to come: a flow runs, has taken all that it was sent, and its ledger balances."""
    told = http.get("/api/flows").json()["flows"]
    return [text for flow in flows for text in _waiting(flow, told[flow.name])]


def _waiting(flow: Flow, state: dict[str, Any]) -> Iterator[str]:
    ledger = state["ledger"] or {"received": 0, "in_flight": 0, "remainder": 0}
    if state["state"] != "running" or state["restarts"]:
        yield f"{flow.name}: {state['state']}, {state['restarts']} restarts: {state['last_error']}"
    under_way = flow.name not in AWAY and ledger["in_flight"]
    if ledger["received"] < len(sendings(flow)) or under_way or ledger["remainder"]:
        yield f"{flow.name}: {len(sendings(flow))} sent; {ledger}"


def test_examples_run_and_take_what_their_tests_send(plant: Plant) -> None:
    process = plant.process
    with contextlib.closing(httpx.Client(base_url=process.url, timeout=30)) as http:
        token = http.post("/auth/login", json={"username": "admin", "password": process.password}).json()
        http.headers["Authorization"] = f"Bearer {token['access_token']}"
        with Device(process.broker_port) as device:
            for flow in plant.flows:
                send_all(flow, http, device)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not waiting(http, plant.flows), "all is taken")
        assert waiting(http, plant.flows) == []
    assert "Traceback" not in process.output()
