"""What a worker tells of the cost of its steps and of what their queues hold."""

import threading
from time import clock_gettime, pthread_getcpuclockid

from engine.frames import StepCost
from engine.lane import LANE_LIMIT, Lane
from engine.meter import DATAFLOW, IO, SINK, START, THREAD, Meter, Step
from engine.outlet import Outlet
from engine.outputs import DEAD

NANOSECONDS = 1e9
_THREADS = {"MainThread": DATAFLOW, IO: IO}


def step_costs(meter: Meter, outlet: Outlet) -> list[StepCost]:
    """Return every step of a flow: what the meter has measured, then the sinks; and the threads that run them."""
    steps = sorted(meter.steps.items(), key=lambda item: item[0][0] != START)
    found = [_step(kind, name, step) for (kind, name), step in steps]
    found += [_sink(name, lane) for name, lane in outlet.lanes.items() if name != DEAD]
    return found + _threads()


def _threads() -> list[StepCost]:
    """Return the two threads of a worker that live as long as it does."""
    alive = {_THREADS[one.name]: one.ident for one in threading.enumerate() if one.name in _THREADS and one.ident}
    return [StepCost(THREAD, name, clock_gettime(pthread_getcpuclockid(ident))) for name, ident in alive.items()]


def _step(kind: str, name: str, step: Step) -> StepCost:
    shards = list(step.shards.values())
    return StepCost(
        kind, name, step.cpu / NANOSECONDS, step.elsewhere / NANOSECONDS, step.busy / NANOSECONDS,
        step.snapshot / NANOSECONDS, sum(keys for keys, _ in shards), sum(size for _, size in shards),
    )  # fmt: skip


def _sink(name: str, lane: Lane) -> StepCost:
    found = _step(SINK, name, lane.step)
    found.queued, found.spill_fill = lane.waiting
    found.room, found.spilled = LANE_LIMIT, lane.state.spilled
    return found
