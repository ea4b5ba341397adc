"""Plain WebSocket channels through a real server: who gets in, what arrives, who is cut."""

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from engine.errors import Unavailable
from tests.services import Node
from tests.web.channel_server import SECRET, Site, closed, frame, serve, until
from web import channel_websocket, tokens
from web.accounts import set_role
from web.channel_wire import LARGEST

CHANNELS: dict[str, Any] = {
    "dashboard": {"path": "/ws/dashboard", "open": True, "on_connect": {"stats": "stats_update"}, "history": 500},
    "line": {"path": "/ws/line"},
    "chat": {"path": "/ws/chat/{room}", "allow": "viewer", "sends": "employee"},
}


@pytest.fixture
async def site(tmp_path: Path, quick_passwords: None) -> AsyncIterator[Site]:
    async with serve(tmp_path, CHANNELS) as running:
        yield running


async def refused(connecting: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with connecting:
            pass
    body = msgspec.json.decode(caught.value.response.body)
    assert set(body) == {"error"}
    return caught.value.response.status_code


async def test_snapshot_first_then_live_events(site: Site) -> None:
    site.push("stats_update", {"total": 1}, keep=True)
    async with site.connect() as websocket:
        assert await frame(websocket) == {"event": "stats", "data": {"total": 1}, "id": f"{site.hub.run}-1"}
        site.push("sensor_defect", {"device": "LED", "naïve": "☂"})
        site.push("stats_update", {"total": 2}, keep=True)
        assert await frame(websocket) == {
            "event": "sensor_defect", "data": {"device": "LED", "naïve": "☂"}, "id": f"{site.hub.run}-2",
        }  # fmt: skip
        assert (await frame(websocket))["data"] == {"total": 2}


async def test_tokens_come_in_three_ways(site: Site) -> None:
    token = await site.token()
    async with site.connect(f"/ws/line?token={token}") as websocket:
        site.push("progress", 1, channel="line")
        assert (await frame(websocket))["data"] == 1
    async with site.connect("/ws/line", additional_headers={"Authorization": f"Bearer {token}"}):
        pass
    async with site.connect("/ws/line", additional_headers={"Cookie": f"millstream_session={token}"}):
        pass


async def test_bad_tokens_are_refused_before_the_upgrade(site: Site) -> None:
    good = await site.token()
    expired = tokens.issue("erna", "employee", "x", SECRET, time.time() - 9 * 3600)
    for token in ("", "nonsense", good[:-2], good + "x", expired, "a" * 5000, "%00"):
        assert await refused(site.connect(f"/ws/line?token={token}")) == 401
    assert await refused(site.connect("/ws/line")) == 401
    assert await refused(site.connect(f"/ws/line?token={await site.token('vera')}")) == 403
    assert site.hub.report()["line"]["clients"] == 0


async def test_a_page_sees_why_by_the_close_code(site: Site) -> None:
    for path, code in (("/ws/line?token=nonsense", 4401), (f"/ws/line?token={await site.token('vera')}", 4403)):
        async with site.connect(path, origin=f"http://127.0.0.1:{site.port}") as websocket:
            assert await closed(websocket) == code


async def test_only_pages_of_this_host_and_configured_ones(site: Site) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"):
        assert await refused(site.connect("/ws/dashboard", origin=origin)) == 403
    for origin in (f"http://127.0.0.1:{site.port}", "http://dashboards.example"):
        async with site.connect("/ws/dashboard", origin=origin):
            pass


async def test_an_account_that_loses_its_role_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_websocket, "RECHECK", 0.05)
    async with site.connect(f"/ws/line?token={await site.token()}") as websocket:
        await until(lambda: site.hub.report()["line"]["clients"], "the client is in")
        await set_role(site.guard._engine, "erna", "viewer")
        site.guard.forget("erna")
        assert await closed(websocket) == 4403
    await until(lambda: not site.hub.report()["line"]["clients"], "the client has left")


async def test_resume_after_a_lost_connection_has_no_gap(site: Site) -> None:
    got: list[int] = []
    last, sending = f"{site.hub.run}-0", asyncio.create_task(_steadily(site, 400))
    while len(got) < 400:
        async with site.connect(f"/ws/dashboard?after={last}") as websocket:
            for _ in range(min(1 + len(got) % 37, 400 - len(got))):
                message = await frame(websocket)
                got.append(message["data"])
                last = message["id"]
            websocket.transport.abort()
    await sending
    assert got == list(range(400))


async def _steadily(site: Site, count: int) -> None:
    for number in range(count):
        site.push("count", number)
        await asyncio.sleep(0.002)


