"""`dedupe`: the same again is dropped within a time, never longer, and in bounded memory."""

import time

from hypothesis import given, settings

from engine.event import Event
from engine.harness import Harness, Sent
from engine.testing import START
from operators.dedupe import Dedupe
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def passed(options: dict[str, object], messages: list[Sent], key: str = "k") -> tuple[list[int], int]:
    harness = Harness(flow_of("dedupe", options, key=key))
    for message in messages:
        harness.send([message])
    return [round((event.arrival - START) / SECOND) for event in harness.out["out"]], len(harness.out["repeated"])


def test_it_is_remembered_since_it_was_let_through() -> None:
    messages = [sent(at, k="a", n=1) for at in (0, 4, 9, 10, 15)]
    assert passed({"by": "n", "within": "10s"}, messages) == ([0, 10], 3)


def test_without_by_the_whole_payload_counts_in_any_order_of_fields() -> None:
    messages = [
        Sent(START + at, "given", payload)
        for at, payload in enumerate([b'{"a":1,"b":2}', b'{"b":2,"a":1}', b'{"a":1}'])
    ]
    assert passed({"within": "10s"}, messages, key="") == ([0, 0], 1)


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    messages = [sent(at, k="a", n=n) for at, n in enumerate([1, 2, 3, 1])]
    assert passed({"by": "n", "within": "1h", "most": 2}, messages) == ([0, 1, 2, 3], 0)


def test_a_key_is_forgotten_when_nothing_of_it_is_remembered() -> None:
    harness = Harness(flow_of("dedupe", {"within": "10s"}))
    harness.send([sent(0, k=str(key)) for key in range(100)])
    harness.tick(START + LATER)
    assert sum(len(shard.states) for shard in harness.shards["made"].values()) == 0


def test_much_that_is_remembered_does_not_make_it_slow() -> None:
    """An event costs the same whether ten or a hundred thousand are remembered."""
    operator, state = Dedupe(), {f"{n:032x}": START + n for n in range(100_000)}
    event = Event(b"", START + 200_000, "k", "", "", {"n": 1}, None, START + 200_000)
    begin = time.perf_counter()
    for _ in range(1000):
        operator.on_event(state, event, lambda event, output="": None)  # type: ignore[arg-type]
        operator.due(state)
    assert time.perf_counter() - begin < 0.5


@settings(max_examples=60)
@given(messages=streams())
def test_it_lets_through_what_a_list_of_all_would(messages: list[Sent]) -> None:
    harness = Harness(flow_of("dedupe", {"by": "n", "within": "5s"}))
    for message in messages:
        harness.send([message])
    last: dict[tuple[str, int], int] = {}
    expected = []
    for event in sorted(harness.out["out"] + harness.out["repeated"], key=lambda event: event.id):
        same = event.key, event.data["n"]
        if event.arrival - last.get(same, 0) >= 5 * SECOND:
            last[same] = event.arrival
            expected.append(event.id)
    assert sorted(event.id for event in harness.out["out"]) == expected
