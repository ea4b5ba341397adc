"""Run one operator over messages: one at a time, or in any batches with restarts and marks between them."""

from typing import Any

import msgspec
import yaml
from hypothesis import strategies as st

from engine.event import Event
from engine.flow import Flow
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.registry import components
from engine.testing import START

SECOND = 1_000_000
LATER = 3600 * SECOND


class Cut(msgspec.Struct, frozen=True):
    """What happens after a batch of `size` messages: a mark, a restart from the snapshot, both or nothing."""

    size: int
    mark: bool
    restart: bool


def flow_of(kind: str, options: Any, key: str = "k", source: str = "{mqtt: {topics: [t]}}") -> Flow:
    """Return a flow of a source, one operator, and a sink at each of its outputs."""
    cls = components("operators")[kind]
    spec: dict[str, Any] = {"flow": "f", "sources": {"given": yaml.safe_load(source)}, "operators": {}, "sinks": {}}
    spec["operators"]["made"] = {"from": "given", kind: options} | ({"key": key} if key else {})
    for output in (*cls.outputs, "errors"):
        spec["sinks"][output] = {"from": f"made.{output}", "log": output}
    spec["sinks"]["out"] = {"from": "made", "log": "out"}
    return load_text(yaml.safe_dump(spec, sort_keys=False)).raise_findings()


def sent(at: float, **data: Any) -> Sent:
    """Return a message that arrives `at` seconds after the start."""
    return Sent(START + round(at * SECOND), "given", msgspec.json.encode(data))


def result(harness: Harness) -> dict[str, list[Any]]:
    """Return what came out for each sink and key, in order: order between keys is not promised."""
    found: dict[str, list[Any]] = {}
    for sink, events in harness.out.items():
        for event in events:
            found.setdefault(f"{sink}/{event.key}", []).append(shown(event))
    for letter in harness.dead:
        found.setdefault(f"dead/{letter.event.key}", []).append((letter.event.id, letter.reason))
    return found


def shown(event: Event) -> tuple[Any, ...]:
    return event.id, event.time, event.arrival, event.topic, event.data


def one_by_one(flow: Flow, messages: list[Sent]) -> dict[str, list[Any]]:
    """Return what comes out when each message is read alone, and time passes at the end."""
    return replayed(flow, messages, [Cut(1, True, False)] * len(messages))


def replayed(flow: Flow, messages: list[Sent], cuts: list[Cut]) -> dict[str, list[Any]]:
    """Return what comes out when the messages are read in batches, with marks and restarts between them."""
    harness, at = Harness(flow), 0
    for cut in [*cuts, Cut(len(messages), False, False)]:
        batch = messages[at : at + cut.size]
        if not batch:
            continue
        harness.read([block_of([message], number, message.at) for number, message in enumerate(batch, at + 1)])
        at += len(batch)
        if cut.mark:
            harness.mark(batch[-1].at)
        if cut.restart:
            harness.restart()
    harness.mark(messages[-1].at + LATER)
    return result(harness)


cuts = st.lists(st.builds(Cut, st.integers(1, 6), st.booleans(), st.booleans()), max_size=12)
gaps = st.sampled_from([1, 1000, 100_000, SECOND // 2, SECOND, 3 * SECOND, 10 * SECOND, 60 * SECOND])
payloads = st.fixed_dictionaries(
    {
        "k": st.sampled_from("abc"),
        "n": st.integers(0, 3),
        "v": st.one_of(st.integers(-5, 5), st.floats(-9, 9), st.none(), st.just("text"), st.just(2**70)),
        "result": st.sampled_from(["OK", "DEFECT", "OTHER", None]),
        "device": st.sampled_from(["led", "wheel", 7]),
        "opens": st.booleans(),
        "behind": st.sampled_from([0, SECOND, 5 * SECOND, 30 * SECOND, -30 * SECOND, -90 * SECOND]),
    }
)


@st.composite
def streams(draw: st.DrawFn) -> list[Sent]:
    """Messages as an inbox has them: each arrives after the one before; `t` is the sender's own clock."""
    at, found = START, []
    for gap, data in draw(st.lists(st.tuples(gaps, payloads), min_size=1, max_size=25)):
        at += gap
        found.append(Sent(at, "given", msgspec.json.encode(data | {"t": (at - int(str(data["behind"]))) / SECOND})))
    return found
