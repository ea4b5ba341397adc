"""HTTP sources: what is answered with 2xx is in the inbox, and nothing else is."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from time import monotonic
from typing import Any

import httpx2
import msgspec
import pytest
from sqlalchemy import select

from engine.errors import Unavailable, UsageFault
from engine.inbox import InboxWriter
from tests.web.gateway_site import Site, error
from web import accounts, api_keys

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


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:3]) + gzip.compress(body[3:])),
        ("deflate", zlib.compress),
        ("deflate", deflated),
    ],
    ids=["gzip", "two members", "zlib", "deflate"],
)
async def test_a_packed_body_is_taken(site: Site, coding: str, pack: Callable[[bytes], bytes]) -> None:
    bodies = (
        b'{"a":1}',
        b'[{"a":"%s"}]' % (b"x" * 60_000),
        json.dumps([{"n": str(hash(str(n)))} for n in range(1_500)]),
    )
    for body in bodies:
        packed = pack(body if isinstance(body, bytes) else body.encode())
        answer = await site.post("/readings", content=packed, headers={"Content-Encoding": coding})
        assert answer.status_code == 202, answer.text
    payloads = [payload for _, payload, _ in site.services.events()]
    assert (payloads[:1], len(payloads)) == ([b'{"a":1}'], 1_502)


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("br", b"{}", 415, "unsupported_encoding"),
        ("gzip, gzip", b"{}", 415, "unsupported_encoding"),
        ("gzip", b"{}", 400, "invalid_encoding"),
        ("gzip", b"", 400, "invalid_encoding"),
        ("gzip", gzip.compress(b'{"a":1}')[:-1], 400, "invalid_encoding"),
        ("gzip", gzip.compress(b'{"a":1}') + b"more", 400, "invalid_encoding"),
        ("gzip", gzip.compress(b'{"a":1'), 400, "invalid_json"),
        ("gzip", gzip.compress(b'{"a":"' + bytes(200 << 20) + b'"}'), 413, "too_large"),
        ("deflate", zlib.compress(b" " * 65_537), 413, "too_large"),
    ],
    ids=["br", "twice", "not packed", "nothing", "cut off", "more behind", "json cut off", "a bomb", "a byte too much"],
)
async def test_what_is_packed_wrong_or_too_much_leaves_nothing(
    site: Site, coding: str, body: bytes, status: int, code: str
) -> None:
    error(await site.post("/readings", content=body, headers={"Content-Encoding": coding}), status, code)
    assert site.services.events() == []


async def test_beyond_the_rate_a_sender_is_told_when_to_come_back(site: Site) -> None:
    answers = [await site.ask("PUT", "/held", who, json={"a": 1}) for who in ("viewer", "viewer", "viewer", "employee")]
    assert [answer.status_code for answer in answers] == [202, 429, 429, 202]
    error(answers[1], 429, "too_many_requests")
    assert 1 <= int(answers[1].headers["retry-after"]) <= 30
    unknown = [(await site.ask("PUT", "/held", None, json={"a": 1})).status_code for _ in range(3)]
    assert unknown == [202, 429, 429]
    assert len(site.services.events()) == 3


async def test_an_api_key_sends_until_it_is_revoked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    database = site.services.database
    key = await api_keys.add_key(database, "Press 7".replace(" ", "-"), "employee", by="ada")
    weak = await api_keys.add_key(database, "sensor", "viewer", by="ada")
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        assert (await site.post("/readings", None, json={"a": 1}, headers=headers)).status_code == 202
    assert site.services.events()[0][2]["account"] == "key:press-7"
    error(await site.post("/readings", None, json={}, headers={"X-API-Key": weak}), 403, "forbidden")
    error(await site.post("/readings", None, json={}, headers={"X-API-Key": key[:-1]}), 401, "token_invalid")
    error(await site.post("/readings", None, json={}, headers={"X-API-Key": ""}), 401, "token_invalid")
    assert [(one.name, one.role) for one in await api_keys.list_keys(database)] == [
        ("press-7", "employee"), ("sensor", "viewer"),
    ]  # fmt: skip
    async with database.connect() as connection:
        rows = (await connection.execute(select(api_keys.KEYS))).all()
    assert key not in str(rows)
    await api_keys.remove_key(database, "press-7", by="ada")
    site.app.guard._keys._clock = lambda: monotonic() + 3
    error(await site.post("/readings", None, json={}, headers={"X-API-Key": key}), 401, "token_invalid")
    actions = [line["action"] for line in await accounts.list_audit(database)]
    assert actions[:3] == ["key removed", "key added", "key added"]
    for call in (api_keys.add_key(database, "sensor", "viewer"), api_keys.remove_key(database, "sensr")):
        with pytest.raises(UsageFault, match="sensor"):
            await call


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
