"""The http sink against a real server: what is sent, in which order, and what becomes of it when nobody answers."""

import asyncio
import base64
import hmac
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from engine import lane as lane_module
from engine.errors import Unavailable
from engine.spill import Spill
from sinks.http import Http
from tests.engine.lane_case import Loop, Sink
from tests.process import free_port, wait_until
from tests.sinks.http_target import Asked, HttpTarget, Said
from tests.sinks.sink_case import Surroundings, event, readings


@pytest.fixture
def outside() -> Surroundings:
    return Surroundings()


def only(*statuses: int) -> Any:
    """Answer with these statuses one after the other, then with 204."""
    left = list(statuses)
    return lambda _asked: Said(left.pop(0) if left else 204)


async def written(outside: Surroundings, events: list[Any], **options: Any) -> None:
    async with outside.opened(Http.model_validate(options)) as writer:
        await writer.write(events)


async def test_each_event_is_a_request_in_order(outside: Surroundings) -> None:
    with HttpTarget() as target:
        await written(outside, readings(30), url=f"{target.url}/hook")
    assert target.bodies == [{"n": n, "device": f"LED{n % 7}"} for n in range(30)]
    assert {(asked.method, asked.path, asked.headers["Content-Type"]) for asked in target.asked} == {
        ("POST", "/hook", "application/json")
    }
    assert [asked.headers["Idempotency-Key"] for asked in target.asked] == [f"{n:032x}" for n in range(30)]
    assert outside.letters == []


async def test_the_address_the_body_and_the_headers_are_the_options(outside: Surroundings) -> None:
    options = {
        "method": "PUT", "headers": {"X-Line": "7", "X-Token": SecretStr("hidden")}, "bearer": SecretStr("open"),
        "body": {"twice": "n * 2", "id": "meta.id"},
    }  # fmt: skip
    with HttpTarget() as target:
        await written(
            outside, [event(4, {"n": 4, "device": "a/b ü?"})], url=target.url + "/d/{device}/{date}", **options
        )
    (asked,) = target.asked
    assert (asked.method, asked.path) == ("PUT", "/d/a%2Fb%20%C3%BC%3F/2026-01-31")
    assert asked.json == {"twice": 8, "id": f"{4:032x}"}
    assert (asked.headers["X-Line"], asked.headers["X-Token"]) == ("7", "hidden")
    assert asked.headers["Authorization"] == "Bearer open"


async def test_a_template_is_plain_text(outside: Surroundings) -> None:
    with HttpTarget() as target:
        text = "{{ device }} at {{ meta.time }}: {{ n }}"
        await written(outside, [event(0, {"n": 1.5, "device": "ü"})], url=target.url, text=text)
        await written(outside, readings(1), url=target.url, text="<b/>", headers={"Content-Type": "text/html"})
    assert target.asked[0].body.decode() == "ü at 2026-01-31T12:00:00.123456Z: 1.5"
    assert [asked.headers["Content-Type"] for asked in target.asked] == ["text/plain; charset=utf-8", "text/html"]


