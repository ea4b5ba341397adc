"""The console over real HTTP and WebSocket: sessions, pages, live numbers; and in a real browser."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient
from websockets.asyncio.client import connect
from websockets.typing import Origin

from engine.channels import ROLES
from tests.services import Node
from tests.web.channel_server import closed, frame, until
from tests.web.console_server import ConsoleSite, SampleBoard, serve_console
from web import accounts, console_text
from web.status import graph_of, node_lines

PAGES = ("/console", "/console/flows/line", "/console/flows/line/nodes/verdict")


@pytest.fixture
async def site(tmp_path: Path, quick_passwords: None) -> AsyncIterator[ConsoleSite]:
    async with serve_console(tmp_path) as running:
        running.board.add_letters("line", "verdict", 3)
        yield running


@pytest.fixture
async def http(site: ConsoleSite) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=site.url) as client:
        yield client


async def csrf(http: AsyncClient) -> str:
    found = re.search(r'name="csrf" value="([\w-]+)"', (await http.get("/console/login")).text)
    assert found
    return found[1]


async def log_in(http: AsyncClient, name: str = "ada", target: str = "", **fields: str) -> Any:
    form = {"username": name, "password": f"{name}'s password", "csrf": await csrf(http)} | fields
    return await http.post(f"/console/login?next={target}", data=form)


async def test_a_session_begins_and_ends(http: AsyncClient) -> None:
    for path in PAGES[:2]:
        answer = await http.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/console/login?next={path}")
    assert (await http.get(PAGES[2])).status_code == 401
    answer = await log_in(http, target="/console/flows/line")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/flows/line")
    cookie = answer.headers.get_list("set-cookie")[0].lower()
    assert "millstream_session=" in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    for path in PAGES:
        assert (await http.get(path)).status_code == 200
    assert (await http.post("/console/logout", headers={"Origin": "http://evil.example"})).status_code == 403
    assert (await http.post("/console/logout")).status_code == 303
    assert (await http.get("/console")).status_code == 303


async def test_the_form_is_ours_and_fresh(http: AsyncClient) -> None:
    assert (await log_in(http, csrf="")).status_code == 403
    assert (await log_in(http, csrf="ünlike")).status_code == 403
    form = {"username": "ada", "password": "ada's password", "csrf": await csrf(http)}
    for origin in ("http://evil.example", "null"):
        assert (await http.post("/console/login", data=form, headers={"Origin": origin})).status_code == 403
    http.cookies.clear()
    assert (await http.post("/console/login", data=form)).status_code == 403
    assert "millstream_session" not in http.cookies


async def test_wrong_passwords_are_refused_and_lock_out(http: AsyncClient) -> None:
    answer = await log_in(http, name='"><b>', password="x")
    assert answer.status_code == 401
    assert "<b>" not in answer.text
    statuses = [(await log_in(http, password="wrong")).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/consoleevil", "/other", "/console%0d%0aX:"]
)
async def test_a_login_leads_nowhere_else(http: AsyncClient, target: str) -> None:
    assert (await log_in(http, target=target)).headers["location"] == "/console"


async def test_what_is_not_there_is_404(http: AsyncClient) -> None:
    await log_in(http)
    for path in ("/console/flows/nothing", "/console/flows/line/nodes/nothing", "/console/flows/%2e%2e"):
        assert (await http.get(path)).status_code == 404


async def test_pages_escape_what_they_show(http: AsyncClient) -> None:
    await log_in(http)
    for path in PAGES:
        text = (await http.get(path)).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<b>" not in text.replace("<b>verdict", "").replace("<b>line", "") or path == PAGES[2]
    overview = (await http.get("/console")).text
    assert "&lt;script&gt;alert(1)" in overview


async def test_viewers_see_no_payloads(http: AsyncClient) -> None:
    await log_in(http, "vera")
    text = (await http.get(PAGES[2])).text
    assert "one_of OK, DEFECT" in text
    assert "onerror" not in text
    await log_in(http, "ada")
    assert "onerror" in (await http.get(PAGES[2])).text


async def test_the_front_page_leads_to_a_pack(site: ConsoleSite, http: AsyncClient) -> None:
    assert (await http.get("/")).headers["location"] == "/console"
    site.board.definitions["office"].pages = {"/dashboard": "pages/dashboard.html"}
    assert (await http.get("/")).headers["location"] == "/dashboard"


async def test_numbers_come_live(site: ConsoleSite) -> None:
    cookie = {"Cookie": f"millstream_session={await site.guard.token_for('vera')}"}
    address = site.url.replace("http", "ws") + "/console/live"
    async with connect(address, additional_headers=cookie) as live:
        first = await frame(live)
        lines = {line["name"]: line for line in first["flows"]}
        assert first["gateway"] == {"cpu": 0.034, "seconds": 512.0, "rss": 142_000_000}
        assert (lines["line"]["cpu"], lines["line"]["lag"]) == (0.42, 0.3)
        assert lines["line"]["rate_in"] == 360
        assert lines["line"]["dead"] == 3
        assert lines["office"]["state"] == "parked"
        site.board.states["office"].state = "running"
        await live.send("noise")
        assert {line["state"] for line in (await frame(live))["flows"]} == {"running"}
    async with connect(address + "?flow=line", additional_headers=cookie) as live:
        state = await frame(live)
        assert state["nodes"]["verdict"] == {
            "rate": 120.0, "rate_in": 120.0, "rate_dead": 0.0, "own": False, "cpu": 0.04, "micros": 1.8, "fill": 0.0,
            "waiting": 0, "keys": 0, "size": 0, "total": 48_090, "dead": 3, "filtered": 117, "state": "", "detail": "",
        }  # fmt: skip
        assert [state["nodes"]["on_line"][name] for name in ("own", "cpu", "micros", "keys")] == [True, 0.11, 9.1, 1]
        assert [state["nodes"]["results"][name] for name in ("own", "fill", "waiting")] == [True, 0.85, 17_000]
        assert (state["flow"]["fill"], state["flow"]["fullest"]) == (0.85, "sink results")
        assert [step["kind"] for step in state["steps"]] == ["read", "stretch", "keyed", "sink", "rest"]
        assert [queue["kind"] for queue in state["queues"]] == ["inbox", "lane", "lane", "clients"]
        assert state["nodes"]["gate"]["state"] == "connected"
    async with connect(address) as live:
        assert await closed(live) == 4401
    async with connect(address, additional_headers=cookie, origin=Origin("http://evil.example")) as live:
        assert await closed(live) == 4403


def test_steps_are_one_node(tmp_path: Path) -> None:
    board = SampleBoard(tmp_path)
    graph = graph_of(board.definitions["line"])
    assert graph.nodes["rows"].kind == "set · validate"
    assert graph.nodes["rows"].members == ("rows/1", "rows")
    assert ("on_line", "rows", "") in {(edge.source, edge.target, edge.port) for edge in graph.edges}
    assert ("verdict", "refused", "rejected") in {(edge.source, edge.target, edge.port) for edge in graph.edges}
    assert not any("/" in name for name in graph.nodes)
    assert node_lines(graph, board.states["line"])["rows"].total == 1000


def test_roles_are_those_of_the_accounts() -> None:
    assert ("anyone", *accounts.ROLES) == ROLES


NUMBERS = [0, 0.01, 0.4, 9.96, 10, 950, 9999, 10_000, 12_345, 999_999, 4_100_000, 2e9]
SECONDS = [0, 42, 312, 11_040, 1_047_600]
SHARES = [0, 0.0004, 0.004, 0.0994, 0.0996, 1.37]
MICROS = [None, 0.8, 340, 1_400]
AGES = [0.01, 0.4, 12, 312]


def test_numbers_are_short() -> None:
    assert [console_text.rate(n) for n in NUMBERS[:6]] == ["0", "0", "0.4", "10.0", "10", "950"]
    assert [console_text.count(n) for n in NUMBERS[6:]] == ["9999", "10.0k", "12.3k", "1000.0k", "4.1M", "2.0G"]
    assert [console_text.duration(n) for n in SECONDS] == ["0s", "42s", "5m 12s", "3h 04m", "12d 3h"]
    assert [console_text.size(n) for n in (0, 84e6, 3.2e9)] == ["0 B", "84 MB", "3.2 GB"]
    assert [console_text.percent(n) for n in SHARES] == ["0 %", "0 %", "0.4 %", "9.9 %", "10 %", "137 %"]
    assert [console_text.micros(n) for n in MICROS] == ["-", "0.8 µs", "340 µs", "1.4 ms"]
    assert [console_text.age(n) for n in AGES] == ["0 s", "0.4 s", "12s", "5m 12s"]


async def test_in_a_browser(site: ConsoleSite, node: Node) -> None:
    """Log in, see the flows live, open a flow, a node, close it, look on a phone, log out."""
    running = asyncio.create_task(asyncio.to_thread(node.run, "console.mjs", site.url))
    await until(lambda: site.looked or running.done(), "the browser looks at the flow")
    line = site.board.states["line"]
    line.ledger, line.unbalanced = line.ledger | {"stored": 97_301, "remainder": 2}, {"results": 2}
    line.rates = dict.fromkeys(line.rates, 7.0)
    seen = json.loads(await running)
    assert seen.pop("errors") == []
    assert seen == {
        "after login": "/console",
        "flows": {"line": "running", "office": "parked"},
        "sum": "1 of 2",
        "trouble": "RuntimeError: node 'message': <script>alert(1)</script>\n  at engine/worker.py",
        "rate of verdict": "7.0",
        "alarm": ["The ledger does not balance: 2 lost at 'results'", "unbalanced"],
        "stored": "97,301",
        "busy wires": True,
        "node": "verdict",
        "options": True,
        "docs": True,
        "letters": 3,
        "closed by Escape": True,
        "on a phone": True,
        "numbers": [[console_text.count(n), console_text.rate(n), console_text.size(n)] for n in NUMBERS],
        "durations": [console_text.duration(n) for n in SECONDS],
        "shares": [console_text.percent(n) for n in SHARES],
        "times of an event": [console_text.micros(n) for n in MICROS],
        "ages": [console_text.age(n) for n in AGES],
        "fullest": ["85 %", "sink results is the fullest queue"],
        "steps": ["read and decode", "stateless nodes", "on_line", "results", "between the steps"],
        "queues": ["inbox", "results", "dashboard"],
        "gateway": "of a core; gateway 3.4 %",
        "cost of on_line": "9.1 µs 11 %",
        "queue of results": "85%",
        "after logout": "/console/login",
    }
