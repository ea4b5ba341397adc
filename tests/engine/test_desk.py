"""What waits for answers: however late and in whatever order they come, what comes out is as if they came at once."""

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.asking import NoAnswer, Question
from engine.component import Place
from engine.errors import EventFault
from engine.fingerprints import fingerprints
from engine.flow import Flow
from engine.given import GivenAnswer
from engine.harness import Harness, Sent, block_of
from engine.keyed import Clock
from engine.load import load_text
from engine.retry import ENTRY
from engine.testing import START
from tests.operators.outside_case import ByHand
from tests.operators.replay import LATER, SECOND, by_id, result

TEXT = """
flow: f
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators:
  asked:
    from: given
    key: k
    call: {{url: http://h/p, retry: {{times: 0}}, as: a {options}}}
  throttled: {{from: asked, key: k, throttle: {{every: 3s, keep: last}}}}
  again:     {{from: asked, where: n > 0, call: {{url: http://h/q, retry: {{times: 0}}, as: b}}}}
  held:      {{from: again, key: k, throttle: {{every: 10s, keep: last}}}}
  beside:    {{from: given, key: k, throttle: {{every: 3s, keep: last}}}}
sinks:
  out:    {{from: throttled, log: x}}
  later:  {{from: held, log: x}}
  direct: {{from: beside, log: x}}
  bad:    {{from: asked.errors, log: x}}
"""
RULES = [
    {"when": "n == 3", "status": 422, "body": "three"},
    {"when": "n == 2", "fails": "server"},
    {"when": "true", "body": 7},
]


def flow_of(options: str = "") -> Flow:
    return load_text(TEXT.format(options=f", {options}" if options else "")).raise_findings()


FLOW = flow_of()


def outcome(harness: ByHand, question: Question) -> tuple[Any, Exception | None]:
    """Return what RULES say of a question."""
    number = question.event.data["n"]
    if number == 3:
        return None, EventFault("an answer; got status 422: three", {"status": 422, "body": "three"})
    return (None, NoAnswer("an answer; got none (server)", "server")) if number == 2 else (7, None)


def at_once(messages: list[Sent]) -> Harness:
    answers = [GivenAnswer.model_validate(rule) for rule in RULES]
    harness = Harness(FLOW, answers={"asked": answers, "again": answers})
    for number, message in enumerate(messages, 1):
        harness.tick(message.at - 1)
        harness.read([block_of([message], number, message.at)])
        harness.tick(message.at)
    harness.mark(messages[-1].at + LATER)
    return harness


@st.composite
def readings(draw: st.DrawFn) -> list[Sent]:
    """Events of few keys, about as far apart as the timers behind the node are long."""
    at, found = START, []
    for gap, number, key in draw(
        st.lists(
            st.tuples(st.sampled_from([1, 1000, 2000, 4000]), st.integers(0, 4), st.sampled_from("ab")),
            min_size=1,
            max_size=12,
        )
    ):
        at += gap * SECOND // 1000
        found.append(Sent(at, "given", msgspec.json.encode({"n": number, "k": key})))
    return found


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 3)),
        st.tuples(st.just("answer"), st.integers(0, 30)),
        st.tuples(st.just("tick"), st.integers(0, 2)),
        st.tuples(st.just("restart"), st.integers(0, 3)),
    ),
    max_size=40,
)


