"""Alerts of a real flow, seen and seen to: over HTTP by who may, and in a real browser on the console's page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.millstream_process import Millstream
from tests.process import ROOT, wait_until
from tests.services import MariaDB, Node

FLOW = """
flow: nursery
sources: {readings: {http: {post: /readings, allow: anyone}}}
operators:
  hot: {from: readings, key: cradle, alert: {when: t > 38, severity: critical, message: '"<b>too hot</b>: " + text(t)'}}
  silent: {from: readings, key: cradle, alert: {absent: 1h, path: /silent, table: silence, allow: manager, handle: admin}}
"""
ALERTS = "/flows/nursery/alerts"


class Nursery:
    """A running flow with three alerts, and clients of each role."""

    def __init__(self, running: Millstream) -> None:
        self.running, self.url = running, running.url
        self._clients: dict[str, httpx2.Client] = {}
        self.admin = self.token("admin", running.password)

    def token(self, name: str, password: str) -> str:
        body = {"username": name, "password": password}
        return str(httpx2.post(f"{self.url}/auth/login", json=body, trust_env=False, timeout=20).json()["access_token"])

    def client(self, role: str) -> httpx2.Client:
        """Return the client of a role; its account is added as operations do."""
        if role not in self._clients:
            token = self.admin if role == "admin" else self._added(f"some_{role}", role)
            headers = {"Authorization": f"Bearer {token}"}
            self._clients[role] = httpx2.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20)
        return self._clients[role]

    def _added(self, name: str, role: str) -> str:
        password = f"password of {role}"
        command = [sys.executable, "-m", "millstream", "accounts", "add", name, "--role", role, "--password-stdin"]
        env = self.running.environment()
        done = subprocess.run(command, input=password, text=True, env=env, cwd=ROOT, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return self.token(name, password)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def read(self, *readings: dict[str, Any]) -> None:
        assert httpx2.post(f"{self.url}/readings", json=list(readings), trust_env=False, timeout=20).status_code == 202

    def alerts(self, client: httpx2.Client, query: str = "") -> list[dict[str, Any]]:
        answer = client.get(f"{ALERTS}{query}")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def nursery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    folder, env = tmp_path_factory.mktemp("nursery"), {}
    if request.param == "mariadb":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        env["MILLSTREAM_DATABASE"] = mariadb.database("nursery")
    flow = folder / "nursery.yaml"
    flow.write_text(FLOW)
    with Millstream(folder, flow, env=env) as running, closing(Nursery(running)) as nursery:
        yield nursery


def test_who_may_read_and_handle(nursery: Nursery) -> None:
    viewer, employee = nursery.client("viewer"), nursery.client("employee")
    nursery.read({"cradle": "1", "t": 39}, {"cradle": "2", "t": 39}, {"cradle": "3", "t": 36})
    wait_until(lambda: len(nursery.alerts(viewer)) == 2, "two alerts are there")
    first = nursery.alerts(viewer, "?key=1&state=firing&severity=critical&name=hot")[0]
    assert (first["message"], first["reading"], first["flow"]) == ("<b>too hot</b>: 39", {"t": 39}, "nursery")
    assert nursery.alerts(viewer, f"?alert={first['alert']}") == [first]
    assert {alert["key"] for alert in nursery.alerts(viewer)} == {"1", "2"}
    assert httpx2.get(f"{nursery.url}{ALERTS}", trust_env=False).status_code == 401
    body = {"alert": first["alert"]}
    assert viewer.post(f"{ALERTS}/acknowledge", json=body).status_code == 403
    assert employee.post(f"{ALERTS}/acknowledge", json=body).status_code == 202
    wait_until(lambda: nursery.alerts(viewer, "?state=acknowledged"), "it is acknowledged")
    assert nursery.alerts(viewer, "?state=acknowledged")[0]["acknowledged_by"] == "some_employee"
    assert (viewer.get("/silent").status_code, employee.post("/silent/clear", json={"key": "1"}).status_code) == (
        403,
        403,
    )
    assert employee.post(f"{ALERTS}/clear", json={"key": "1", "name": "hot"}).status_code == 202
    assert employee.post(f"{ALERTS}/clear", json={"key": "2"}).status_code == 202
    wait_until(lambda: len(nursery.alerts(viewer, "?state=cleared")) == 2, "both are cleared")


@pytest.mark.parametrize(
    ("do", "body", "status", "message"),
    [
        ("acknowledge", {}, 422, "alert: the alert's id, or a key"),
        ("acknowledge", {"alert": "1"}, 422, "alert: the id of an alert; got '1'"),
        ("acknowledge", {"alert": "0123456789abcdef-~????"}, 422, "the id of an alert"),
        ("acknowledge", {"alert": "0123456789abcdef-1", "key": "1"}, 422, "either alerts by id, or a key and a name"),
        ("acknowledge", {"key": "1", "for": "1h"}, 422, "for: nothing, to acknowledge"),
        ("mute", {}, 422, "for: how long, such as 1h"),
        ("mute", {"for": "soon"}, 422, "for: a duration like 30s, 5m, 2h or 7d"),
        ("clear", {"id": "1"}, 422, "id: "),
        ("drop", {"key": "1"}, 404, "expected one of acknowledge, clear, mute; got 'drop'"),
    ],
)
def test_what_is_no_act_is_refused(nursery: Nursery, do: str, body: dict[str, str], status: int, message: str) -> None:
    answer = nursery.client("admin").post(f"{ALERTS}/{do}", json=body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]


def test_the_page_is_for_those_who_may(nursery: Nursery) -> None:
    manager = nursery.client("manager")
    assert httpx2.get(f"{nursery.url}/console/alerts", trust_env=False).headers["location"].startswith("/console/login")
    assert httpx2.get(f"{nursery.url}/console/alerts/list", trust_env=False).status_code == 401
    assert manager.get("/console/alerts").status_code == 200
    assert "alerts_by_hand" in manager.get("/console/flows/nursery").text
    paths = manager.get("/openapi.json").json()["paths"]
    assert paths[ALERTS]["get"]["x-role"] == "viewer"
    assert paths[f"{ALERTS}/{{do}}"]["post"]["x-role"] == "employee"


def test_in_a_browser(nursery: Nursery, node: Node, tmp_path: Path) -> None:
    nursery.read(*({"cradle": key, "t": 39.5} for key in "789"))
    client = nursery.client("admin")
    wait_until(lambda: len(nursery.alerts(client, "?state=firing")) == 3, "three alerts fire")
    seen = json.loads(node.run("alerts.mjs", nursery.url, nursery.admin, str(tmp_path / "alerts.png")))
    assert seen.pop("errors") == []
    assert seen.pop("cleared")[0] == "9"
    assert seen == {
        "keys": ["7", "8", "9"],
        "text": "<b>too hot</b>: 39.5",
        "by": True,
        "muted": 1,
        "on a phone": True,
        "asks first": "Really clear?",
        "buttons of what is over": 0,
    }
