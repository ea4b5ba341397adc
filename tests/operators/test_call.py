"""`call` at a real server: answers, faults, order and time; the rest is in tests/engine/test_desk.py."""

from functools import partial
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.asking import NoAnswer
from engine.errors import EventFault, FlowInvalid
from engine.event import Event
from engine.flow import Flow
from engine.harness import Sent
from engine.http_client import HttpAnswer
from engine.load import load_text
from engine.substitution import Surroundings
from engine.testing import START, run_tests
from tests.model_server import Asked, ModelServer, Said, labels
from tests.operators.outside_case import Live
from tests.process import free_port

QUICK = {"retry": {"times": 1, "wait": "1ms"}, "timeout": "5s"}


def flow_of(server: ModelServer | str, **options: Any) -> Flow:
    url = server if isinstance(server, str) else server.url
    spec = {
        "flow": "f",
        "sources": {"given": {"mqtt": {"topics": ["t"]}}},
        "operators": {"asked": {"from": "given", "call": {"url": url, **QUICK, **options}}},
        "sinks": {"out": {"from": "asked", "log": "out"}, "past": {"from": "given", "log": "past"}},
    }
    return load_text(yaml.safe_dump(spec)).raise_findings()


def readings(first: int, number: int) -> list[Sent]:
    return [Sent(START + n, "given", msgspec.json.encode({"n": n})) for n in range(first, first + number)]


def _say(said: Said, _asked: Asked) -> Said:
    return said


def numbers(live: Live, sink: str = "out") -> list[int]:
    return [event.data["n"] for event in live.out[sink]]


def reasons(live: Live) -> list[tuple[int, str]]:
    return [(letter.event.data["n"], letter.reason) for letter in live.dead]


def test_batches_of_events_go_on_in_order_with_their_answers() -> None:
    with ModelServer() as server, Live(flow_of(server, batch=32, linger="20ms", fields=["label"])) as live:
        live.read_all(readings(0, 100))
        live.settle()
        assert [event.data for event in live.out["out"]] == [
            {"n": n, "label": "ok" if n % 3 else "hot"} for n in range(100)
        ]
        assert [len(asked.body) for asked in server.asked] == [32, 32, 32, 4]
        assert live.ledger().remainder == 0


def test_an_event_a_request_so_many_at_once() -> None:
    with ModelServer() as server, Live(flow_of(server, at_once=3, **{"as": "found"})) as live:
        server.held.clear()
        live.read_all(readings(0, 10))
        live.settle(lambda: len(server.asked) == 3)
        server.held.set()
        live.settle()
        assert server.at_once == 3
        assert [event.data["found"]["score"] for event in live.out["out"]] == [n / 1000 for n in range(10)]


def test_what_is_sent() -> None:
    options = {"method": "PUT", "headers": {"X-Line": "7"}, "body": {"twice": "n * 2"}, "as": "a"}
    with ModelServer(lambda asked: Said(body=[])) as server, Live(flow_of(server, **options)) as live:
        live.read_all(readings(4, 1))
        live.settle()
        (asked,) = server.asked
        assert (asked.method, asked.path, asked.body) == ("PUT", "/predict", {"twice": 8})
        assert asked.headers["X-Line"] == "7"
        assert asked.headers["Content-Type"] == "application/json"


def test_fields_of_the_event_and_parameters_of_the_address() -> None:
    with ModelServer(lambda asked: Said(body={"ok": True})) as server:
        with Live(flow_of(server, method="GET", query={"n": "n", "text": "'a b&c'", "gone": "gone"})) as live:
            live.read_all(readings(4, 1))
            live.settle()
        assert [(asked.method, asked.path, asked.body) for asked in server.asked] == [
            ("GET", "/predict?n=4&text=a+b%26c", None)
        ]
        with Live(flow_of(server, body=["n", "m"])) as live:
            live.read_all(readings(4, 1))
            live.settle()
            assert server.asked[-1].body == {"n": 4, "m": None}


def test_an_array_and_its_answers_inside_of_objects() -> None:
    def served(asked: Asked) -> Said:
        return Said(body={"predictions": [one["n"] + 1 for one in asked.body["instances"]]})

    options = {"batch": 8, "batch_as": "instances", "answer": "predictions", "as": "next"}
    with ModelServer(served) as server, Live(flow_of(server, **options)) as live:
        live.read_all(readings(0, 5))
        live.settle()
        assert [event.data for event in live.out["out"]] == [{"n": n, "next": n + 1} for n in range(5)]


