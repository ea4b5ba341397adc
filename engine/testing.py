"""Run a flow's own `tests:` and say what differs."""

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.dead import DeadLetter
from engine.event import MICROSECONDS, microseconds
from engine.flow import Flow
from engine.flow_tests import FlowTest, Restart, Send
from engine.gap import PAUSE
from engine.harness import Harness, Sent

START = 1_700_000_000 * MICROSECONDS


class Outcome(msgspec.Struct):
    """One test of one flow; `differences` is empty when it holds."""

    flow: str
    test: str
    differences: list[str]


def run_tests(flow: Flow) -> list[Outcome]:
    """Run every test of a flow, each on a new harness."""
    return [Outcome(flow.name, test.name, list(run_test(flow, test))) for test in flow.tests]


def run_test(flow: Flow, test: FlowTest) -> Iterator[str]:
    """Yield how the outcome differs from what the test expects."""
    harness = played(flow, test)
    for name, expected in test.expect.items():
        yield from compare(name, expected, actual(harness, name))


def played(flow: Flow, test: FlowTest) -> Harness:
    """Return the harness after all that the test sends."""
    sinks = {node.name for node in flow.section("sinks")}
    harness = Harness(flow, taps=[name for name in test.expect if name != "deadletters" and name not in sinks])
    start = START if test.start is None else microseconds(test.start)
    steps: list[tuple[int, int, Send | Restart]] = [(start + restart.at, 0, restart) for restart in test.restart]
    steps += [(start + send.at, 1, send) for send in test.send for _ in range(send.times)]
    last = start
    for planned, _, step in sorted(steps, key=lambda step: step[:2]):
        at = last = max(planned, last)
        if isinstance(step, Restart):
            last = _restart(harness, at, step.down)
        else:
            harness.send([Sent(at, step.to, _payload(step), step.topic, step.meta)])
    harness.tick(last + test.advance)
    return harness


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
    """Return what came out of a node, a wire or as `deadletters`, as JSON would show it."""
    if name == "deadletters":
        return [_letter(letter) for letter in harness.dead]
    return [plain(event.data) for event in harness.out.get(name, [])]


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {"node": letter.node, "reason": letter.reason, "data": plain(letter.event.data), **plain(letter.values)}


def plain(data: Any) -> Any:
    """Return data as JSON would show it."""
    return msgspec.json.decode(msgspec.json.encode(data))


def compare(name: str, expected: list[Any], actual: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the differences between what came out and what must have come out, in order."""
    if len(expected) != len(actual):
        shown = "".join(f"\n    {event}" for event in actual[:5])
        yield f"{name}: {len(expected)} events; got {len(actual)}{shown}"
    for index, (wanted, event) in enumerate(zip(expected, actual, strict=False)):
        yield from (f"{name}[{index}]{difference}" for difference in differences(wanted, event))


def differences(wanted: Any, got: Any, path: str = "") -> Iterator[str]:
    """Yield where `got` lacks what is wanted: of mappings the named fields; `{contains: x}` looks inside text."""
    if isinstance(wanted, dict) and set(wanted) == {"contains"}:
        if str(wanted["contains"]) not in str(got):
            yield f"{path}: text that contains '{wanted['contains']}'; got {got!r}"
    elif isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            yield from differences(value, got.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif not _same(wanted, got):
        yield f"{path}: {wanted!r}; got {got!r}"


def _same(wanted: Any, got: Any) -> bool:
    """Compare values: true is not 1, and computed numbers may differ in the last digits."""
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, float) and isinstance(got, int | float):
        return abs(wanted - got) < 1e-9
    return bool(wanted == got)
