"""Channels as server-sent events through a real server: what arrives, how a client resumes, who is let in, who is cut."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine.channels import ChannelSpec
from tests.web.channel_server import Site, serve, until
from web import channel_events, channel_websocket
from web.accounts import set_role
from web.channel_events import event_text
from web.channel_message import Message

CHANNELS: dict[str, Any] = {
    "dashboard": {"path": "/ws/dashboard", "open": True, "on_connect": {"stats": "stats_update"}, "history": 500},
    "log": {"path": "/ws/log", "open": True, "history": 3},
    "line": {"path": "/ws/line"},
    "chat": {"path": "/ws/chat/{room}", "allow": "viewer"},
}
ACCEPT = {"Accept": "text/event-stream"}


@pytest.fixture
async def site(tmp_path: Path, quick_passwords: None) -> AsyncIterator[Site]:
    async with serve(tmp_path, CHANNELS) as running:
        yield running


class Reader:
    """Reads events as a browser does: fields up to an empty line."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def block(self) -> list[str]:
        lines: list[str] = []
        while line := await asyncio.wait_for(anext(self._lines), 10):
            lines.append(line)
        return lines

    async def event(self) -> tuple[str, Any, str]:
        """Return name, data and number of the next event."""
        while True:
            fields = dict(line.split(": ", 1) for line in await self.block() if not line.startswith(":"))
            if "data" in fields:
                return fields["event"], json.loads(fields["data"]), fields.get("id", "")

    async def ended(self) -> bool:
        try:
            while True:
                await self.block()
        except StopAsyncIteration:
            return True


@asynccontextmanager
async def reading(site: Site, path: str = "/ws/dashboard", **headers: str) -> AsyncIterator[Reader]:
    """Listen, and wait until the server has the client among its listeners."""
    async with (
        httpx2.AsyncClient() as client,
        client.stream("GET", address(site, path), headers=ACCEPT | headers) as got,
    ):
        reader = Reader(got)
        if got.status_code == 200:
            assert await reader.block() == ["retry: 2000"]
        yield reader


def address(site: Site, path: str) -> str:
    return f"http://127.0.0.1:{site.port}{path}"


async def refused(site: Site, path: str, **headers: str) -> int:
    async with reading(site, path, **headers) as reader:
        body = json.loads(await reader.response.aread())
        assert set(body) == {"error"}
        return reader.response.status_code


async def listening(site: Site, channel: str, count: int = 1) -> None:
    await until(lambda: site.hub.report()[channel]["clients"] == count, f"{count} clients of {channel}")


async def test_snapshot_first_then_live_events(site: Site) -> None:
    site.push("stats_update", {"total": 1}, keep=True)
    async with reading(site) as reader:
        assert await reader.event() == ("stats", {"total": 1}, f"{site.hub.run}-1")
        site.push("sensor_defect", {"device": "LED", "naïve": "☂\nx"})
        site.push("stats_update", {"total": 2}, keep=True)
        assert await reader.event() == ("sensor_defect", {"device": "LED", "naïve": "☂\nx"}, f"{site.hub.run}-2")
        assert await reader.event() == ("stats_update", {"total": 2}, f"{site.hub.run}-3")
        headers = reader.response.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store, no-transform"
    await listening(site, "dashboard", 0)


async def test_a_client_that_comes_back_gets_what_it_missed(site: Site) -> None:
    numbers = [f"{site.hub.run}-{n}" for n in range(5)]
    for n in range(4):
        site.push("line", n, channel="log")
    async with reading(site, "/ws/log", **{"Last-Event-ID": numbers[2]}) as reader:
        assert [await reader.event(), await reader.event()] == [("line", 2, numbers[3]), ("line", 3, numbers[4])]
    async with reading(site, f"/ws/log?after={numbers[3]}") as reader:
        assert await reader.event() == ("line", 3, numbers[4])
    async with reading(site, f"/ws/log?after={numbers[1]}", **{"Last-Event-ID": numbers[3]}) as reader:
        assert await reader.event() == ("line", 3, numbers[4])
    for old in (numbers[0], "other-3"):  # too long ago, or of another run
        async with reading(site, "/ws/log", **{"Last-Event-ID": old}) as reader:
            assert await reader.event() == ("gap", {"reason": "too long ago to resume"}, numbers[4])


