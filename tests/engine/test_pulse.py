"""A worker that is there and says nothing: noticed by ticks of the gateway's own loop, killed, and started again."""

import asyncio
import sys

import psutil
import pytest

from engine import pulse as module
from engine import supervisor
from engine.pulse import SILENT_TICKS, Pulse
from engine.supervisor import Process
from tests.process import wait_until


def ticks(pulse: Pulse, count: int) -> list[str]:
    return [flow for _ in range(count) for flow in pulse.tick()]


def test_who_is_heard_in_time_is_left_alone() -> None:
    pulse = Pulse()
    pulse.heard("line")
    for _ in range(5):
        assert ticks(pulse, SILENT_TICKS - 1) == []
        pulse.heard("line")
    assert ticks(pulse, SILENT_TICKS - 1) == []
    assert ticks(pulse, 1) == ["line"]


def test_silence_is_told_once() -> None:
    pulse = Pulse()
    pulse.heard("line")
    assert ticks(pulse, 5 * SILENT_TICKS) == ["line"]


def test_only_linked_workers_are_waited_for() -> None:
    pulse = Pulse()
    assert ticks(pulse, 2 * SILENT_TICKS) == []
    pulse.heard("line")
    pulse.gone("line")
    assert ticks(pulse, 2 * SILENT_TICKS) == []


async def test_a_stopped_process_is_killed_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(supervisor, "STOP_TIME", 1.0)
    process = Process("line", [sys.executable, "-c", "import time; time.sleep(60)"])
    pulse = Pulse()
    tasks = [asyncio.create_task(work) for work in (process.run(), pulse.run({"line": process}))]
    await asyncio.to_thread(wait_until, lambda: process.pid, "it runs")
    first = psutil.Process(process.pid)
    first.suspend()
    pulse.heard("line")
    pulse.heard("a flow that is being removed")
    await asyncio.to_thread(wait_until, lambda: process.restarts and process.pid != first.pid, "another one runs")
    assert process.last_error == "stopped answering"
    assert not first.is_running()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
