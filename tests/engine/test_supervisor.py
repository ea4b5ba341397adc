"""One supervised process: started again with a pause, parked with its last words, and always ended."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psutil
import pytest
import uvloop

from engine import supervisor
from engine.errors import EnvironmentFault
from engine.supervisor import Process
from tests.process import wait_until

READY = "import sys, time; print('up', file=sys.stderr, flush=True); "
AHEAD = """
import os, sys
os.write(2, b'option ' + ''.join(sys.argv[1:]).encode() + b'\\n')
document = sys.stdin.readline().strip()
os.write(0, b'loaded\\n')
os.write(2, b'ran with ' + document.encode() + b' after ' + sys.stdin.readline().encode())
sys.exit(3)
"""


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(supervisor, "STOP_TIME", 1.0)
    monkeypatch.setattr(supervisor, "LAST_WORDS", 0.2)


class Watched:
    """A process that runs `python -c CODE`, and the states it went through."""

    def __init__(self, code: str) -> None:
        self.states: list[str] = []
        command = [sys.executable, "-c", code]
        self.process = Process("a flow", command, lambda process: self.states.append(process.state))


class Working(Watched):
    """One that works, gets to the next of some offsets, and ends; `often` is set when it has done that twelve times."""

    def __init__(self, offsets: Iterable[int]) -> None:
        super().__init__("import sys; sys.exit('an event that nobody survives')")
        self._offsets, self.often = iter(offsets), asyncio.Event()
        self.process = Process("a flow", self.process.command, self._told)

    def _told(self, process: Process) -> None:
        self.states.append(process.state)
        if process.state == "restarting":
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        self.process.ready(True)
        self.process.progressed(next(self._offsets))
        if self.process.restarts >= 2 * supervisor.CRASHES:
            self.often.set()


async def run(code: str) -> Process:
    """Run a process until it is parked."""
    process = Watched(code).process
    async with asyncio.timeout(30):
        await process.run()
    return process


async def started(watched: Watched, capfd: pytest.CaptureFixture[str]) -> "asyncio.Task[None]":
    """Start a process and wait until it has said `up`."""
    task = asyncio.create_task(watched.process.run())
    said = ""
    async with asyncio.timeout(20):
        while "up" not in said:
            await asyncio.sleep(0.01)
            said += capfd.readouterr().err
    return task


async def cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


async def test_it_is_parked_after_six_crashes_with_its_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    process = await run("import sys; sys.exit('millstream: the model is missing\\n')")
    assert (process.state, process.restarts, process.last_error) == ("parked", 6, "the model is missing")
    assert capfd.readouterr().err.count("a flow: millstream: the model is missing") == 6


async def test_what_gets_further_each_time_is_never_parked() -> None:
    working = Working(itertools.count(1))
    task = asyncio.create_task(working.process.run())
    await asyncio.wait_for(working.often.wait(), 30)
    assert "parked" not in working.states
    await cancelled(task)


async def test_what_gets_as_far_as_before_each_time_is_parked() -> None:
    working = Working(itertools.repeat(7))
    await asyncio.wait_for(working.process.run(), 30)
    assert (working.process.state, working.process.restarts) == ("parked", supervisor.CRASHES + 1)


async def test_what_only_a_person_can_mend_parks_it_at_once() -> None:
    process = await run("import sys; print('no disk', file=sys.stderr); sys.exit(3)")
    assert (process.state, process.restarts, process.last_error) == ("parked", 1, "no disk")


async def test_a_full_disk_never_parks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_WAIT", 1e6)
    monkeypatch.setattr(supervisor, "NO_ROOM_WAIT", 0.01)
    watched = Watched("import sys; print('the disk is full', file=sys.stderr); sys.exit(75)")
    task = asyncio.create_task(watched.process.run())
    await asyncio.to_thread(wait_until, lambda: watched.process.restarts > 12, "it is tried again and again", 60)
    assert watched.process.last_error == "the disk is full"
    await cancelled(task)
    assert set(watched.states) <= {"starting", "restarting", "stopping", "stopped"}


async def test_who_kills_it_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    watched = Watched(READY + "time.sleep(60)")
    task = await started(watched, capfd)
    watched.process.kill("stopped answering")
    await asyncio.to_thread(wait_until, lambda: watched.process.restarts == 1, "it has ended")
    assert watched.process.last_error == "stopped answering"
    await cancelled(task)


async def test_words_of_another_matter_do_not_explain_a_kill() -> None:
    process = await run("import os, sys; print('all is well', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)")
    assert process.last_error == "ended by SIGKILL"


async def test_it_says_nothing_at_all() -> None:
    assert (await run("import sys; sys.exit(7)")).last_error == "ended with code 7"


async def test_crashes_far_apart_do_not_park_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CRASH_TIME", 0.0)
    watched = Watched("raise SystemExit(1)")
    task = asyncio.create_task(watched.process.run())
    await asyncio.to_thread(wait_until, lambda: watched.process.restarts > supervisor.CRASHES, "it has crashed often")
    await cancelled(task)
    assert "parked" not in watched.states


async def test_it_is_ready_when_somebody_says_so_and_stops_when_cancelled(capfd: pytest.CaptureFixture[str]) -> None:
    watched = Watched(READY + "time.sleep(60)")
    task = await started(watched, capfd)
    watched.process.ready(True)
    watched.process.ready(False)
    watched.process.ready(True)
    await cancelled(task)
    assert watched.states == ["starting", "running", "starting", "running", "stopping", "stopped"]
    assert watched.process.pid is not None
    assert not psutil.pid_exists(watched.process.pid)


async def test_last_words_while_it_stops_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import signal; signal.signal(15, lambda *_: sys.exit('x' * 300_000 + ' was not written')); "
    task = await started(Watched(READY.replace("print", code + "print", 1) + "time.sleep(60)"), capfd)
    await cancelled(task)
    assert " was not written" in capfd.readouterr().err


async def test_one_that_does_not_listen_is_killed(capfd: pytest.CaptureFixture[str]) -> None:
    watched = Watched("import signal; signal.signal(15, signal.SIG_IGN); " + READY + "time.sleep(60)")
    await cancelled(await started(watched, capfd))
    assert watched.states[-1] == "stopped"
    assert watched.process.pid is not None
    assert not psutil.pid_exists(watched.process.pid)


async def test_a_line_without_end_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_LINE", 1000)
    process = await run("import sys; print('x' * 100_000, file=sys.stderr); sys.exit('the end')")
    assert process.last_error == "the end"
    assert "a flow: (a line that is too long)" in capfd.readouterr().err


@contextmanager
def left_behind() -> Iterator[list[int]]:
    """Give a list for pids of processes that are to be ended."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_child_that_lives_on_does_not_hide_the_crash() -> None:
    """Seen on the gateway's event loop: asyncio's own waits for a pipe that somebody holds."""
    code = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); "
        "print('pid', child.pid, file=sys.stderr); sys.exit(3)"
    )
    with left_behind() as pids:
        process = uvloop.run(run(code))
        pids.append(int(process.last_error.split()[1]))
        assert psutil.pid_exists(pids[0])
        assert process.state == "parked"


