"""Run a flow's own `tests:` and say what differs."""

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

import msgspec

from engine.dead import DeadLetter
from engine.event import MICROSECONDS, microseconds
from engine.expectation import compare, differences
from engine.flow import Flow, Node
from engine.flow_tests import Advance, Change, FlowTest, Restart, Send, wanted_of
from engine.gap import PAUSE
from engine.harness import Harness, Sent
from engine.pushed import pushing, sent

START = 1_700_000_000 * MICROSECONDS


class Outcome(msgspec.Struct):
    """One test of one flow; `differences` is empty when it holds, `seconds` is what it took."""

    flow: str
    test: str
    differences: list[str]
    seconds: float = 0.0


def run_tests(flow: Flow) -> list[Outcome]:
    """Run every test of a flow, each on a new harness."""
    return [_outcome(flow, test) for test in flow.tests]


def _outcome(flow: Flow, test: FlowTest) -> Outcome:
    begin = perf_counter()
    found = list(run_test(flow, test))
    return Outcome(flow.name, test.name, found, perf_counter() - begin)


def run_test(flow: Flow, test: FlowTest) -> Iterator[str]:
    """Yield how the outcome differs from what the test expects."""
    harness = played(flow, test)
    for name, expected in test.expect.items():
        yield from compare(name, wanted_of(expected), actual(harness, name), exactly=test.exactly)


def played(flow: Flow, test: FlowTest, taps: Iterable[str] = ()) -> Harness:
    """Return the harness after all that the test sends; it has what is expected, and these further taps."""
    harness = Harness(flow, taps=dict.fromkeys([*_tapped(flow, test.expect), *taps]), answers=test.answers)
    start = START if test.start is None else microseconds(test.start)
    for table, rows in test.tables.items():
        harness.put(0, table, rows)
    last = start
    for planned, step in _planned(test, start):
        at = last = max(planned, last)
        if isinstance(step, Restart):
            last = _restart(harness, at, step.down)
        elif isinstance(step, Advance):
            harness.tick(at)
        elif isinstance(step, Change):
            _change(harness, at, step)
        else:
            harness.send([Sent(at, step.to, _payload(step), step.topic, step.meta)])
    harness.tick(last + test.advance)
    return harness


def _tapped(flow: Flow, names: Iterable[str]) -> list[str]:
    """Return the wires that nothing takes by itself: neither sinks nor events of channels."""
    sinks = {node.name for node in flow.section("sinks")}
    return [name for name in names if name != "deadletters" and name not in sinks and not pushing(flow, name)]


def _planned(test: FlowTest, start: int) -> list[tuple[int, Send | Change | Advance | Restart]]:
    """Return when each step is to be, in order; a restart comes before what is sent at its time."""
    steps: list[tuple[int, int, Send | Change | Advance | Restart]] = [(start + r.at, 0, r) for r in test.restart]
    at = 0
    for step in test.send:
        at = at + step.advance if isinstance(step, Advance) else at if step.at is None else step.at
        steps += [(start + at, 1, step)] * getattr(step, "times", 1)
    return [(planned, step) for planned, _, step in sorted(steps, key=lambda step: step[:2])]


def _change(harness: Harness, at: int, change: Change) -> None:
    """Let a row change; what time brings before comes out as it was."""
    harness.tick(at - 1)
    if change.put is not None:
        harness.put(at, change.table, [change.put])
    else:
        harness.remove(at, change.table, [tuple(change.remove) if isinstance(change.remove, list) else change.remove])


def _restart(harness: Harness, at: int, down: int) -> int:
    """Stop and start a flow; return when it is back."""
    harness.tick(at)
    harness.restart()
    if down > PAUSE:
        harness.down(at, at + down)
    return at + down


def _payload(send: Send) -> bytes:
    return send.raw.encode() if send.raw is not None else b"" if send.data is None else msgspec.json.encode(send.data)


def actual(harness: Harness, name: str) -> list[dict[str, Any]]:
    """Return what came out of a node, a wire, as `channel.event` or as `deadletters`, as JSON would show it."""
    if name == "deadletters":
        return [_letter(letter) for letter in harness.dead]
    if sinks := pushing(harness.plan.flow, name):
        return _pushed(harness, sinks)
    return [plain(event.data) for event in harness.out.get(name, [])]


def _pushed(harness: Harness, sinks: list[Node]) -> list[dict[str, Any]]:
    """Return what a client sees that misses nothing: in the order of arrival, the fields that are sent."""
    found: list[tuple[int, Any]] = []
    for sink in sinks:
        fields = sent(sink, "fields")
        for event in harness.out.get(sink.name, []):
            data = {name: event.data.get(name) for name in fields} if fields else event.data
            found.append((event.arrival, plain(data)))
    return [data for _, data in sorted(found, key=lambda one: one[0])]


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {"node": letter.node, "reason": letter.reason, "data": plain(letter.event.data), **plain(letter.values)}


def plain(data: Any) -> Any:
    """Return data as JSON would show it."""
    return msgspec.json.decode(msgspec.json.encode(data))


__all__ = ["START", "Outcome", "actual", "compare", "differences", "plain", "played", "run_test", "run_tests"]
