"""Keep what should run running: desired and observed state apart, restart with back-off, park what keeps crashing."""

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0
CRASHES, CRASH_TIME = 6, 120.0
STOP_TIME = 12.0
TAIL = 30
State = Literal["starting", "running", "restarting", "parked", "stopping", "stopped"]
log = structlog.get_logger()


class Process:
    """One supervised process. `ready` is set by whoever sees it work (a worker's link); `on_change` hears of states."""

    def __init__(
        self, name: str, command: Sequence[str], on_change: Callable[["Process"], None] = lambda process: None
    ) -> None:
        self.name, self.command, self._on_change = name, tuple(command), on_change
        self.state: State = "stopped"
        self.since = time.time()
        self.restarts = 0
        self.last_error = ""
        self.pid: int | None = None
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = False

    def ready(self, is_ready: bool) -> None:
        """Say whether the process works."""
        if is_ready and self.state in ("starting", "restarting"):
            self._set("running")
        elif not is_ready and self.state == "running":
            self._set("starting")

    async def run(self) -> None:
        """Keep the process alive until cancelled; then stop it."""
        self._wanted = True
        wait = FIRST_WAIT
        try:
            while self._wanted:
                self._set("restarting" if self.restarts else "starting")
                began = time.monotonic()
                code = await self._once()
                self._crashed(code)
                if self.state == "parked":
                    return
                wait = FIRST_WAIT if time.monotonic() - began > CRASH_TIME else min(wait * 2, LONGEST_WAIT)
                await asyncio.sleep(wait / 2)
        finally:
            await self.stop()

    async def _once(self) -> int:
        self._tail.clear()
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.pid = self._process.pid
        stderr = self._process.stderr
        if stderr is None:
            raise RuntimeError("a process without stderr")
        while line := await stderr.readline():
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - a child's log line goes on as it is
        return await self._process.wait()

    def _crashed(self, code: int) -> None:
        now = time.monotonic()
        self._crashes.append(now)
        self.restarts += 1
        self.last_error = self._reason(code)
        parked = code == 3 or (len(self._crashes) == CRASHES and now - self._crashes[0] < CRASH_TIME)
        if parked:
            log.error("parked", process=self.name, reason=self.last_error, exit_code=code)
        else:
            log.warning("ended, starts again", process=self.name, reason=self.last_error, exit_code=code)
        self._set("parked" if parked else "restarting")

    def _reason(self, code: int) -> str:
        last = next((line for line in reversed(self._tail) if line.strip()), "")
        return last or (f"ended by signal {-code}" if code < 0 else f"ended with code {code}")

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when it takes too long."""
        self._wanted = False
        process = self._process
        if process is not None and process.returncode is None:
            self._set("stopping")
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIME)
            except TimeoutError:
                log.error("killed: it did not stop in time", process=self.name, seconds=STOP_TIME)
                process.kill()
                await process.wait()
        if self.state != "parked":
            self._set("stopped")

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()
            self._on_change(self)