async def test_its_stdin_ends_with_us(capfd: pytest.CaptureFixture[str]) -> None:
    code = READY + "sys.stdin.read(); sys.exit(3)"
    watched = Watched(code)
    task = await started(watched, capfd)
    assert watched.process._line is not None
    watched.process._line.close()
    await asyncio.wait_for(task, 10)
    assert watched.process.state == "parked"


async def test_one_that_is_started_ahead_loads_and_waits_until_it_is_run(capfd: pytest.CaptureFixture[str]) -> None:
    watched = Watched(AHEAD)
    await watched.process.load("--ahead", b"a document", 30)
    assert "ran" not in capfd.readouterr().err
    assert watched.states == []
    await asyncio.wait_for(watched.process.run(), 30)
    assert (watched.process.state, watched.process.last_error) == ("parked", "ran with a document after go")


async def test_one_that_cannot_load_says_why_and_is_not_tried_again() -> None:
    watched = Watched("import sys; sys.stdin.readline(); sys.exit('millstream: no such model\\n')")
    with pytest.raises(EnvironmentFault, match="no such model"):
        await watched.process.load("--ahead", b"a document", 30)
    assert (watched.process.restarts, watched.states) == (0, [])


async def test_one_that_never_has_loaded_is_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    watched = Watched(READY + "sys.stdin.read()")
    with pytest.raises(EnvironmentFault, match=r"it has not loaded within 0.2 s"):
        await watched.process.load("--ahead", b"a document", 0.2)
    await watched.process.stop()
    assert watched.process.pid is not None
    assert not psutil.pid_exists(watched.process.pid)


async def test_one_that_ends_while_it_waits_is_started_as_usual() -> None:
    code = "import os, sys; sys.stdin.readline() and os.write(0, b'loaded\\n'); sys.exit(3 if len(sys.argv) < 2 else 0)"
    watched = Watched(code)
    await watched.process.load("--ahead", b"a document", 30)
    ended, process = watched.process.pid, watched.process
    await asyncio.to_thread(wait_until, lambda: process._process and process._process.returncode == 0, "it has ended")
    process.ready(False)
    task = asyncio.create_task(process.run())
    await asyncio.to_thread(wait_until, lambda: process.pid != ended, "another runs")
    assert process._line is not None
    process._line.close()
    await asyncio.wait_for(task, 30)
    assert process.state == "parked"
