"""The row of the thousand WebSocket clients: a tenth of them does not read, and the others must not notice."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests.faults.matrix.check import Outcome, outcome
from tests.faults.matrix.crowd import Crowded, CrowdProcess, Spec
from tests.faults.matrix.load import Spec as LoadSpec
from tests.faults.matrix.rig import Rig, Services
from tests.faults.matrix.scale import Scale

EVERY, PAD = 400, 16_384
GROWTH = 64 << 20
MIB = 1 << 20


def many_clients(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Listen with many clients, then with some that do not read."""
    every = EVERY * scale.rate // 2_000
    with Rig(folder, services, LoadSpec("", "", "", scale.rate, every=every, pad=PAD)) as rig:
        reading = scale.clients - scale.not_reading
        alone, before = _crowd(rig, scale, reading, 0)
        beside, after = _crowd(rig, scale, reading, scale.not_reading)
        final = rig.finish()
        found = outcome("audience", rig, final, time.monotonic() - rig.began)
    found.fault = f"{scale.clients:,} WebSocket clients, {scale.not_reading} of them not reading"
    found.must(alone.connected == reading, f"{alone.connected} of {reading} clients connected")
    found.must(beside.connected == scale.clients, f"{beside.connected} of {scale.clients} clients connected")
    found.must(beside.left == reading, f"{reading - beside.left} clients that read were cut")
    _compare(found, alone, beside, scale.lag_factor)
    found.notes.append(f"memory of the gateway: {before / MIB:.0f} MiB without, {after / MIB:.0f} MiB with them")
    found.must(after - before < GROWTH, f"the gateway grew by {(after - before) / MIB:.0f} MiB")
    return found


def _compare(found: Outcome, alone: Crowded, beside: Crowded, factor: float) -> None:
    found.notes.append(
        f"from sending to seeing: median {alone.median:.0f} ms, 99th percentile {alone.late:.0f} ms; "
        f"beside those who do not read {beside.median:.0f} and {beside.late:.0f} ms; {beside.frames:,} frames"
    )
    found.must(alone.frames and beside.frames, "frames were seen")
    found.must(beside.late <= factor * alone.late, f"99th percentile times {beside.late / max(alone.late, 1):.1f}")


def _crowd(rig: Rig, scale: Scale, reading: int, not_reading: int) -> tuple[Crowded, int]:
    """Return what a crowd has seen, and the most memory that the gateway had meanwhile, in bytes."""
    gateway, most = psutil.Process(rig.millstream.pid), 0
    output = rig.folder / f"crowd{not_reading}.jsonl"
    with CrowdProcess(Spec(rig.spec.board, reading, not_reading), output) as crowd:
        crowd.connected()
        rig.run_for(2.0)
        crowd.measure()
        end = time.monotonic() + scale.calm * 3  # a push is some hundred frames at once: the 99th percentile needs many
        while time.monotonic() < end:
            most = max(most, gateway.memory_info().rss)
            rig.run_for(0.2)
        return crowd.end(), most
