"""The `websocket` source: what is acknowledged is in the inbox, once, and nothing else is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_now

from engine.arrivals import Arrivals
from engine.errors import Unavailable
from engine.inbox import InboxWriter
from tests.millstream_process import Millstream, MillstreamFactory
from tests.web import gateway_site
from tests.web.channel_server import closed, frame, until
from tests.web.gateway_site import Site, serving
from web import accounts

FLOW = """
flow: line
sources:
  devices: {websocket: {path: /devices, allow: viewer, largest: 4KiB}}
  open: {websocket: {path: "/lines/{line}", allow: anyone, at_most: 50/s}}
  asks: {websocket: {path: /ask, allow: anyone, reply: flow, timeout: 300ms}}
operators: {none: {from: [devices, open, asks], where: never}}
sinks: {out: {from: none, log: out}}
"""


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(accounts, "HASHER", gateway_site.QUICK)
    async with serving(tmp_path, f"sqlite:///{tmp_path}/millstream.db", FLOW) as running:
        yield running


def socket(site: Site, path: str, **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{site.port}{path}", open_timeout=10, proxy=None, **options)


async def devices(site: Site, query: str = "") -> connect:
    return socket(
        site, f"/devices{query}", additional_headers={"Authorization": f"Bearer {await site.token('viewer')}"}
    )


async def push(client: ClientConnection, number: int | str | None, data: Any) -> None:
    await client.send(msgspec.json.encode({"id": number, "data": data}).decode())


async def acked(client: ClientConnection, number: int | str) -> None:
    """Read until a frame is acknowledged; nothing else may come."""
    while (found := await frame(client)) != {"ack": number}:
        assert list(found) == ["ack"], found


def stored(site: Site) -> list[Any]:
    return [msgspec.json.decode(payload) for _, payload, _ in site.services.events()]


async def test_a_frame_is_acknowledged_by_its_own_number_when_it_is_stored(site: Site) -> None:
    async with await devices(site, "?session=a7") as client:
        await push(client, 7, {"a": 1})
        await acked(client, 7)
        await push(client, "eight", [{"a": 2}, {"a": 3}])
        await acked(client, "eight")
        assert site.services.events()[-1] == (
            "devices", b'{"a":3}', {"account": "viewer", "params": {}, "session": "a7"}
        )  # fmt: skip
        await push(client, None, {"a": 4})
        await push(client, 9, {"a": 5})
        await acked(client, 9)
    assert stored(site) == [{"a": n} for n in range(1, 6)]


async def test_many_frames_are_acknowledged_together(site: Site) -> None:
    async with await devices(site) as client:
        for number in range(2_000):
            await push(client, number, {"n": number})
        acks = 0
        while (await frame(client)) != {"ack": 1999}:
            acks += 1
    assert acks < 1_900
    assert stored(site) == [{"n": number} for number in range(2_000)]


async def test_what_a_session_sends_again_is_acknowledged_and_not_stored_again(site: Site) -> None:
    for _ in range(2):
        async with await devices(site, "?session=a7") as client:
            await push(client, 1, {"a": 1})
            await push(client, 2, [{"a": 2}, {"a": 3}])
            await acked(client, 2)
    async with await devices(site, "?session=b8") as client:
        await push(client, 1, {"b": 1})
        await push(client, "1", {"b": 2})
        await acked(client, "1")
        await push(client, 1, {"b": 3})
        found = await frame(client)
        assert (found["id"], found["error"]["code"]) == (1, "id_reused")
    for number in (1, 2):
        async with await devices(site) as client:
            await push(client, 1, {"c": number})
            await acked(client, 1)
    assert stored(site) == [{"a": 1}, {"a": 2}, {"a": 3}, {"b": 1}, {"b": 2}, {"c": 1}, {"c": 2}]


@pytest.mark.parametrize(
    ("text", "number", "code"),
    [
        ("", None, "invalid_frame"),
        ("{}", None, "invalid_frame"),
        ('{"id": 5}', 5, "invalid_frame"),
        ('{"id": -1, "data": {}}', -1, "invalid_frame"),
        ('{"id": 1.5, "data": {}}', None, "invalid_frame"),
        ('{"id": "", "data": {}}', "", "invalid_frame"),
        ('{"id": 5, "data": {}, "more": 1}', 5, "invalid_frame"),
        ('{"id": 5, "data": 6}', 5, "not_an_object"),
        ('{"id": 5, "data": [{}, "x"]}', 5, "not_an_object"),
        ('{"id": 5, "data": []}', 5, "empty"),
        ('{"id": 5, "data": {"a": ' + "[" * 64 + "]" * 64 + "}}", 5, "too_deep"),
        ('{"id": 5, "data": {"a": 01}}', None, "invalid_frame"),
        (b"\x81\xa1a\x01", None, "invalid_frame"),
    ],
)
async def test_what_cannot_be_taken_is_told_and_leaves_nothing(
    site: Site, text: str | bytes, number: Any, code: str
) -> None:
    async with await devices(site) as client:
        await client.send(text)
        found = await frame(client)
        assert (found.get("id"), found["error"]["code"]) == (number, code)
        await push(client, 6, {"a": 1})
        await acked(client, 6)
    assert stored(site) == [{"a": 1}]


async def test_who_sends_nothing_but_rubbish_is_closed(site: Site) -> None:
    async with await devices(site) as client:
        for _ in range(21):
            await client.send("rubbish")
        assert await closed(client) == 1008
    async with await devices(site) as client:
        await push(client, 1, {"a": "x" * 4096})
        assert await closed(client) == 1009
    async with await devices(site, "?session=") as client:
        assert await closed(client) == 1008
    assert stored(site) == []


async def test_who_may_not_is_refused_before_anything(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await socket(site, "/devices")
    assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        await socket(site, "/nowhere")
    assert refused.value.response.status_code in (403, 404)
    async with socket(site, "/devices", origin=f"http://127.0.0.1:{site.port}") as page:
        assert await closed(page) == 4401
    async with socket(site, f"/devices?token={await site.token('viewer')}") as client:
        await push(client, 1, {"a": 1})
        await acked(client, 1)
    with pytest.raises(InvalidStatus):
        await socket(site, f"/devices?token={await site.token('viewer')}", origin="http://elsewhere.example")


async def test_beyond_the_rate_reading_waits_and_nothing_is_lost(site: Site) -> None:
    loop = asyncio.get_running_loop()
    async with socket(site, "/lines/3") as client:
        begin = loop.time()
        for number in range(75):
            await push(client, number, {"n": number})
        await acked(client, 74)
        assert 0.4 < loop.time() - begin < 5
    assert site.services.events()[74] == ("open", b'{"n":74}', {"account": None, "params": {"line": "3"}})


async def test_while_the_inbox_is_full_nothing_is_read_and_nothing_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, full = InboxWriter.submit, True

    def refusing(self: InboxWriter, source: str, arrivals: Arrivals, done: Any) -> Any:
        if full:
            raise Unavailable("inbox full")
        return submit(self, source, arrivals, done)

    monkeypatch.setattr(InboxWriter, "submit", refusing)
    async with await devices(site) as client:
        for number in range(20):
            await push(client, number, {"n": number})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.7)
        full = False
        await acked(client, 19)
    assert stored(site) == [{"n": number} for number in range(20)]


async def test_what_cannot_be_written_closes_the_connection_and_is_not_acknowledged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: InboxWriter, source: str, arrivals: Arrivals, done: Any) -> None:
        asyncio.get_running_loop().call_soon(done, 0, Unavailable("disk"))

    async with await devices(site) as client:
        await push(client, 1, {"n": 1})
        await acked(client, 1)
        monkeypatch.setattr(InboxWriter, "submit", failing)
        await push(client, 2, {"n": 2})
        await push(client, 3, {"n": 3})
        assert await closed(client) == 1013
    assert stored(site) == [{"n": 1}]


async def test_a_flow_answers_each_frame_under_its_number(site: Site) -> None:
    async with socket(site, "/ask?session=s") as client:
        await push(client, 1, {"a": 1})
        await push(client, 2, {"a": 2})
        await until(lambda: len(stored(site)) == 2, "both are stored")
        prefix = site.services.inbox.prefix
        site.services.desk.answer(prefix + (2).to_bytes(8, "big"), 201, b'{"b":2}')
        assert await frame(client) == {"id": 2, "status": 201, "reply": {"b": 2}}
        found = await frame(client)
        assert (found["id"], found["error"]["code"]) == (1, "timeout")
        await push(client, 2, {"a": 2})
        assert await frame(client) == {"id": 2, "status": 201, "reply": {"b": 2}}
        await push(client, 3, [{"a": 3}])
        assert (await frame(client))["error"]["code"] == "not_an_object"


async def test_a_new_version_of_the_source_sends_its_clients_away(site: Site) -> None:
    from engine.load import load_text

    async with await devices(site) as client, socket(site, "/lines/3") as other:
        site.app.flow_routes.replace([load_text(FLOW.replace("4KiB", "8KiB")).raise_findings()])
        assert await closed(client) == 1012
        await push(other, 1, {"a": 1})
        await acked(other, 1)


KILLED = """
flow: killed
tables: {reading: {id: serial, n: int}}
sources: {devices: {websocket: {path: /devices, allow: anyone}}}
sinks: {readings: {from: devices, sql: {table: reading}}}
"""


def rows(running: Millstream) -> list[int]:
    with closing(sqlite3.connect(running.data / "millstream.db")) as connection:
        return [row[0] for row in connection.execute("select n from reading order by id")]


def test_what_is_sent_again_after_kill_9_is_there_once_and_in_order(
    tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    flow = tmp_path / "killed.yaml"
    flow.write_text(KILLED)
    running = millstream_process(flow)
    url, total, next_, kills = f"ws://127.0.0.1:{running.port}/devices?session=a7", 3_000, 0, [900, 1_800]
    while next_ < total:
        with connect_now(url, open_timeout=10, proxy=None) as client:
            for number in range(next_, total):
                client.send(f'{{"id": {number}, "data": {{"n": {number}}}}}')
                if kills and number == kills[0]:
                    del kills[0]
                    running.power_cut()
                    break
            try:
                while next_ < total:
                    next_ = msgspec.json.decode(client.recv(20))["ack"] + 1
            except Exception:
                assert not running.running()
                running.start()
    assert kills == []
    from tests.process import wait_until

    wait_until(lambda: len(rows(running)) >= total, "all rows are there", within=30)
    assert rows(running) == list(range(total))
