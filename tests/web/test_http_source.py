"""HTTP sources: what is answered with 2xx is in the inbox, and nothing else is."""

import asyncio
import json
from typing import Any

import httpx2
import msgspec
import pytest

from engine.errors import Unavailable
from engine.inbox import InboxWriter
from tests.web.gateway_site import Site, error

NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_an_object_an_array_and_lines(site: Site) -> None:
    one = await site.post("/readings", content=b' {"a":  1} ')
    assert (one.status_code, one.json()) == (202, {"accepted": 1})
    many = await site.post("/readings", content=b'[{"b": 1}, {"b":[ {} ]}]')
    assert many.json() == {"accepted": 2}
    lines = await site.post("/readings", content=b'{"c": 1}\r\n\n{"c": 2}', headers=NDJSON)
    assert lines.json() == {"accepted": 2}
    payloads = [payload for _, payload, _ in site.services.events()]
    assert payloads == [b'{"a":  1}', b'{"b": 1}', b'{"b":[ {} ]}', b'{"c": 1}', b'{"c": 2}']
    assert (await site.post("/readings", content=b"[]")).json() == {"accepted": 0}


async def test_who_sent_it_and_the_path_go_along(site: Site) -> None:
    await site.ask("PUT", "/open", None, json={"a": 1}, headers={"Idempotency-Key": "k1"})
    await site.ask("PUT", "/open", "viewer", json={"a": 2})
    metas = [meta for _, _, meta in site.services.events()]
    assert metas == [
        {"account": None, "params": {}, "idempotency_key": "k1"},
        {"account": "viewer", "params": {}},
    ]
    error(await site.ask("PUT", "/open", None, json={}, headers={"Idempotency-Key": "k" * 256}), 400, "invalid_header")


async def test_who_may_not_leaves_nothing(site: Site) -> None:
    error(await site.post("/readings", None, json={}), 401, "token_missing")
    error(await site.post("/readings", "viewer", json={}), 403, "forbidden")
    assert site.services.events() == []


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (b"", 400, "invalid_json", "truncated"),
        (b'{"a": 1', 400, "invalid_json", "truncated"),
        (b'{"a": 01}', 400, "invalid_json", "byte 7"),
        (b'{"a": NaN}', 400, "invalid_json", "byte 6"),
        (b'{"a": 1} {}', 400, "invalid_json", "trailing characters (byte 10)"),
        (b'{"a": "\xc3\x28"}', 400, "invalid_json", "byte 7 is not"),
        (b"5", 422, "not_an_object", "got a number"),
        (b'"x"', 422, "not_an_object", "got text"),
        (b'[{"a": 1}, 3]', 422, "not_an_object", "[1]: expected a JSON object; got a number"),
        (b'[{"a": 1}, {"a": }]', 400, "invalid_json", "byte 17"),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", 400, "too_deep", "64"),
        (b'[{"b": 1}, {"a": ' + b'{"x":' * 64 + b"1" + b"}" * 65 + b"]", 400, "too_deep", "64"),
        (b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400, "too_deep", "64"),
        (b'{"a": "' + b"x" * 65_536 + b'"}', 413, "too_large", "65536"),
    ],
)
async def test_what_is_not_json_leaves_nothing(site: Site, body: bytes, status: int, code: str, text: str) -> None:
    found = error(await site.post("/readings", content=body), status, code)
    assert text in found["message"]
    assert site.services.events() == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}",
        b'{"a": "' + b"[{" * 1000 + b'\\"[["}',
        b"[" + b",".join([b'{"a": [{"b": {}}]}'] * 500) + b"]",
    ],
)
async def test_what_is_deep_enough_or_only_looks_deep_is_taken(site: Site, body: bytes) -> None:
    assert (await site.post("/readings", content=body)).status_code == 202


async def test_a_broken_line_is_named(site: Site) -> None:
    found = error(await site.post("/readings", content=b'{"a":1}\n\n{"a":}\n', headers=NDJSON), 400, "invalid_json")
    assert "line 3: " in found["message"]
    found = error(await site.post("/readings", content=b'{"a":1}\n[]', headers=NDJSON), 422, "not_an_object")
    assert found["message"].startswith("line 2: ")
    assert site.services.events() == []


async def test_20_megabytes_are_refused_and_the_connection_goes_on(site: Site) -> None:
    big = b'{"a": "' + b"x" * (20 << 20) + b'"}'
    found = error(await site.post("/readings", content=big), 413, "too_large")
    assert "65536" in found["message"]

    async def parts() -> Any:
        for _ in range(20):
            yield b"x" * (1 << 20)

    error(await site.post("/readings", content=parts()), 413, "too_large")
    assert (await site.post("/readings", json={})).status_code == 202


async def test_a_compressed_body_is_not_taken(site: Site) -> None:
    error(
        await site.post("/readings", content=b"{}", headers={"Content-Encoding": "gzip"}), 415, "unsupported_encoding"
    )


