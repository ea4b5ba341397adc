"""What steps cost: only what they compute themselves, also in tasks and threads that they start."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import thread_time_ns

import pytest

from engine.meter import Meter, Step, charged, charging, metered

WORK = 30_000_000  # ns


def burn(nanoseconds: int = WORK) -> int:
    """Compute for a while on this thread."""
    end = thread_time_ns() + nanoseconds
    while thread_time_ns() < end:
        pass
    return nanoseconds


async def burning() -> int:
    found = 0
    for _ in range(10):
        found += burn(WORK // 10)
        await asyncio.sleep(0)
    return found


async def test_a_step_pays_for_itself_and_not_for_those_that_run_while_it_waits() -> None:
    busy, waits = Step(), Step()
    burnt, slept = await asyncio.gather(metered(burning(), busy), metered(asyncio.sleep(0.05, "slept"), waits))
    assert (burnt, slept) == (WORK, "slept")
    assert WORK <= busy.cpu < 3 * WORK
    assert waits.cpu < WORK // 3
    assert waits.busy >= 45_000_000


async def test_tasks_and_threads_that_a_step_starts_are_its_own() -> None:
    async def write(pool: ThreadPoolExecutor) -> None:
        task = asyncio.create_task(charged(burning()))
        await asyncio.get_running_loop().run_in_executor(pool, charging(burn))
        await task

    step, other = Step(), Step()
    with ThreadPoolExecutor(1) as pool:
        await asyncio.gather(metered(write(pool), step), metered(asyncio.sleep(0), other))
    assert 2 * WORK <= step.cpu < 4 * WORK
    assert WORK <= step.elsewhere < 2 * WORK
    assert other.cpu < WORK // 3


async def test_faults_and_cancellations_reach_the_work() -> None:
    seen: list[str] = []

    async def work(wait: asyncio.Event) -> None:
        try:
            await wait.wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        raise ValueError("refused")

    step, go = Step(), asyncio.Event()
    task = asyncio.create_task(metered(work(go), step))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
    assert task.cancelled()
    go.set()
    with pytest.raises(ValueError, match="refused"):
        await metered(work(go), step)


async def test_a_fault_that_the_work_heals_does_not_end_it() -> None:
    async def work() -> str:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.set_exception(ValueError("away"))
        with suppress(ValueError):
            await waiting
        await asyncio.sleep(0)
        return "healed"

    assert await metered(work(), Step()) == "healed"


def test_a_step_is_made_once() -> None:
    meter = Meter()
    assert meter.step("keyed", "a") is meter.step("keyed", "a")
    assert meter.step("stretch", "a") is not meter.step("keyed", "a")
    meter.step("keyed", "a").shards[3] = (1, 2)
    assert meter.step("stretch", "a").shards == {}