def test_a_secret_comes_from_the_settings_and_is_shown_nowhere() -> None:
    with ModelServer() as server:
        text = f"""
flow: f
settings: {{token: {{env: TOKEN, secret: true}}, key: {{env: KEY, secret: true}}}}
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators:
  asked: {{from: given, call: {{url: "{server.url}", bearer: "${{token}}", headers: {{X-Key: "${{key}}"}}}}}}
sinks: {{out: {{from: asked, log: out}}}}
"""
        flow = load_text(text, around=Surroundings({"TOKEN": "hush", "KEY": "quiet"})).raise_findings()
        with Live(flow) as live:
            live.read_all(readings(0, 1))
            live.settle()
        assert server.asked[0].headers["Authorization"] == "Bearer hush"
        assert server.asked[0].headers["X-Key"] == "quiet"
        shown = repr(flow.nodes["asked"])
        assert "hush" not in shown
        assert "quiet" not in shown


def test_a_refused_batch_is_asked_in_halves_and_the_event_at_fault_is_a_dead_letter() -> None:
    def picky(asked: Asked) -> Said:
        bad = [one["n"] for one in asked.body if one["n"] in (5, 11)]
        return Said(422, b"no model for " + str(bad).encode()) if bad else labels(asked)

    with ModelServer(picky) as server, Live(flow_of(server, batch=16, linger="50ms")) as live:
        live.read_all(readings(0, 16))
        live.settle()
        assert numbers(live) == [n for n in range(16) if n not in (5, 11)]
        assert reasons(live) == [(n, f"an answer; got status 422: no model for [{n}]") for n in (5, 11)]
        assert live.dead[0].values == {"status": 422, "body": "no model for [5]"}
        assert live.ledger().dead == 2


def test_what_no_event_is_at_fault_for_is_not_asked_in_halves() -> None:
    for said in (Said(401, b"who?"), Said(302, b""), Said(200, b"<html>"), Said(200, [1, 2]), Said(200, {"a": 1})):
        with (
            ModelServer(partial(_say, said)) as server,
            Live(flow_of(server, batch=8, linger="50ms")) as live,
        ):
            live.read_all(readings(0, 8))
            live.settle()
            assert (len(server.asked), len(live.dead), live.out["out"]) == (1, 8, []), said
            live.dead.clear()


@pytest.mark.parametrize(
    ("said", "cause"),
    [(Said(503, b"loading"), "server"), (Said(429, b""), "busy"), (Said(cut=True), "connection")],
)
def test_no_answer_is_tried_again(said: Said, cause: str) -> None:
    failing = [said, said]
    with ModelServer(lambda asked: failing.pop() if failing else labels(asked)) as server:
        with Live(flow_of(server, retry={"times": 2, "wait": "1ms"})) as live:
            live.read_all(readings(0, 1))
            live.settle()
            assert numbers(live) == [0]
            assert live.run.outstanding.counts("asked")["retries"] == 2
        failing += [said, said]
        causes = [other for other in ("connection", "timeout", "busy", "server") if other != cause]
        with Live(flow_of(server, retry={"times": 2, "wait": "1ms", "causes": causes})) as live:
            live.read_all(readings(0, 1))
            live.settle()
            assert len(live.dead) == 1
            assert live.dead[0].values["cause"] == cause


def test_a_server_that_says_when_to_come_again() -> None:
    assert flow_of("http://h/p").nodes["asked"].component.terms().retry.pause(0, 2.0) == 2.0  # type: ignore[attr-defined]
    said = [Said(429, b"", {"Retry-After": "1"})]
    with ModelServer(lambda asked: said.pop() if said else labels(asked)) as server, Live(flow_of(server)) as live:
        live.read_all(readings(0, 1))
        live.settle()
        assert numbers(live) == [0]


def test_an_answer_that_does_not_come_in_time() -> None:
    with ModelServer() as server, Live(flow_of(server, timeout="50ms", fallback={"label": "'unknown'"})) as live:
        server.held.clear()
        live.read_all(readings(0, 2))
        live.settle()
        assert [event.data for event in live.out["out"]] == [{"n": n, "label": "unknown"} for n in range(2)]
        assert len(server.asked) == 4