class Play:
    """Plays steps: reads, answers in any order, lets time pass as the feed would, restarts from earlier snapshots."""

    def __init__(self, messages: list[Sent]) -> None:
        self.messages, self.harness, self.at = messages, ByHand(FLOW), 0
        self.rewound = False
        self.taken = [(0, self.harness.snapshot())]

    def step(self, what: str, number: int) -> None:
        getattr(self, what)(number)
        self.rewound = self.rewound or what == "restart"
        assert self.rewound or self.harness.ledger().remainder == 0
        self.taken.append((self.at, self.harness.snapshot()))

    def read(self, number: int) -> None:
        batch = self.messages[self.at : self.at + number]
        if batch:
            self.harness.read([block_of([m], n, m.at) for n, m in enumerate(batch, self.at + 1)])
            self.at += len(batch)

    def answer(self, number: int) -> None:
        waiting = self.harness.questions
        if waiting:
            question = waiting[number % len(waiting)]
            self.harness.answer(question, *outcome(self.harness, question))

    def tick(self, late: int) -> None:
        if self.at:
            end = self.messages[self.at].at - 1 if self.at < len(self.messages) else self.messages[-1].at + LATER
            self.harness.tick((self.messages[self.at - 1].at, end, end)[late])

    def restart(self, back: int) -> None:
        self.at, snapshot = self.taken[-1 - min(back, len(self.taken) - 1)]
        self.harness.resume(snapshot)

    def finish(self) -> Harness:
        self.read(len(self.messages))
        while self.harness.questions:
            self.answer(0)
        self.harness.mark(self.messages[-1].at + LATER)
        while self.harness.questions:
            self.answer(0)
        return self.harness


@settings(max_examples=150, deadline=None)
@given(messages=readings(), steps=steps)
def test_late_answers_in_any_order_with_restarts_give_what_answers_at_once_give(
    messages: list[Sent], steps: list[tuple[str, int]]
) -> None:
    play = Play(messages)
    for what, number in steps:
        play.step(what, number)
    found, wanted = result(play.finish()), result(at_once(messages))
    assert by_id(found) == by_id(wanted)
    if not play.rewound:
        assert found == wanted


def sent(*numbers: int, gap: float = 1.0) -> list[Sent]:
    return [
        Sent(START + round(i * gap * SECOND), "given", msgspec.json.encode({"n": n, "k": "a"}))
        for i, n in enumerate(numbers)
    ]


def read(harness: Harness, messages: list[Sent]) -> None:
    harness.read([block_of([m], harness.head + number, m.at) for number, m in enumerate(messages, 1)])


def full(harness: Harness) -> bool:
    return harness.run.outstanding.full


def test_nothing_is_outstanding_twice_and_time_does_not_pass_behind_what_waits() -> None:
    harness = ByHand(FLOW)
    read(harness, sent(0, 1))
    assert len(harness.questions) == 2
    harness.answer(harness.questions[1], 7)
    assert harness.out["out"] == []
    harness.mark(START + 60 * SECOND)
    assert [event.data["n"] for event in harness.out["direct"]] == [0, 1]
    harness.answer(harness.questions[0], 7)
    assert [event.data["n"] for event in harness.out["out"]] == [0, 1]


def test_the_feed_is_not_asked_for_a_time_that_is_on_its_way() -> None:
    """Else a worker whose model hangs would ask for the time without a pause."""
    harness = ByHand(FLOW)
    read(harness, sent(0))
    harness.answer(harness.questions[0], 7)
    read(harness, [Sent(START + SECOND, "given", msgspec.json.encode({"n": 0, "k": "a"}))])
    (due,) = {due for (node, _), due in harness.run.clock._due.items() if node == "throttled"}
    harness.mark(due + 1)
    assert harness.run.clock.next() != due
    harness.answer(harness.questions[0], 7)
    assert [event.arrival for event in harness.out["out"]] == [START, due]


def test_a_promise_covers_the_times_up_to_it_at_the_nodes_behind() -> None:
    clock = Clock()
    clock.set("a", "0", 10)
    clock.set("b", "0", 20)
    assert clock.next() == 10
    clock.promise("call", frozenset({"a"}), 10)
    assert clock.next() == 20
    clock.set("a", "0", 11)
    assert clock.next() == 11
    clock.promise("call", frozenset({"a"}), None)
    clock.set("a", "0", 10)
    assert clock.next() == 10