@pytest.mark.parametrize("format", ["json", "jsonl"])
async def test_batches_of_one_address_go_together(outside: Surroundings, format: str) -> None:
    with HttpTarget() as target:
        events = [event(n, {"n": n, "line": n // 25}) for n in range(50)]
        await written(outside, events, url=target.url + "/{line}", batch=20, format=format, fields=["n"])
    bodies = [
        asked.json if format == "json" else [Asked("", "", {}, line).json for line in asked.body.splitlines()]
        for asked in target.asked
    ]
    assert [(asked.path, len(body)) for asked, body in zip(target.asked, bodies, strict=True)] == [
        ("/0", 20), ("/0", 5), ("/1", 20), ("/1", 5),
    ]  # fmt: skip
    assert [item for body in bodies for item in body] == [{"n": n} for n in range(50)]
    types = {"json": "application/json", "jsonl": "application/x-ndjson"}
    assert {asked.headers["Content-Type"] for asked in target.asked} == {types[format]}
    assert len({asked.headers["Idempotency-Key"] for asked in target.asked}) == 4


async def test_a_signature_is_that_of_standard_webhooks(outside: Surroundings) -> None:
    key = bytes(range(24))
    for secret, used in ((f"whsec_{base64.b64encode(key).decode()}", key), ("a text", b"a text")):
        with HttpTarget() as target:
            await written(outside, readings(1), url=target.url, sign={"secret": secret})
        (asked,) = target.asked
        id_, at = asked.headers["webhook-id"], asked.headers["webhook-timestamp"]
        assert id_ == asked.headers["Idempotency-Key"]
        assert abs(int(at) - time.time()) < 60
        expected = base64.b64encode(hmac.digest(used, b"%b.%b.%b" % (id_.encode(), at.encode(), asked.body), "sha256"))
        assert asked.headers["webhook-signature"] == f"v1,{expected.decode()}"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_a_receiver_that_is_away_is_waited_for_and_what_it_took_is_not_sent_again(
    outside: Surroundings, status: int
) -> None:
    with HttpTarget(only(204, 204, status)) as target:
        async with outside.opened(Http.model_validate({"url": target.url})) as writer:
            events = readings(5)
            with pytest.raises(Unavailable, match=f"status {status}"):
                await writer.write(events)
            await writer.write(events)
    assert [body["n"] for body in target.bodies] == [0, 1, 2, 2, 3, 4]
    assert target.asked[2].headers["Idempotency-Key"] == target.asked[3].headers["Idempotency-Key"]
    assert outside.letters == []


async def test_nobody_there_and_no_answer_in_time_mean_away(outside: Surroundings) -> None:
    async with outside.opened(Http.model_validate({"url": f"http://127.0.0.1:{free_port()}"})) as writer:
        with pytest.raises(Unavailable, match="connect"):
            await writer.write(readings(1))
    with HttpTarget() as target:
        target.held.clear()
        async with outside.opened(Http.model_validate({"url": target.url, "timeout": "50ms"})) as writer:
            with pytest.raises(Unavailable, match="an answer within 50ms; got none"):
                await writer.write(readings(1))
    with HttpTarget(lambda _: Said(cut=True)) as target:
        async with outside.opened(Http.model_validate({"url": target.url})) as writer:
            with pytest.raises(Unavailable):
                await writer.write(readings(1))
    assert outside.letters == []


async def test_a_retry_after_is_kept(outside: Surroundings) -> None:
    left = [Said(429, headers={"Retry-After": "1"}), Said()]
    with HttpTarget(lambda _: left.pop(0)) as target:
        async with outside.opened(Http.model_validate({"url": target.url})) as writer:
            events = readings(1)
            with pytest.raises(Unavailable):
                await writer.write(events)
            began = time.monotonic()
            await writer.write(events)
            assert time.monotonic() - began > 0.9


@pytest.mark.parametrize("status", [302, 400, 401, 404, 410, 422])
async def test_what_is_refused_is_a_dead_letter_with_the_answer(outside: Surroundings, status: int) -> None:
    body = b"no such line: " + b"x" * 1000
    with HttpTarget(lambda asked: Said(status, body) if asked.json["n"] == 1 else Said()) as target:
        await written(outside, readings(3), url=target.url)
    assert [asked.json["n"] for asked in target.asked] == [0, 1, 2]
    [(node, bad, reason, values)] = outside.letters
    assert (node, bad.data["n"]) == ("out", 1)
    assert reason.startswith(f"an answer; got status {status}: no such line: xxx")
    assert len(reason) < 260
    assert values["status"] == status


async def test_a_batch_that_is_refused_is_narrowed_down(outside: Surroundings) -> None:
    bad = {3, 17, 18}
    taken: list[int] = []

    def answer(asked: Asked) -> Said:
        numbers = [item["n"] for item in asked.json]
        if bad & set(numbers):
            return Said(422, b"bad")
        taken.extend(numbers)
        return Said()

    with HttpTarget(answer) as target:
        await written(outside, readings(40), url=target.url, batch=40)
    assert taken == [n for n in range(40) if n not in bad]
    assert [letter[1].data["n"] for letter in outside.letters] == sorted(bad)


async def test_a_batch_that_nobody_may_send_is_not_asked_again(outside: Surroundings) -> None:
    with HttpTarget(lambda _: Said(401)) as target:
        await written(outside, readings(10), url=target.url, batch=10)
    assert len(target.asked) == 1
    assert len(outside.letters) == 10


async def test_after_so_many_tries_it_is_a_dead_letter(outside: Surroundings) -> None:
    with HttpTarget(lambda asked: Said(500 if asked.json["n"] == 0 else 204)) as target:
        options = {"url": target.url, "retry": {"times": 2, "wait": "1ms"}}
        async with outside.opened(Http.model_validate(options)) as writer:
            events = readings(2)
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await writer.write(events)
            await writer.write(events)
    assert [body["n"] for body in target.bodies] == [0, 0, 0, 1]
    [(_, bad, reason, values)] = outside.letters
    assert (bad.data["n"], reason) == (0, "an answer; got status 500")
    assert values == {"cause": "server", "tries": 3}


async def test_several_requests_are_under_way_at_once(outside: Surroundings) -> None:
    with HttpTarget() as target:
        target.held.clear()
        async with outside.opened(Http.model_validate({"url": target.url, "at_once": 4})) as writer:
            task = asyncio.create_task(writer.write(readings(10)))
            await asyncio.to_thread(wait_until, lambda: len(target.asked) == 4, "four are asked")
            target.held.set()
            await task
    assert target.at_once == 4
    assert sorted(body["n"] for body in target.bodies) == list(range(10))


async def test_an_event_without_a_body_costs_itself(outside: Surroundings) -> None:
    events = [event(0, {"n": 1}), event(1, {"n": "x"}), event(2, {"n": 3})]
    with HttpTarget() as target:
        await written(outside, events, url=target.url, body={"half": "n / 2"})
    assert target.bodies == [{"half": 0.5}, {"half": 1.5}]
    [(_, bad, reason, values)] = outside.letters
    assert (bad.data, values) == ({"n": "x"}, {"n": "x"})
    assert reason.startswith("body.half: ")


class Opening(Sink):
    """A sink of an outlet that is opened with surroundings of its own."""

    def __init__(self, sink: Http, outside: Surroundings) -> None:
        super().__init__()
        self._sink, self._outside = sink, outside

    async def open(self, outside: object) -> Any:
        return await self._sink.open(SimpleNamespace(name="out"), self._outside)  # type: ignore[arg-type]


def test_an_outage_loses_nothing_and_turns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a real lane with its spill: the receiver goes away in the middle, and comes back on the same port."""
    for name, value in {"BACK_OFF": (0.001, 0.01), "AWAY": 0.05, "LOOK": 0.005}.items():
        monkeypatch.setattr(lane_module, name, value)
    io, port = Loop(), free_port()
    sink, outside = Http.model_validate({"url": f"http://127.0.0.1:{port}/"}), Surroundings()

    outlet = io.outlet(spills={"out": Spill(tmp_path / "spill" / "out.db", keep_free=0)}, out=Opening(sink, outside))
    try:
        with HttpTarget(port=port) as before:
            outlet.put([("out", readings(20))])
            outlet.flush()
        outlet.put([("out", readings(20, 20))])
        outlet.flush()
        assert outlet.lanes["out"].state.spilled == 20
        outlet.put([("out", readings(20, 40))])
        with HttpTarget(port=port) as after:
            wait_until(lambda: outlet.lanes["out"].state.written == 60, "all is sent", 10)
    finally:
        io.close()
    assert [body["n"] for body in before.bodies + after.bodies] == list(range(60))
    assert outside.letters == []


def test_the_first_of_a_batch_waits_for_others(tmp_path: Path) -> None:
    """Until the batch is full, its time is over, or a snapshot waits for it."""
    io, outside = Loop(), Surroundings()
    with HttpTarget() as target:
        sink = Http.model_validate({"url": target.url, "batch": 5, "linger": "300ms"})
        outlet = io.outlet(spills={"out": Spill(tmp_path / "out.db", keep_free=0)}, out=Opening(sink, outside))
        try:
            outlet.put([("out", readings(1))])
            time.sleep(0.05)
            outlet.put([("out", readings(1, 1))])
            wait_until(lambda: len(target.asked) == 1, "its time is over", 10)
            for n in range(2, 7):
                outlet.put([("out", readings(1, n))])
            began = time.monotonic()
            wait_until(lambda: len(target.asked) == 2, "it is full", 10)
            outlet.flush()
            outlet.put([("out", readings(1, 7))])
            outlet.flush()
            assert time.monotonic() - began < 0.25
        finally:
            io.close()
    assert [[item["n"] for item in body] for body in target.bodies] == [[0, 1], [2, 3, 4, 5, 6], [7]]


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "host:80", "{host}/x", "http://host:99999/", "http:///x", "http://h/{"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Http.model_validate({"url": url})


def test_secrets_are_not_shown() -> None:
    sink = Http.model_validate({"url": SecretStr("https://chat.example/hook/T0K3N"), "sign": {"secret": "whsec_AAAA"}})
    assert "T0K3N" not in f"{sink!r}{sink.model_dump()}"
    assert "AAAA" not in f"{sink!r}{sink.model_dump()}"
    with pytest.raises(ValidationError, match="base64 after whsec_") as caught:
        Http.model_validate({"url": "https://h/", "sign": {"secret": "whsec_?"}})
    assert "whsec_?" not in repr(caught.value.errors()[0]["msg"])