async def test_a_full_inbox_says_when_to_come_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise Unavailable("the inbox is full")

    monkeypatch.setattr(InboxWriter, "submit", full)
    answer = await site.post("/readings", json={})
    error(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def answer_next(site: Site, status: int, body: bytes) -> None:
    """Answer the next event as the flow would."""
    async with asyncio.timeout(10):
        while not site.services.inbox.head:  # noqa: ASYNC110 - the inbox tells its worker only
            await asyncio.sleep(0.005)
    event = site.services.inbox.prefix + site.services.inbox.head.to_bytes(8, "big")
    site.services.desk.answer(event, status, body)


@pytest.mark.parametrize(
    ("status", "body"), [(201, b'{"id":1}'), (422, b'{"error":{"code":"rejected","message":"no"}}')]
)
async def test_the_flows_answer_is_passed_through(site: Site, status: int, body: bytes) -> None:
    answer, _ = await asyncio.gather(
        site.post("/sensor/7/result", json={"device": "LED"}), answer_next(site, status, body)
    )
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (status, body, "application/json")
    assert site.services.events()[0][2]["params"] == {"station": "7"}


async def test_no_answer_in_time_is_a_504_with_the_event(site: Site) -> None:
    found = error(await site.post("/sensor/7/result", json={"device": "LED"}), 504, "timeout")
    assert found["id"] == (site.services.inbox.prefix + (1).to_bytes(8, "big")).hex()
    assert len(site.services.events()) == 1


async def test_one_answer_is_for_one_event(site: Site) -> None:
    error(await site.post("/sensor/7/result", content=b"[{}]"), 422, "not_an_object")
    error(await site.post("/sensor/7/result", content=b"{}", headers=NDJSON), 415, "unsupported_type")


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(site: Site) -> None:
    token = await site.token("employee")
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST /readings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"a": ')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await site.post("/readings", json={"b": 1})).status_code == 202
    assert [json.loads(payload) for _, payload, _ in site.services.events()] == [{"b": 1}]


async def test_many_at_once_are_all_kept(site: Site) -> None:
    async def send(number: int) -> httpx2.Response:
        return await site.post("/readings", json=[{"n": number, "i": i} for i in range(10)])

    await site.token("employee")
    answers = await asyncio.gather(*(send(number) for number in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    kept = {(event["n"], event["i"]) for event in (msgspec.json.decode(p) for _, p, _ in site.services.events())}
    assert kept == {(n, i) for n in range(50) for i in range(10)}


def counted(site: Site) -> int:
    return len(site.services.events())


async def test_a_request_that_is_sent_again_is_stored_once_and_answered_alike(site: Site) -> None:
    for body in (b'{"a": 1}', b'[{"a": 1}, {"a": 2}, {"a": 1}]'):
        before, key = counted(site), {"Idempotency-Key": str(len(body))}
        answers = [await site.post("/readings", content=body, headers=key) for _ in range(3)]
        answers += await asyncio.gather(*(site.post("/readings", content=body, headers=key) for _ in range(5)))
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
        assert counted(site) - before == answers[0].json()["accepted"]


async def test_a_key_is_of_its_account_and_path(site: Site) -> None:
    for who, path in (("employee", "/readings"), ("admin", "/readings"), ("employee", "/open"), (None, "/open")):
        method = "PUT" if path == "/open" else "POST"
        for _ in range(2):
            await site.ask(method, path, who, json={"a": 1}, headers={"Idempotency-Key": "k"})
    assert counted(site) == 4


@pytest.mark.parametrize("body", [b'{"a": 2}', b'[{"a": 1}, {"b": 1}]', b'[{"a": 1}]'])
async def test_a_key_with_another_body_is_refused(site: Site, body: bytes) -> None:
    key = {"Idempotency-Key": "k1"}
    await site.post("/readings", content=b'{"a": 1}', headers=key)
    error(await site.post("/readings", content=body, headers=key), 422, "idempotency_key_reused")
    assert counted(site) == 1


async def test_the_flows_answer_is_had_again(site: Site) -> None:
    async def send() -> httpx2.Response:
        return await site.post("/sensor/7/result", json={"device": "LED"}, headers={"Idempotency-Key": "k"})

    first, second, _ = await asyncio.gather(send(), send(), answer_next(site, 201, b'{"id":1}'))
    third = await send()
    assert {(answer.status_code, answer.content) for answer in (first, second, third)} == {(201, b'{"id":1}')}
    assert counted(site) == 1


async def test_an_answer_that_came_too_late_is_had_by_asking_again(site: Site) -> None:
    async def send() -> httpx2.Response:
        return await site.post("/sensor/7/result", json={"device": "LED"}, headers={"Idempotency-Key": "k"})

    first, second = error(await send(), 504, "timeout"), error(await send(), 504, "timeout")
    assert first["id"] == second["id"]
    await answer_next(site, 201, b'{"id":1}')
    assert (await send()).content == b'{"id":1}'
    assert counted(site) == 1
