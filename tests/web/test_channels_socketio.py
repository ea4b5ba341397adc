"""Socket.IO channels: an unmodified socket.io-client over every transport, and clients that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from httpx2 import AsyncClient
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.services import Node
from tests.web.channel_server import Site, closed, serve, until

CHANNELS: dict[str, Any] = {
    "dashboard": {"path": "/ws/dashboard", "socketio": True, "open": True, "on_connect": {"stats": "stats_update"}},
    "line": {"path": "/ws/line", "socketio": "/line"},
    "chat": {"path": "/ws/chat/{room}", "socketio": "/chat"},
}
ENGINE = "/socket.io/?EIO=4&transport="


@pytest.fixture
async def site(tmp_path: Path, quick_passwords: None) -> AsyncIterator[Site]:
    async with serve(tmp_path, CHANNELS) as running:
        yield running


async def dashboard(node: Node, site: Site, path: str = "", **options: Any) -> list[list[Any]]:
    """Run tests/browser/socketio.mjs and return what it saw."""
    arguments = (f"http://127.0.0.1:{site.port}{path}", json.dumps(options))
    printed = await asyncio.to_thread(node.run, "socketio.mjs", *arguments)
    return [json.loads(line) for line in printed.splitlines()]


def clients(site: Site, channel: str = "dashboard") -> int:
    return site.hub.report()[channel]["clients"]


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_every_transport_gets_the_snapshot_and_every_event(site: Site, node: Node, transports: list[str]) -> None:
    site.push("stats_update", {"total": 0, "by_device": {"LED ☂": [1, None]}}, keep=True)
    watching = asyncio.create_task(dashboard(node, site, count=301, transports=transports))
    await until(lambda: clients(site) == 1, "the dashboard is connected")
    for number in range(300):
        site.push("sensor_defect", {"number": number})
        await asyncio.sleep(0.001)
    seen = await watching
    assert seen[0] == ["connect"]
    assert seen[1] == ["event", "stats", {"total": 0, "by_device": {"LED ☂": [1, None]}}]
    assert seen[2:302] == [["event", "sensor_defect", {"number": number}] for number in range(300)]
    assert ["transport", transports[-1]] in seen
    await until(lambda: clients(site) == 0, "it has left")


async def test_tokens(site: Site, node: Node) -> None:
    watching = asyncio.create_task(dashboard(node, site, "/line", auth={"token": await site.token()}))
    await until(lambda: clients(site, "line") == 1, "erna is in")
    site.push("progress", {"stage": 2}, channel="line")
    assert ["event", "progress", {"stage": 2}] in await watching
    for auth, code in (
        ({}, "token_missing"),
        ({"token": "nonsense"}, "token_invalid"),
        ({"token": {"$ne": ""}}, "token_missing"),
        ({"token": await site.token("vera")}, "forbidden"),
    ):
        seen = await dashboard(node, site, "/line", auth=auth)
        assert seen[0][0] == "connect_error"
        assert seen[0][2] == {"code": code}
    assert (await dashboard(node, site, "/nowhere"))[0][2] == {"code": "not_found"}


async def test_an_open_channel_takes_a_stale_token(site: Site, node: Node) -> None:
    site.push("stats_update", 1, keep=True)
    assert ["event", "stats", 1] in await dashboard(node, site, auth={"token": "of yesterday"})


async def test_rooms_and_sending(site: Site, node: Node) -> None:
    taken: list[tuple[str, ...]] = []

    async def on_message(channel: str, room: str, account: Any, text: str) -> None:
        taken.append((channel, room, account.name, text))
        site.push("message", json.loads(text), channel=channel, room=room)

    site.hub.on_message = on_message
    auth = {"token": await site.token(), "room": "garage"}
    seen = await dashboard(node, site, "/chat", auth=auth, emit=["message", {"text": "hello"}])
    assert ["event", "message", {"text": "hello"}] in seen
    assert ["answer", {"ok": True}] in seen
    assert taken == [("chat", "garage", "erna", '{"text":"hello"}')]
    assert (await dashboard(node, site, "/chat", auth={"token": auth["token"]}))[0][0] == "connect_error"


async def test_sending_is_refused_where_nothing_takes_it(site: Site, node: Node) -> None:
    seen = await dashboard(node, site, emit=["message", 1])
    assert [what[:2] for what in seen[1:3]] == [["event", "error"], ["answer", {"error": seen[1][2]}]]
    assert seen[1][2]["code"] == "not_taken"


async def engine(site: Site) -> ClientConnection:
    """Connect by hand, as far as being in the default namespace."""
    websocket = await site.connect(ENGINE + "websocket", compression=None, max_queue=1)
    assert str(await websocket.recv()).startswith("0{")
    await websocket.send("40")
    assert str(await websocket.recv()).startswith("40{")
    return websocket


async def test_a_client_that_does_not_read_is_cut(site: Site) -> None:
    good, lazy = await engine(site), await engine(site)
    await until(lambda: clients(site) == 2, "both are in")
    lazy.transport.pause_reading()
    for number in range(200):
        site.push("picture", {"number": number, "text": "x" * 30_000})
        assert f'"number":{number},' in str(await asyncio.wait_for(good.recv(), 10))
    await until(lambda: clients(site) == 1, "it is cut")
    lazy.transport.resume_reading()
    assert await closed(lazy) == 1013
    assert site.hub.report()["dashboard"]["cut"] == 1
    await good.close()


async def test_a_slow_client_gets_the_last_state(site: Site) -> None:
    slow = await engine(site)
    await until(lambda: clients(site) == 1, "it is in")
    slow.transport.pause_reading()
    for number in range(2000):
        site.push("stats_update", {"number": number, "text": "x" * 10_000}, keep=True)
        if number % 50 == 0:
            await asyncio.sleep(0)
    slow.transport.resume_reading()
    numbers = [0]
    while numbers[-1] != 1999:
        numbers.append(json.loads(str(await asyncio.wait_for(slow.recv(), 10))[2:])[1]["number"])
    assert numbers == sorted(numbers)
    assert len(numbers) < 2000
    await slow.close()


async def test_a_poller_that_never_comes_back_is_bounded(site: Site) -> None:
    async with AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as http:
        session = ENGINE + "polling&sid=" + json.loads((await http.get(ENGINE + "polling")).text[1:])["sid"]
        assert (await http.post(session, content="40")).text == "OK"
        await until(lambda: clients(site) == 1, "it is in")
        for number in range(1100):
            site.push("progress", number)
        await until(lambda: clients(site) == 0, "it is cut")
        assert (await http.get(session)).status_code == 400
    assert site.hub.report()["dashboard"]["cut"] == 1
    assert site.socketio.server.eio.sockets == {}


PACKETS: list[str | bytes] = [
    "", "x", "4", "49", "42", "42{}", "42[]", "42[[]]", '42[{"a":1}]', "42[1]", "42" + "[" * 60_000, "4" + "[" * 60_000,
    '451-["a",{"_placeholder":true,"num":0}]', '459999999999-["a"]', "45" + "1" * 50 + "-[]", "40{", "40/nowhere,",
    "43[]", "44", b"\x00\xff", "6", "0", "1", "5", "3probe", "42/line,[1]", "4٣", '42["connect"]',
    '42["disconnect",1,2]',
    "42" + "9" * 5000 + '["a"]', "x" * 70_000, '40{"token":[[]]}', '40/line,{"token":{"a":1}}', "41", "\ud7ff",
]  # fmt: skip


async def test_hostile_packets_harm_nothing(site: Site) -> None:
    good = await engine(site)
    for packet in PACKETS:
        websocket = await engine(site)
        await websocket.send(packet)
        for _ in range(3):
            try:
                await websocket.send("42[" + '"a"]')
                await asyncio.wait_for(websocket.recv(), 0.05)
            except (TimeoutError, ConnectionClosed):
                break
        await websocket.close()
        site.push("progress", 1)
        assert str(await asyncio.wait_for(good.recv(), 10)) == '42["progress",1]', packet
    await good.close()
    await until(lambda: clients(site) == 0, "everybody has left")
    await until(lambda: not site.socketio.server.eio.sockets, "no session is left over")
    assert not site.socketio._members
    assert not site.socketio.server.wires


@pytest.mark.parametrize("packet", ["42{", "42[[]]", '451-["a",{"_placeholder":true,"num":0}]', "42" + "[" * 60_000])
async def test_a_broken_packet_ends_its_connection(site: Site, packet: str) -> None:
    websocket = await engine(site)
    await until(lambda: clients(site) == 1, "it is in")
    await websocket.send(packet)
    assert await closed(websocket) == 1008
    await until(lambda: clients(site) == 0, "it has left")


async def test_hostile_polls_harm_nothing(site: Site) -> None:
    async with AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as http:
        for packet in PACKETS:
            session = ENGINE + "polling&sid=" + json.loads((await http.get(ENGINE + "polling")).text[1:])["sid"]
            body = packet if isinstance(packet, bytes) else packet.encode()
            assert (await http.post(session, content=body)).status_code in (200, 400), packet
        for query in ("", "?EIO=3", "?EIO=4&transport=x", "?EIO=4&transport=websocket", "?EIO=4&sid=%ff", "?sid[]=x"):
            assert (await http.get("/socket.io/" + query)).status_code == 400
        assert (await http.get(ENGINE + "polling&j=0")).status_code == 400, "no JSONP"
    site.push("stats_update", 1, keep=True)
    good = await engine(site)
    assert msgspec.json.decode(str(await good.recv())[2:]) == ["stats", 1]
    await good.close()


async def test_only_pages_of_this_host_and_configured_ones(site: Site) -> None:
    async with AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as http:
        for origin, status in (("http://evil.example", 400), ("null", 400), (str(http.base_url).rstrip("/"), 200)):
            answer = await http.get(ENGINE + "polling", headers={"Origin": origin})
            assert answer.status_code == status
        answer = await http.get(ENGINE + "polling", headers={"Origin": "http://dashboards.example"})
        assert answer.headers["access-control-allow-origin"] == "http://dashboards.example"
    with pytest.raises(InvalidStatus):
        await site.connect(ENGINE + "websocket", origin="http://evil.example")
