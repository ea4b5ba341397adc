"""Run one operator over messages: one at a time, or in any batches with restarts and marks between them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml
from hypothesis import strategies as st

from engine.event import Event
from engine.flow import Flow
from engine.gap import Gap
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.registry import components
from engine.testing import START

SECOND = 1_000_000
LATER = 3600 * SECOND


class Cut(msgspec.Struct, frozen=True):
    """What happens after a batch of `size` messages: a mark, a restart from a snapshot, both or nothing.

    A mark comes with the last message, or later: before the next gap (1) or before the next message (2). The snapshot
    is that after this batch, or `back` earlier: what came since is read again.
    """

    size: int
    mark: bool
    restart: bool
    late: int = 0
    back: int = 0


class Traffic(msgspec.Struct, frozen=True):
    """Messages, and the gaps between them in which the gateway was down."""

    messages: list[Sent]
    gaps: list[Gap] = []

    def mark(self, at: int, late: int) -> int:
        """Return when a mark comes that follows the message before this index."""
        last = self.messages[at - 1].at
        end = self.messages[at].at - 1 if at < len(self.messages) else last + LATER
        gap = next((gap for gap in self.gaps if last <= gap.start < end), Gap(end, end))
        return (last, gap.start, max(gap.start, end) if end >= gap.end else gap.start)[late]


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


def one_by_one(flow: Flow, messages: list[Sent], gaps: Sequence[Gap] = ()) -> dict[str, list[Any]]:
    """Return what comes out when each message is read alone, and time passes at the end."""
    return replayed(flow, messages, [Cut(1, True, False)] * len(messages), gaps)


def replayed(flow: Flow, messages: list[Sent], cuts: list[Cut], gaps: Sequence[Gap] = ()) -> dict[str, list[Any]]:
    """Return what comes out when the messages are read in batches, with marks and restarts between them."""
    traffic, harness, at = Traffic(messages, list(gaps)), Harness(flow), 0
    taken = [(0, harness.snapshot())]
    for cut in [*cuts, Cut(len(messages), False, False)]:
        batch = messages[at : at + cut.size]
        if not batch:
            continue
        _learn(harness, gaps, batch[-1].at)
        harness.read([block_of([message], number, message.at) for number, message in enumerate(batch, at + 1)])
        at += len(batch)
        if cut.mark:
            mark = traffic.mark(at, cut.late)
            _learn(harness, gaps, mark)
            harness.mark(mark)
        taken.append((at, harness.snapshot()))
        if cut.restart:
            at, snapshot = taken[-1 - min(cut.back, len(taken) - 1)]
            harness.resume(snapshot)
    if at < len(messages):
        return replayed_rest(harness, traffic, at)
    return _ended(harness, traffic)


def replayed_rest(harness: Harness, traffic: Traffic, at: int) -> dict[str, list[Any]]:
    """Read what is left after the last restart."""
    _learn(harness, traffic.gaps, traffic.messages[-1].at)
    harness.read([block_of([m], number, m.at) for number, m in enumerate(traffic.messages[at:], at + 1)])
    return _ended(harness, traffic)


def _ended(harness: Harness, traffic: Traffic) -> dict[str, list[Any]]:
    end = traffic.messages[-1].at + LATER
    _learn(harness, traffic.gaps, end)
    harness.mark(end)
    return result(harness)


def _learn(harness: Harness, gaps: Sequence[Gap], time: int) -> None:
    """Tell of the gaps up to a time, as the feed does when it comes there."""
    for gap in gaps:
        if gap.end <= time and gap not in harness.gaps:
            harness.down(*gap)


def by_id(found: dict[str, list[Any]]) -> dict[str, dict[bytes, Any]]:
    """Return what came out for each sink and key by event id; the same id must always be the same event."""
    kept: dict[str, dict[bytes, Any]] = {}
    for name, events in found.items():
        for event in events:
            assert kept.setdefault(name, {}).setdefault(event[0], event) == event, name
    return kept


cuts = st.lists(st.builds(Cut, st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 2)), max_size=12)
kills = st.lists(
    st.builds(Cut, st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, 4)), max_size=15
)
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


@st.composite
def traffic(draw: st.DrawFn) -> Traffic:
    """Messages with outages between them, in which senders wait: what they send afterwards may be of before."""
    found, outages, shift = list[Sent](), list[Gap](), 0
    for message in draw(streams()):
        found.append(Sent(message.at + shift, message.source, message.payload))
        if draw(st.integers(0, 4)) == 0:
            start = found[-1].at + draw(gaps)
            outages.append(Gap(start, start + draw(st.sampled_from([2, 15, 25, 70, 3600])) * SECOND))
            shift = outages[-1].end - message.at
    if outages and outages[-1].start > found[-1].at:
        outages.pop()
    return Traffic(found, outages)