def test_nobody_is_there() -> None:
    with Live(flow_of(f"http://127.0.0.1:{free_port()}/x")) as live:
        live.read_all(readings(0, 1))
        live.settle()
        assert live.dead[0].values == {"cause": "connection"}
        assert "Connect call failed" in live.dead[0].reason


def test_the_breaker_leaves_the_server_alone_and_tries_it_again() -> None:
    well: list[bool] = []
    options = {"breaker": {"failures": 3, "for": "300ms"}, "at_once": 1, "fallback": {"label": "'rule'"}}
    server = ModelServer(lambda asked: labels(asked) if well else Said(500))
    with server, Live(flow_of(server, **options)) as live:
        live.read_all(readings(0, 50))
        live.settle()
        assert numbers(live) == [*range(50)]
        assert {event.data["label"] for event in live.out["out"]} == {"rule"}
        assert len(server.asked) == 3
        assert live.run.outstanding.counts("asked")["away"] == 1
        well.append(True)
        number = 50
        while live.out["out"][-1].data["label"] == "rule":
            live.read_all(readings(number, 1))
            live.settle()
            number += 1
        assert live.run.outstanding.counts("asked")["away"] == 0


def test_the_rest_of_the_flow_goes_on_while_the_server_hangs() -> None:
    with ModelServer() as server, Live(flow_of(server, batch=4)) as live:
        server.held.clear()
        live.read_all(readings(0, 40))
        assert numbers(live, "past") == [*range(40)]
        assert live.waiting() == 40
        assert live.ledger().in_flight == 40
        assert live.ledger().remainder == 0
        server.held.set()
        live.settle()
        assert numbers(live) == [*range(40)]
        assert live.ledger().in_flight == 0


def test_what_waits_is_asked_for_again_after_a_restart() -> None:
    with ModelServer() as server, Live(flow_of(server, batch=4)) as live:
        server.held.clear()
        live.read_all(readings(0, 10))
        snapshot = live.snapshot()
        server.held.set()
        live.resume(snapshot)
        live.settle(lambda: len(live.out["out"]) >= 10)
        assert numbers(live) == [*range(10)]


def test_a_fallback_that_cannot_be_computed_is_a_dead_letter() -> None:
    with ModelServer(lambda asked: Said(500)) as server, Live(flow_of(server, fallback={"x": "n / 0"})) as live:
        live.read_all(readings(0, 1))
        live.settle()
        assert [letter.node for letter in live.dead] == ["asked"]


def test_an_answer_that_is_too_large() -> None:
    with ModelServer(lambda asked: Said(body="x" * 5000)) as server, Live(flow_of(server, largest="1KiB")) as live:
        live.read_all(readings(0, 1))
        live.settle()
        assert reasons(live) == [(0, "an answer of at most 1024 bytes; got more")]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"url": "ftp://x"}, "an address like http://host:port/path"),
        ({"method": "GET", "batch": 2}, "a body, in which several events can be; got method GET"),
        ({"batch": 2, "query": {"a": "n"}}, "got query, which differs from event to event"),
        ({"method": "GET", "body": ["n"]}, "a method that sends one; got GET"),
        ({"linger": "1s"}, "batch beside it; got none"),
        ({"batch_as": "instances"}, "batch beside it; got none"),
        ({"breaker": {"failures": 1}}, "fallback beside it: what events get then; got none"),
        ({"when_full": "fallback"}, "fallback beside it: what events get then; got none"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], found: str) -> None:
    with pytest.raises(FlowInvalid) as raised:
        flow_of("http://h/p", **options)
    assert found in str(raised.value)


@pytest.mark.parametrize(("sources", "found"), [("asked", False), ("[asked, given]", True)])
def test_who_counts_in_order_cannot_take_what_is_asked_for_and_what_goes_past_it(sources: str, found: bool) -> None:
    text = f"""
flow: f
tables: {{car: {{id: serial, created_at: time}}}}
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators:
  asked: {{from: given, call: {{url: http://h/p}}}}
  cars:  {{from: {sources}, group: {{opens: "true", as: car, table: car}}}}
sinks: {{out: {{from: cars, log: x}}}}
"""
    codes = [finding.code for finding in load_text(text).document.findings]
    assert codes == (["order"] if found else [])


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["label", "p", "n"]), inner, max_size=3)
    ),
    max_leaves=8,
)
bodies = st.one_of(json.map(msgspec.json.encode), st.binary(max_size=20))


