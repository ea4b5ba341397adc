"""What the steps of a flow cost: CPU time of the thread that a step runs on, taken around whole chunks and batches.

A clock of a thread takes 0.3 to 0.7 µs to read, so nothing here is taken for each event, and of the chunks of a keyed
node, which are small because of its shards, one in SAMPLE.
"""

from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from time import monotonic_ns, thread_time_ns
from types import coroutine
from typing import Any, TypeVar

import msgspec

START, READ, STRETCH, KEYED, SINK, THREAD = "start", "read", "stretch", "keyed", "sink", "thread"
DATAFLOW, IO = "dataflow", "io"
SAMPLE = 8
T = TypeVar("T")


class Step(msgspec.Struct):
    """What a step has cost so far, in nanoseconds: `cpu`, of which other threads than its own took `elsewhere`.

    `busy` is how long a sink was at work, waits and all, `snapshot` the CPU time of the snapshots of a keyed node;
    `shards` has keys and bytes of each shard's last one.
    """

    cpu: int = 0
    elsewhere: int = 0
    busy: int = 0
    snapshot: int = 0
    shards: dict[int, tuple[int, int]] = {}


_STEP: ContextVar[Step] = ContextVar("step", default=Step())  # noqa: B039 - what is charged to nobody


class Meter:
    """The steps of one worker by kind and name. Each step is written by one thread, and read by any."""

    def __init__(self) -> None:
        self.steps: dict[tuple[str, str], Step] = {}

    def step(self, kind: str, name: str) -> Step:
        """Return a step, which is made when it is first asked for."""
        return self.steps.setdefault((kind, name), Step())


async def metered(work: Coroutine[Any, Any, T], step: Step) -> T:
    """Await `work` and add what it took to a step: CPU time only while it runs itself, since others run meanwhile."""
    _STEP.set(step)
    began = monotonic_ns()
    try:
        return await _counted(work, step)
    finally:
        step.busy += monotonic_ns() - began


async def charged(work: Coroutine[Any, Any, T]) -> T:
    """Await a part of metered work that becomes a task of its own: its CPU time is the same step's."""
    return await _counted(work, _STEP.get())


def charging(call: Callable[[], T]) -> Callable[[], T]:
    """Return a part of metered work that is called on another thread: its CPU time is the same step's."""
    step = _STEP.get()

    def run() -> T:
        start = thread_time_ns()
        try:
            return call()
        finally:
            spent = thread_time_ns() - start
            step.cpu += spent
            step.elsewhere += spent

    return run


@coroutine
def _counted(work: Coroutine[Any, Any, T], step: Step) -> Generator[Any, Any, T]:
    value, fault = None, None
    try:
        while True:
            start = thread_time_ns()
            try:
                waits_for = work.send(value) if fault is None else work.throw(fault)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                step.cpu += thread_time_ns() - start
            try:
                value, fault = (yield waits_for), None
            except BaseException as raised:  # a cancellation too is the work's to handle
                fault = raised
    finally:
        work.close()
