"""Run a flow's own `tests:` and say what differs."""

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.dead import DeadLetter
from engine.event import MICROSECONDS
from engine.flow import Flow
from engine.flow_tests import FlowTest, Send
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
    sinks = {node.name for node in flow.section("sinks")}
    harness = Harness(flow, taps=[name for name in test.expect if name != "deadletters" and name not in sinks])
    steps: list[tuple[int, int, Send | None]] = [(START + at, 0, None) for at in test.restart]
    steps += [(START + send.at, 1, send) for send in test.send for _ in range(send.times)]
    last = START
    for at, _, send in sorted(steps, key=lambda step: step[:2]):
        last = at
        if send is None:
            harness.tick(at)
            harness.restart()
        else:
            harness.send([Sent(at, send.to, _payload(send), send.topic, send.meta)])
    harness.tick(last + test.advance)
    for name, expected in test.expect.items():
        yield from compare(name, expected, list(_actual(harness, name)))


def _payload(send: Send) -> bytes:
    return send.raw.encode() if send.raw is not None else b"" if send.data is None else msgspec.json.encode(send.data)


def _actual(harness: Harness, name: str) -> Iterator[dict[str, Any]]:
    if name == "deadletters":
        yield from map(_letter, harness.dead)
    else:
        yield from (plain(event.data) for event in harness.out.get(name, []))


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
