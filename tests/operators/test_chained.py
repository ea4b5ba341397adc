"""Operators with memory that feed each other, on Bytewax: ended and begun anew, they give what they give at once."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from tests.engine.bytewax_case import Batch, run_bytewax
from tests.operators.replay import LATER, result, shown, streams
from tests.operators.test_replay import batched

FLOW = load_text("""
flow: f
sources: {given: {mqtt: {topics: [t], time: t}}}
operators:
  whole: {from: given, key: k, latest: {fields: [result, v], within: 20s}}
  grid: {from: whole, sample: {every: 3s, repeat: 7s}}
  calm: {from: grid, debounce: {of: n, for: 4s, longest: 20s}}
  report: {from: whole, change: {of: n, deviation: 0.6, longest: 5s}}
  both: {from: report, merge: {compute: {n: n, v: v}, every: 2s, wait_for: any}}
  pairs: {from: whole, join: {left: opens, right: n > 1, within: 5s, unmatched: left, as: other}}
  steps: {from: whole, sequence: {steps: {a: n < 2, b: opens}, within: 5s}}
  silent: {from: steps, absent: {for: 5s, repeat: 4s, forget: 30s}}
sinks:
  calm_out: {from: calm, log: x}
  both_out: {from: both, log: x}
  pairs_out: {from: pairs, log: x}
  alone: {from: pairs.unmatched, log: x}
  steps_out: {from: steps, log: x}
  missing: {from: steps.missing, log: x}
  silent_out: {from: silent, log: x}
  back: {from: silent.back, log: x}
""").raise_findings()


@settings(max_examples=3)
@given(
    messages=streams(), sizes=st.lists(st.integers(1, 7), max_size=8), restarts=st.sets(st.integers(1, 6), max_size=2)
)
def test_a_chain_gives_the_same_on_bytewax(messages: list[Sent], sizes: list[int], restarts: set[int]) -> None:
    harness = Harness(FLOW)
    for number, message in enumerate(messages, 1):
        harness.read([block_of([message], number, message.at)])
        harness.mark(message.at)
    harness.mark(messages[-1].at + LATER)
    batches: list[Batch] = [*batched(messages, sizes), [messages[-1].at + LATER]]
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_bytewax(FLOW, batches, Path(folder), sorted(stop for stop in restarts if stop < len(batches)))
    found: dict[str, list[Any]] = {}
    for sink, events in outcome.out.items():
        for event in events:
            found.setdefault(f"{sink}/{event.key}", []).append(shown(event))
    for letter in outcome.dead:
        found.setdefault(f"dead/{letter.event.key}", []).append((letter.event.id, letter.reason))
    assert found == result(harness)
