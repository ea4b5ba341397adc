"""The rows of the matrix: each makes its fault under load and says what it has seen."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.matrix.check import Outcome, outcome
from tests.faults.matrix.load import Final, Spec
from tests.faults.matrix.rig import Rig, Services
from tests.faults.matrix.scale import Scale

Run = Callable[[Path, Services, Scale], Outcome]
LEAST = 6.0
_random = random.SystemRandom()


def calm(rig: Rig, scale: Scale) -> None:
    """Let the load go on for a moment of a random length, so that a fault comes at any point of the flow's life."""
    rig.run_for(_random.uniform(0.2, 1.0) * scale.pause)


def finished(name: str, rig: Rig) -> tuple[Outcome, Final]:
    """End the load, when it was long enough for some windows to close, and compare."""
    rig.run_for(max(0.0, LEAST - (time.monotonic() - rig.began)))
    final = rig.finish()
    return outcome(name, rig, final, time.monotonic() - rig.began), final


def worker_kills(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Kill the worker at random moments, now and then while it starts."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        left = scale.worker_kills
        while left:
            calm(rig, scale)
            when = rig.kill_worker()
            left -= 1
            if left % 4 == 1:  # the next one dies while it starts
                rig.run_for(_random.uniform(0.1, 1.0))
                when = rig.kill_worker()
                left -= 1
            rig.recovers(when, "a worker was killed")
        calm(rig, scale)
        found, _ = finished("worker", rig)
    found.fault = f"worker kill -9, {scale.worker_kills} times at random moments"
    late = [f"{seconds:.1f}" for seconds in found.recoveries if seconds >= scale.worker_back]
    found.must(not late, f"back after {', '.join(late)} s, not within {scale.worker_back:g} s")
    return found


def gateway_kills(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Kill the gateway alone; what starts it again is outside, as systemd would be."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        for _ in range(scale.gateway_kills):
            calm(rig, scale)
            rig.recovers(rig.kill_gateway(), "the gateway was killed")
        calm(rig, scale)
        found, final = finished("gateway", rig)
    found.fault = f"gateway kill -9, {scale.gateway_kills} times"
    resumed = min(board.connections for board in final.dashboards) - 1
    found.must(resumed >= scale.gateway_kills, f"dashboards reconnected {resumed} times only")
    found.notes.append(f"each dashboard resumed {resumed} times")
    return found


def power_cuts(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Kill every process of Millstream at once."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        for _ in range(scale.power_cuts):
            calm(rig, scale)
            rig.recovers(rig.kill_everything(), "everything was killed")
        calm(rig, scale)
        found, _ = finished("everything", rig)
    found.fault = f"everything kill -9 at once, {scale.power_cuts} times"
    return found


def database_away(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Stop the database and start it again; channels go on meanwhile."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        rig.run_for(scale.pause * 2)
        services.database.stop()
        rig.run_for(scale.database_away / 4)
        ticks = rig.load.status.ticks
        rig.run_for(scale.database_away / 2)
        pushed = rig.load.status.ticks - ticks
        rig.run_for(scale.database_away / 4)
        services.database.start()
        rig.recovers(time.time(), "the database was back")
        rig.run_for(scale.pause)
        found, _ = finished("database", rig)
    found.fault = f"database stopped for {scale.database_away:g} s"
    due = scale.rate / rig.spec.every * scale.database_away / 2
    found.notes.append(f"{pushed} of about {due:.0f} pushes in the middle {scale.database_away / 2:g} s of the outage")
    found.must(pushed > due / 2, f"{pushed} pushes while the database was away; about {due:.0f} were due")
    found.must(found.recover < scale.caught_up, f"caught up after {found.recover:.1f} s")
    return found


def broker_away(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Stop the broker and start it again."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        rig.run_for(scale.pause * 2)
        services.broker.stop()
        rig.run_for(scale.broker_away)
        services.broker.start()
        rig.recovers(time.time(), "the broker was back")
        rig.run_for(scale.pause)
        found, final = finished("broker", rig)
    found.fault = f"broker stopped for {scale.broker_away:g} s"
    found.must(final.status.reconnects >= 1, "the publisher reconnected")
    return found


def rubbish(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Send 10 % rubbish."""
    from tests.faults.matrix.letters import compare_letters

    with Rig(folder, services, Spec("", "", "", scale.rate, rubbish=0.1)) as rig:
        rig.run_for(scale.calm)
        final = rig.finish()
        found = outcome("rubbish", rig, final, time.monotonic() - rig.began)
        compare_letters(found, rig, final)
    found.fault = "10 % rubbish in the stream"
    return found