async def test_rooms_come_from_the_path(site: Site) -> None:
    token = await site.token("vera")
    async with (
        site.connect(f"/ws/chat/garage?token={token}") as garage,
        site.connect(f"/ws/chat/K%C3%BCche%201?token={token}") as kitchen,
    ):
        await until(lambda: site.hub.report()["chat"]["clients"] == 2, "both are in")
        site.push("message", "brakes", channel="chat", room="garage")
        site.push("message", "soup", channel="chat", room="Küche 1")
        assert (await frame(garage))["data"] == "brakes"
        assert (await frame(kitchen))["data"] == "soup"
    for room in ("a" * 65, "%07", "%E2%80%AE", "a%0Ab"):
        assert await refused(site.connect(f"/ws/chat/{room}?token={token}")) == 404


async def test_what_clients_send_is_taken_where_a_source_takes_it(site: Site) -> None:
    taken: list[tuple[Any, ...]] = []

    async def on_message(channel: str, room: str, account: Any, text: str) -> None:
        if channel != "chat":
            raise LookupError(channel)
        if "later" in text:
            raise Unavailable("the inbox is full")
        taken.append((channel, room, account.name, text))

    token = await site.token()
    async with site.connect(f"/ws/chat/garage?token={token}") as websocket:
        await websocket.send('{"text": "hello"}')
        assert (await frame(websocket))["data"]["code"] == "not_taken"
        site.hub.on_message = on_message
        await websocket.send('{"text": "hello"}')
        await websocket.send('{"text": "again", "ack": 7}')
        assert await frame(websocket) == {"event": "ack", "data": 7}
        assert [text for *_, text in taken] == ['{"text": "hello"}', '{"text": "again", "ack": 7}']
        assert taken[0][:3] == ("chat", "garage", "erna")
        await websocket.send('{"text": "later", "ack": "x"}')
        assert (await frame(websocket))["data"] | {"message": ""} == {"code": "unavailable", "message": "", "ack": "x"}
    async with site.connect(f"/ws/line?token={token}") as websocket:
        await websocket.send("{}")
        assert (await frame(websocket))["data"]["code"] == "not_taken"
    async with site.connect(f"/ws/chat/garage?token={await site.token('vera')}") as websocket:
        await websocket.send("{}")
        assert (await frame(websocket))["data"]["code"] == "forbidden"


HOSTILE: list[str | bytes] = [
    b"\x00\x01", b"", "", "{", "null,",
    "[" * 60_000, '{"a":' * 10_000, '"\\ud800"', "\ufeff{}", "NaN", '{"ack": {}', "\0",
]  # fmt: skip


async def test_hostile_frames_harm_nothing(site: Site) -> None:
    taken: list[str] = []

    async def on_message(channel: str, room: str, account: Any, text: str) -> None:
        taken.append(text)

    site.hub.on_message = on_message
    token = await site.token()
    async with site.connect(f"/ws/chat/garage?token={token}") as good:
        async with site.connect(f"/ws/chat/garage?token={token}") as websocket:
            for hostile in HOSTILE:
                await websocket.send(hostile)
                assert (await frame(websocket))["data"]["code"] == "invalid_frame", hostile
            await websocket.send('{"ack": true}')
            await websocket.send('{"ack": 1}')
            assert await frame(websocket) == {"event": "ack", "data": 1}
        async with site.connect(f"/ws/chat/garage?token={token}") as websocket:
            await websocket.send("x" * (LARGEST + 1))
            assert await closed(websocket) == 1009
        async with site.connect(f"/ws/chat/garage?token={token}") as websocket:
            with contextlib.suppress(ConnectionClosed):
                await websocket.send(["x" * 1000] * 100)
            assert await closed(websocket) == 1009
        async with site.connect(f"/ws/chat/garage?token={token}") as websocket:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(40):
                    await websocket.send("broken")
            assert await closed(websocket) == 1008
        site.push("message", "still here", channel="chat", room="garage")
        assert (await frame(good))["data"] == "still here"
    assert taken == ['{"ack": true}', '{"ack": 1}']


async def test_sending_too_fast_is_slowed_not_lost(site: Site) -> None:
    taken: list[str] = []

    async def on_message(channel: str, room: str, account: Any, text: str) -> None:
        taken.append(text)

    site.hub.on_message = on_message
    async with site.connect(f"/ws/chat/garage?token={await site.token()}") as websocket:
        start = time.monotonic()
        for number in range(60):
            await websocket.send(str(number))
        await websocket.send('{"ack": 1}')
        assert (await frame(websocket))["data"] == 1
    assert taken[:-1] == [str(number) for number in range(60)]
    assert time.monotonic() - start >= 0.9, "40 at once, then 20 a second"


