"""`http_poll`: what a server on a real socket answers, and what becomes of its faults."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from engine.arrival import Arrival
from engine.arrivals import Arrivals
from engine.errors import Unavailable
from engine.load import load_text
from sources.http_poll import HttpPoll
from tests.millstream_process import Millstream
from tests.model_server import Asked, ModelServer, Said
from tests.process import free_port, wait_until

WITHIN = 10.0


class Inbox:
    """Remembers what comes; while `full` it refuses it."""

    flow, source = "f", "polled"

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.keys: list[str] = []
        self.states: list[tuple[str, str]] = []
        self.full = False

    async def store(self, arrivals: Arrivals | Sequence[Arrival]) -> None:
        if self.full:
            raise Unavailable("inbox: full")
        arrivals = Arrivals.of(arrivals)
        self.payloads += arrivals.payloads
        self.keys += [key for _, (key, _) in sorted(arrivals.keys.items())]

    def state(self, state: str, detail: str = "") -> None:
        self.states.append((state, detail))

    @property
    def data(self) -> list[Any]:
        return [msgspec.json.decode(payload) for payload in self.payloads]


@asynccontextmanager
async def polling(url: str, inbox: Inbox | None = None, **options: Any) -> AsyncIterator[Inbox]:
    """Let a source ask ten times a second."""
    inbox = inbox or Inbox()
    source = HttpPoll(url=url, **{"every": "100ms", "timeout": "90ms", **options})
    task = asyncio.create_task(source.run(inbox))  # type: ignore[arg-type]
    try:
        yield inbox
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(seen: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN):
        while not seen():  # noqa: ASYNC110 - what is waited for is seen at the server and the inbox
            await asyncio.sleep(0.005)


def answering(*answers: Said) -> ModelServer:
    """Give each of these answers once, and then the last one."""
    left = list(answers)
    return ModelServer(lambda asked: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize(
    ("body", "options", "data"),
    [
        ({"t": 21.5}, {}, [{"t": 21.5}]),
        ([{"n": 1}, {"n": 2}], {}, [{"n": 1}, {"n": 2}]),
        ({"data": {"readings": [{"n": 1}]}}, {"items": "data.readings"}, [{"n": 1}]),
        ({"data": {"state": {"n": 1}}}, {"items": "data.state"}, [{"n": 1}]),
    ],
    ids=["object", "array", "items", "an item"],
)
async def test_what_an_answer_is(body: Any, options: dict[str, Any], data: list[Any]) -> None:
    with answering(Said(body=body)) as server:
        async with polling(server.url, **options) as inbox:
            await until(lambda: len(inbox.payloads) >= 2 * len(data))
    assert inbox.data[: 2 * len(data)] == data * 2
    assert inbox.states[:2] == [("connecting", ""), ("connected", "")]


@pytest.mark.parametrize("body", [[], {"data": {}}, {"data": {"readings": []}}], ids=["none", "no items", "empty"])
async def test_an_answer_without_entries_is_no_event(body: Any) -> None:
    options: dict[str, Any] = {} if body == [] else {"items": "data.readings"}
    with answering(Said(body=body)) as server:
        async with polling(server.url, **options) as inbox:
            await until(lambda: len(server.asked) > 2)
    assert inbox.payloads == []


async def test_what_is_no_json_goes_on_as_it_came() -> None:
    with answering(Said(body=b"<html>"), Said(body=b"\xff{"), Said(body=[1, {"n": 1}])) as server:
        async with polling(server.url) as inbox:
            await until(lambda: len(inbox.payloads) >= 4)
    assert inbox.payloads[:4] == [b"<html>", b"\xff{", b"1", b'{"n":1}']


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (Said(500, body={"wrong": 1}), 'an answer; got status 500: {"wrong":1}'),
        (Said(404, body=b""), "an answer; got status 404"),
        (Said(422, body=b""), "an answer; got status 422"),
        (Said(302, body=b"", headers={"Location": "/"}), "an answer; got status 302"),
        (Said(cut=True), "an answer; ServerDisconnectedError: Server disconnected"),
        (Said(body="x" * 3000), "an answer of at most 2000 bytes; got more"),
    ],
    ids=["500", "404", "422", "redirect", "cut", "too large"],
)
async def test_a_fault_is_shown_and_the_next_answer_is_taken(fault: Said, detail: str) -> None:
    with answering(fault, fault, Said(body={"n": 1})) as server:
        async with polling(server.url, largest="2KB") as inbox:
            await until(lambda: inbox.payloads)
    assert inbox.data[0] == {"n": 1}
    assert list(dict.fromkeys(inbox.states)) == [("connecting", ""), ("waiting", detail), ("connected", "")]


async def test_a_server_that_is_silent_or_away_is_waited_for() -> None:
    port = free_port()
    async with polling(f"http://127.0.0.1:{port}/") as inbox:
        await until(lambda: any("Connect" in detail for _, detail in inbox.states))
    with ModelServer(lambda asked: Said(body={"n": 1})) as server:
        server.held.clear()
        async with polling(server.url) as inbox:
            await until(lambda: ("waiting", "an answer within 0.09 s; got none") in inbox.states)
            server.held.set()
            await until(lambda: inbox.payloads)
            assert inbox.states[-1] == ("connected", "")


async def test_a_full_inbox_is_waited_for_and_nothing_is_asked_meanwhile() -> None:
    inbox = Inbox()
    inbox.full = True
    with answering(Said(body={"n": 1}), Said(body={"n": 2})) as server:
        async with polling(server.url, inbox):
            await until(lambda: ("waiting", "inbox: full") in inbox.states)
            await asyncio.sleep(0.3)
            assert len(server.asked) == 1
            inbox.full = False
            await until(lambda: len(inbox.payloads) > 1)
            assert inbox.states[-1] == ("connected", "")
    assert inbox.data[:2] == [{"n": 1}, {"n": 2}]


def tagged(asked: Asked) -> Said:
    if asked.headers.get("If-None-Match") == '"v1"':
        return Said(304, body=b"")
    return Said(body={"n": 1}, headers={"ETag": '"v1"'})


def untagged(asked: Asked) -> Said:
    return Said(body={"n": 1})


@pytest.mark.parametrize("answer", [tagged, untagged])
async def test_the_same_answer_is_skipped_by_its_tag_or_its_content(answer: Callable[[Asked], Said]) -> None:
    with ModelServer(answer) as server:
        async with polling(server.url, on_same="skip") as inbox:
            await until(lambda: len(server.asked) > 4)
            assert inbox.data == [{"n": 1}]
            server.answer = lambda asked: Said(body={"n": 2})
            await until(lambda: len(inbox.payloads) > 1)
            assert inbox.data == [{"n": 1}, {"n": 2}]


async def test_what_is_asked() -> None:
    options: dict[str, Any] = {
        "method": "POST",
        "body": {"ask": 1},
        "query": {"newest": 3},
        "bearer": "hush",
        "headers": {"X-Line": "4"},
    }
    with answering(Said(body={})) as server:
        async with polling(server.url, **options):
            await until(lambda: server.asked)
    asked = server.asked[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "/predict?newest=3", {"ask": 1})
    told = {name: asked.headers[name] for name in ("Authorization", "X-Line", "Content-Type", "Accept")}
    assert told == {
        "Authorization": "Bearer hush", "X-Line": "4", "Content-Type": "application/json", "Accept": "application/json",
    }  # fmt: skip
    assert "hush" not in repr(HttpPoll(url=server.url, bearer=SecretStr("hush")))


async def test_entries_have_keys_of_the_field_that_tells_them_apart() -> None:
    with answering(Said(body=[{"id": 1}, {"id": "1"}, {"x": 1}, 7])) as server:
        async with polling(server.url, once="id") as inbox:
            await until(lambda: inbox.payloads)
    assert inbox.keys[:4] == ["http_poll\0polled\x001", 'http_poll\0polled\0"1"', "", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{url: 'ftp://x'}", "an address like http://host:port/path"),
        ("{url: 'http://x', every: 1s, timeout: 2s}", "at most every: the next request waits for the answer"),
        ("{url: 'http://x', body: {a: 1}}", "method: POST with it; a GET has no body"),
    ],
)
def test_what_is_no_poll(options: str, message: str) -> None:
    flow = load_text(f"flow: f\nsources: {{a: {{http_poll: {options}}}}}\nsinks: {{z: {{from: a, log: x}}}}\n")
    assert any(message in str(finding) for finding in flow.document.findings)


FLOW = """\
flow: polled
tables: {orders: {id: serial, number: int}}
sources:
  orders:
    http_poll: {url: "URL", every: 100ms, timeout: 100ms, once: number, items: orders, bearer: "${token}"}