@settings(max_examples=300, deadline=None)
@given(
    status=st.sampled_from([200, 200, 200, 204, 301, 400, 404, 429, 500, 599]),
    body=bodies,
    options=st.fixed_dictionaries(
        {},
        optional={
            "batch": st.just(2),
            "answer": st.sampled_from(["p", "p.label", "length(p)", "p + 1", "[p, n]"]),
            "as": st.just("a"),
            "fields": st.just(["label"]),
        },
    ),
)
def test_whatever_comes_back_is_an_answer_or_refused(status: int, body: bytes, options: dict[str, Any]) -> None:
    call = flow_of("http://h/p", **options).nodes["asked"].component
    event = Event(b"id", 0, "", "", "", {"n": 1})
    try:
        for answer in call.answers(HttpAnswer(status, body), call.batch or 1):  # type: ignore[attr-defined]
            merged = call.merge(event, answer)  # type: ignore[attr-defined]
            assert merged.data["n"] == 1 or "n" in answer
            assert merged.id == b"id"
    except (NoAnswer, EventFault):
        return


def test_a_field_to_send_that_does_not_come_in() -> None:
    text = """
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  checked: {from: given, validate: {number: int}}
  asked:   {from: checked, call: {url: http://h/p, body: [numbr], fallback: {x: nummer}, answer: whatever}}
sinks: {out: {from: asked, log: x}}
"""
    found = [(finding.option, finding.hint) for finding in load_text(text).document.findings]
    assert sorted(found) == [("body.0", "did you mean 'number'?"), ("fallback.x", "did you mean 'number'?")]


TESTED = """
flow: f
sources: {given: {http: {post: /in, allow: anyone}}}
operators:
  asked:
    from: given
    call:
      url: http://127.0.0.1:9/predict
      batch: 8
      breaker: {failures: 2, for: 10s}
      retry: {times: 1, wait: 1s}
      fallback: {label: '"rule"'}
sinks: {out: {from: asked, log: out}}
tests:
  - name: answers in order, and by what is asked
    answers:
      asked: [{body: {label: first}}, {fails: busy}, {body: {label: again}}, {when: n > 8, body: {label: big}}]
    send: [{to: given, data: {n: 1}}, {to: given, data: {n: 2}}, {to: given, data: {n: 9}}, {to: given, data: {n: 10}}]
    expect: {out: [{label: first}, {label: again}, {label: big}, {label: big}]}
  - name: a refusal is a dead letter
    answers: {asked: [{status: 422, body: unfit}]}
    send: [{to: given, data: {n: 1}}]
    expect: {out: [], deadletters: [{node: asked, status: 422, reason: {contains: "status 422: unfit"}}]}
  - name: the breaker opens after two failures in a row, and closes after ten seconds
    answers: {asked: [{status: 503, times: 2}, {body: {label: model}, times: 2}]}
    send:
      - {at: 0s, to: given, data: {n: 1}}
      - {at: 3s, to: given, data: {n: 2}}
      - {at: 12s, to: given, data: {n: 3}}
      - {at: 13s, to: given, data: {n: 4}}
    expect: {out: [{label: rule}, {label: rule}, {label: model}, {label: model}]}
  - name: without answers nobody is asked
    send: [{to: given, data: {n: 1}}]
    restart: [1s]
    expect: {out: [{label: rule}]}
"""


def test_a_flow_test_gives_the_answers() -> None:
    outcomes = run_tests(load_text(TESTED).raise_findings())
    assert [outcome.differences for outcome in outcomes] == [[]] * 4


def test_answers_to_a_node_that_asks_nobody() -> None:
    wrong = TESTED.replace("answers: {asked: [{status: 422", "answers: {askd: [{status: 422")
    (finding,) = load_text(wrong).document.findings
    assert (finding.code, finding.hint) == ("test", "did you mean 'asked'?")
    assert finding.message == "a node that asks somebody outside; got 'askd'"


def test_a_flow_test_that_fails() -> None:
    wrong = TESTED.replace("{body: {label: again}}", "{body: {label: other}}")
    assert run_tests(load_text(wrong).raise_findings())[0].differences