async def test_more_is_caught_up_with_than_a_slow_client_may_lag(site: Site) -> None:
    site.hub.replace({"log": ChannelSpec.parse("log", CHANNELS["log"] | {"history": 5_000})})
    for n in range(3_000):
        site.push("line", [n, "x" * 1_000], channel="log")
    async with reading(site, f"/ws/log?after={site.hub.run}-0") as reader:
        assert [(await reader.event())[1][0] for _ in range(3_000)] == [*range(3_000)]
        site.push("line", "live", channel="log")
        assert (await reader.event())[1] == "live"


async def test_rooms_are_apart(site: Site) -> None:
    token = await site.token("vera")
    async with reading(site, f"/ws/chat/a?token={token}") as a, reading(site, f"/ws/chat/b?token={token}") as b:
        await listening(site, "chat", 2)
        for room in "ab":
            site.push("said", room, channel="chat", room=room)
        assert (await a.event())[1] == "a"
        assert (await b.event())[1] == "b"
    assert await refused(site, f"/ws/chat/{'x' * 65}?token={token}") == 404


async def test_who_may_listen_is_as_with_websockets(site: Site) -> None:
    assert await refused(site, "/ws/line") == 401
    assert await refused(site, "/ws/line?token=nonsense") == 401
    assert await refused(site, f"/ws/line?token={await site.token('vera')}") == 403
    assert await refused(site, "/ws/dashboard", Origin="http://elsewhere.example") == 403
    async with reading(site, "/ws/line", Authorization=f"Bearer {await site.token()}") as reader:
        assert reader.response.status_code == 200
    async with reading(site, Origin="http://dashboards.example") as reader:
        assert reader.response.headers["access-control-allow-origin"] == "http://dashboards.example"


async def test_a_path_without_the_accept_header_is_no_stream(site: Site) -> None:
    async with httpx2.AsyncClient() as client:
        assert (await client.get(address(site, "/ws/dashboard"))).status_code == 404
        assert (await client.post(address(site, "/ws/dashboard"), headers=ACCEPT)).status_code == 404


async def test_silence_is_broken_by_comments(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_events, "HEARTBEAT", 0.05)
    async with reading(site, "/ws/log") as reader:
        assert [await reader.block(), await reader.block()] == [[": "], [": "]]
        site.push("line", 1, channel="log")
        assert (await reader.event())[:2] == ("line", 1)


async def test_a_client_that_lost_its_role_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_websocket, "RECHECK", 0.05)
    async with reading(site, f"/ws/line?token={await site.token()}") as reader:
        await listening(site, "line")
        await set_role(site.guard._engine, "erna", "viewer")
        assert await reader.ended()
    await listening(site, "line", 0)


async def test_a_channel_that_goes_ends_its_streams(site: Site) -> None:
    async with reading(site, "/ws/log") as reader:
        await listening(site, "log")
        site.hub.replace({"dashboard": ChannelSpec.parse("dashboard", CHANNELS["dashboard"])})
        assert await reader.ended()


def deaf(site: Site, path: str) -> socket.socket:
    """Return a client that has asked, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", site.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    return client


async def test_a_client_that_does_not_read_is_cut_and_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_events, "CUT_GRACE", 0.1)
    client = deaf(site, "/ws/log")
    await listening(site, "log")
    async with reading(site, "/ws/log") as reader:
        for n in range(400):
            site.push("line", [n, "x" * 20_000], channel="log")
            assert (await reader.event())[1][0] == n
    assert site.hub.report()["log"]["cut"] == 1
    await until(lambda: not site.server.server_state.connections, "no connection is left")
    client.close()


async def test_kept_events_are_conflated_for_a_slow_client(site: Site) -> None:
    client = deaf(site, "/ws/dashboard")
    await listening(site, "dashboard")
    for n in range(400):
        site.push("stats_update", [n, "x" * 20_000], keep=True)
        await asyncio.sleep(0)
    await until(lambda: site.hub.queues()[0][1] == 1, "one value waits")
    client.settimeout(10)
    text = b""
    while b"data: [399," not in text:
        text = text[-20:] + await asyncio.to_thread(client.recv, 1 << 16)
    client.close()
    await listening(site, "dashboard", 0)
    report = site.hub.report()["dashboard"]
    assert report["cut"] == 0
    assert report["conflated"] > 100


def test_no_name_or_body_can_end_an_event() -> None:
    text = event_text(Message("r-1", "a: b", b'{"a":\r\n1,\n"b":"\\n"}'))
    assert text == b'id: r-1\nevent: a: b\ndata: {"a": 1, "b":"\\n"}\n\n'