def test_when_too_many_wait_nothing_more_is_read() -> None:
    harness = ByHand(flow_of("most: 3"))
    read(harness, sent(0, 0))
    assert not full(harness)
    read(harness, sent(0))
    assert full(harness)
    harness.answer(harness.questions[1], 7)
    assert full(harness)
    harness.answer(harness.questions[0], 7)
    assert not full(harness)


def test_when_too_many_wait_what_comes_gets_the_fallback_in_its_turn() -> None:
    harness = ByHand(flow_of("most: 2, when_full: fallback, fallback: {a: 0}"))
    read(harness, sent(0, 0, 0, gap=5))
    assert len(harness.questions) == 2
    assert harness.out["out"] == []
    assert not full(harness)
    read(harness, sent(0, gap=5))
    assert full(harness)
    for _ in range(2):
        harness.answer(harness.questions[0], 7)
    assert [event.data["a"] for event in harness.out["out"]] == [7, 7, 0]
    assert harness.run.outstanding.counts("asked")["fallbacks"] == 2
    assert harness.ledger().remainder == 0


def test_what_waits_is_in_flight() -> None:
    harness = ByHand(FLOW)
    read(harness, sent(0, 0))
    assert harness.ledger().in_flight == 2
    harness.answer(harness.questions[0], 7)
    assert harness.ledger().in_flight == 1
    harness.restart()
    assert len(harness.questions) == 1
    harness.answer(harness.questions[0], 7)
    assert (harness.ledger().in_flight, harness.ledger().remainder) == (0, 0)


def test_a_replay_asks_nobody() -> None:
    for options, found in (("", {}), ("fallback: {a: 1}", {"a": 1})):
        flow = flow_of(options)
        muted = {
            name: msgspec.structs.replace(node, component=node.component.deployed(Place(Path(), muted=True)))
            for name, node in flow.nodes.items()
        }
        harness = ByHand(msgspec.structs.replace(flow, nodes=muted))
        read(harness, sent(0))
        assert [event.data for event in harness.out["out"]] == [{"n": 0, "k": "a"} | found]
        assert (harness.questions, harness.dead) == ([], [])


def test_what_is_asked_is_what_was_known_when_the_event_came() -> None:
    """Rows of live tables change meanwhile: what waits does not see it, and what cannot be asked costs itself only."""
    text = TEXT.format(options=", body: {x: 6 / n}")
    harness = ByHand(load_text(text).raise_findings())
    read(harness, sent(2, 0, 3))
    assert [msgspec.json.decode(question.request.body) for question in harness.questions] == [{"x": 3.0}, {"x": 2.0}]
    for question in [*harness.questions]:
        harness.answer(question, 7)
    assert [letter.event.data["n"] for letter in harness.dead] == [0]
    assert "division by zero" in harness.dead[0].reason


def test_a_dead_letter_that_is_retried_is_asked_for_again() -> None:
    harness = ByHand(FLOW)
    read(harness, sent(3))
    harness.answer(harness.questions[0], fault=EventFault("an answer; got status 422"))
    event = harness.dead[0].event
    harness._route(harness.plan.run_sources([(f"{ENTRY}asked", [event])]))
    harness.answer(harness.questions[0], 7)
    assert [made.data for made in harness.out["out"]] == [{"n": 3, "k": "a", "a": 7}]
    assert [made.id for made in harness.out["out"]] == [event.id]


def test_what_is_dropped_by_policy_is_no_dead_letter() -> None:
    harness = ByHand(
        load_text(TEXT.format(options="").replace("    key: k\n", "    on_error: drop\n", 1)).raise_findings()
    )
    read(harness, sent(3))
    harness.answer(harness.questions[0], fault=EventFault("an answer; got status 422"))
    assert harness.dead == []
    assert (harness.ledger().dropped, harness.ledger().remainder) == (1, 0)


def test_any_option_may_change_while_events_wait() -> None:
    before, after = fingerprints(FLOW), fingerprints(flow_of("batch: 8, fields: [label], most: 5"))
    assert before["asked"].difference(after["asked"]) == ""