async def test_the_clients_that_read_get_everything_and_the_others_are_cut(site: Site) -> None:
    """200 clients, 20 of which read nothing: 3 MB each are too much for them, and no burden for the server."""
    async with contextlib.AsyncExitStack() as stack:
        clients = await asyncio.gather(*(stack.enter_async_context(_reader(site)) for _ in range(180)))
        lazy = await asyncio.gather(*(stack.enter_async_context(_lazy(site)) for _ in range(20)))
        await until(lambda: site.hub.report()["dashboard"]["clients"] == 200, "all are in")
        text, before = "x" * 20_000, _memory()
        for number in range(150):
            site.push("picture", {"number": number, "text": text})
            await asyncio.sleep(0.001)
        await until(lambda: all(len(got) == 150 for got in clients), "everybody who reads has everything", 60)
        assert all(got == list(range(150)) for got in clients)
        await until(lambda: site.hub.report()["dashboard"]["cut"] == 20, "the others are cut")
        await until(lambda: site.hub.report()["dashboard"]["clients"] == 180, "and gone")
        assert _memory() - before < 64 << 20
        assert all(not writer.is_closing() for writer in lazy), "they never noticed: they do not read"


@contextlib.asynccontextmanager
async def _reader(site: Site) -> AsyncIterator[list[int]]:
    got: list[int] = []

    async def read(websocket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                got.extend([msgspec.json.decode(message)["data"]["number"]])

    async with site.connect(compression=None, max_queue=None) as websocket:
        task = asyncio.create_task(read(websocket))
        yield got
    await task


@contextlib.asynccontextmanager
async def _lazy(site: Site) -> AsyncIterator[asyncio.StreamWriter]:
    """A client that shakes hands and then reads nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1000)
    lines = ["GET /ws/dashboard HTTP/1.1", f"Host: 127.0.0.1:{site.port}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
    writer.write("\r\n".join(lines).encode())
    await reader.readuntil(b"\r\n\r\n")
    yield writer
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _memory() -> int:
    """Return the resident memory of this process, which is server and clients in one, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def test_a_slow_client_gets_the_last_state_of_kept_events(site: Site) -> None:
    """It reads nothing while 2000 states of 10 kB go by, then reads on: it was not cut, and has the last one."""
    async with site.connect(compression=None, max_queue=1) as websocket:
        await until(lambda: site.hub.report()["dashboard"]["clients"] == 1, "it is in")
        websocket.transport.pause_reading()
        for number in range(2000):
            site.push("stats_update", {"number": number, "text": "x" * 10_000}, keep=True)
            if number % 50 == 0:
                await asyncio.sleep(0)
        websocket.transport.resume_reading()
        numbers = [0]
        while numbers[-1] != 1999:
            numbers.append((await frame(websocket))["data"]["number"])
        assert numbers == sorted(numbers)
        assert len(numbers) < 2000
    assert site.hub.report()["dashboard"]["cut"] == 0
    assert site.hub.report()["dashboard"]["conflated"] > 0


async def test_a_page_goes_on_where_it_was(site: Site, node: Node) -> None:
    """web/static/live.js in a browser: its connection is lost again and again, its events are not."""
    site.push("stats_update", "snapshot", keep=True)
    arguments = (f"http://127.0.0.1:{site.port}", "101")
    page = asyncio.create_task(asyncio.to_thread(node.run, "live.mjs", *arguments))
    listeners = site.hub.channels["dashboard"].listeners
    for number in range(100):
        if number % 20 == 0:
            await until(lambda: page.done() or any(listeners()), "the page is connected")
        if number % 20 == 10:
            for listener in listeners():
                listener.client.cut(1012, "lost")
            await until(lambda: not any(listeners()), "the page has left")
        site.push("count", number)
    seen = json.loads(await page)
    assert seen["got"] == [["stats", "snapshot"], *(["count", number] for number in range(100))]
    assert seen["states"] == ["waiting", *["live", "waiting"] * 5, "live"]


async def test_a_stop_tells_clients_to_come_back(site: Site) -> None:
    async with site.connect() as websocket:
        await until(lambda: site.hub.report()["dashboard"]["clients"] == 1, "it is in")
        site.hub.close()
        assert await closed(websocket) == 1012


async def test_other_paths_are_not_served(site: Site) -> None:
    for path in ("/ws/nothing", "/ws/dashboard/", "/ws/chat", "/"):
        with pytest.raises(InvalidStatus):
            async with site.connect(path):
                pass
