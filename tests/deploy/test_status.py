"""`status` and `/metrics` of a flow that works, and of one whose worker does not."""

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.site import FLOW, Site
from tests.process import wait_until
from tests.services import Millstream


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("status")
    (folder / "line.yaml").write_text(FLOW)
    with Millstream(folder, folder / "line.yaml") as process:
        yield Site(process, folder)


def state(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.json("status")["line"]
    return found


def readings(site: Site, count: int) -> None:
    site.post("/readings", [{"device": f"d{n}", "n": n} for n in range(count)])


def step(found: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    """Return a step; empty before the worker has told of it."""
    return next((step for step in found["steps"] if (step["kind"], step["name"]) == (kind, name)), {})


def test_what_a_flow_takes_is_told_by_step(site: Site) -> None:
    before = site.counted()
    for _ in range(20):
        readings(site, 50)
    site.until_counted(before + 1000)
    wait_until(lambda: step(state(site), "keyed", "tallied").get("keys") == 1, "a snapshot is told of", within=20)
    found = state(site)
    assert found["cpu_seconds"] > 0.1
    assert found["rss"] > 10 << 20
    for kind, name in (
        ("start", ""),
        ("read", "inbox"),
        ("stretch", "sources"),
        ("keyed", "tallied"),
        ("sink", "stored"),
    ):
        assert step(found, kind, name)["seconds"] > 0, name
    assert step(found, "stretch", "sources")["nodes"] == ["posted", "waited", "checked", "judged"]
    assert step(found, "sink", "stored")["busy_seconds"] > 0
    parts = sum(step["seconds"] for step in found["steps"])
    assert parts == pytest.approx(found["cpu_seconds"], rel=0.2)
    assert {queue["kind"] for queue in found["queues"]} == {"inbox", "lane", "clients"}


def test_status_prints_it(site: Site) -> None:
    overview, one = site.call("status"), site.call("status", "line")
    assert (overview.returncode, one.returncode) == (0, 0)
    assert overview.stdout.split()[:5] == ["flow", "state", "version", "in/s", "out/s"]
    assert {"(gateway)", "line"} <= {line.split()[0] for line in overview.stdout.splitlines()}
    lines = [" ".join(line.split()) for line in one.stdout.splitlines()]
    for begin in ("keyed tallied", "sink stored", "read and decode posted waited", "inbox inbox 0 0%", "checked 1,000"):
        assert [line for line in lines if line.startswith(begin)], begin


def test_metrics_have_it(site: Site) -> None:
    with urllib.request.urlopen(site.process.url + "/metrics", timeout=20) as answer:  # noqa: S310 - our own server
        text = answer.read().decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(found['millstream_flow_memory_bytes{flow="line"}']) > 10 << 20
    assert float(found['millstream_node_cpu_seconds_total{flow="line",kind="keyed",node="tallied"}']) > 0
    assert float(found['millstream_queue_fill_ratio{flow="line",name="stored",queue="lane"}']) < 0.5
    assert float(found["process_resident_memory_bytes"]) > 10 << 20


def test_what_waits_for_a_worker_that_does_not_work_is_told(site: Site) -> None:
    """A worker that says nothing told of no backlog: the gateway counts what is in the inbox beyond what was done."""
    before, pid = site.counted(), site.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.time()
        readings(site, 40)
        wait_until(lambda: state(site)["backlog"] >= 40, "the backlog is told", within=12)
        assert 0 < state(site)["lag"] <= time.time() - began + 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    site.until_counted(before + 40)
    wait_until(lambda: (state(site)["backlog"], state(site)["lag"]) == (0, 0), "nothing waits", within=20)