settings: {token: {env: ERP_TOKEN, secret: true}}
sinks: {stored: {from: orders, sql: {table: orders, columns: {number: number}}}}
"""


def test_lists_that_overlap_give_each_entry_once_over_a_restart(tmp_path: Path) -> None:
    newest = 3

    def list_of_orders(asked: Asked) -> Said:
        return Said(body={"orders": [{"number": number} for number in range(max(1, newest - 5), newest + 1)]})

    with ModelServer(list_of_orders) as server:
        file = tmp_path / "polled.yaml"
        file.write_text(FLOW.replace("URL", server.url))
        process = Millstream(tmp_path, file, env={"ERP_TOKEN": "hush-hush"})

        def numbers() -> list[int]:
            with sqlite3.connect(process.data / "millstream.db") as connection:
                return [row[0] for row in connection.execute("select number from orders order by id")]

        with process:
            wait_until(lambda: len(numbers()) == 3, "the first are there", within=20)
            newest = 6
            wait_until(lambda: len(numbers()) == 6, "the next are there", within=20)
            process.power_cut()
            newest = 8
            asked = len(server.asked)
            process.start()
            wait_until(lambda: len(numbers()) == 8 and len(server.asked) > asked + 3, "all are there", within=20)
            assert numbers() == list(range(1, 9))
            assert server.asked[-1].headers["Authorization"] == "Bearer hush-hush"
            assert "hush-hush" not in process.output()
