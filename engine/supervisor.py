"""Keep what should run running: desired and observed state apart, restart with back-off, park what keeps crashing."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

import structlog

from engine.errors import EnvironmentFault
from engine.parent import GO, LOADED

AT_ONCE, FIRST_WAIT, LONGEST_WAIT, NO_ROOM_WAIT = 0.01, 0.2, 15.0, 2.0
CRASHES, CRASH_TIME = 6, 120.0
ENVIRONMENT, NO_ROOM = 3, 75
STOP_TIME, LAST_WORDS = 12.0, 1.0
TAIL, LONGEST_LINE = 30, 1 << 20
State = Literal["starting", "running", "restarting", "parked", "stopping", "stopped"]
log = structlog.get_logger()


class Process:
    """One supervised process. `ready` is set by whoever sees it work (a worker's link); `on_change` hears of states."""

    def __init__(
        self, name: str, command: Sequence[str], on_change: Callable[["Process"], None] = lambda process: None
    ) -> None:
        self.name, self.command, self.on_change = name, tuple(command), on_change
        self.state: State = "stopped"
        self.since = time.time()
        self.restarts = 0
        self.last_error = self._why_killed = ""
        self.pid: int | None = None
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._furthest, self._went_on = 0, False
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._process: asyncio.subprocess.Process | None = None
        self._relay: asyncio.Task[None] | None = None
        self._line: socket.socket | None = None

    async def begin(self, option: str, document: bytes) -> None:
        """Start it ahead of `run`, with one more option: it reads the document, loads what it needs, and waits.

        When it ends before `run`, that starts it as usual.
        """
        await self._spawn((*self.command, option))
        with suppress(ConnectionError):  # it has ended already
            await asyncio.get_running_loop().sock_sendall(self._our_line, document + b"\n")

    async def load(self, option: str, document: bytes, within: float) -> None:
        """Start it ahead and wait until it has loaded the document.

        Raises EnvironmentFault with its last words when it ends instead, or has not loaded within so many seconds.
        """
        await self.begin(option, document)
        try:
            async with asyncio.timeout(within):
                if not await self._loaded():
                    code = await self._ended()
                    raise EnvironmentFault(self._reason(code))
        except TimeoutError:
            raise EnvironmentFault(f"it has not loaded within {within:g} s") from None

    async def _loaded(self) -> bool:
        """Return whether it says that it has loaded; what it says else is an end."""
        loop, answer = asyncio.get_running_loop(), b""
        with suppress(ConnectionError):
            while received := await loop.sock_recv(self._our_line, 64):
                answer += received
                if answer.endswith(b"\n"):
                    break
        return answer.strip() == LOADED

    @property
    def _our_line(self) -> socket.socket:
        assert self._line is not None, "not started"  # noqa: S101 - for the type checker
        return self._line

    def ready(self, is_ready: bool) -> None:
        """Say whether the process works."""
        if is_ready and self.state in ("starting", "restarting"):
            self._set("running")
        elif not is_ready and self.state == "running":
            self._set("starting")

    def progressed(self, offset: int) -> None:
        """Hear that all up to an offset is done: what gets further than before is in no crash loop."""
        if offset > self._furthest:
            self._furthest, self._went_on = offset, True
            self._crashes.clear()

    def park(self, reason: str) -> None:
        """Do not run it at all, for a reason that is shown."""
        self.last_error = reason
        self._set("parked")

    async def run(self) -> None:
        """Keep the process alive until it is parked, or until cancelled; then stop it."""
        wait = FIRST_WAIT
        try:
            while True:
                self._set("restarting" if self.restarts else "starting")
                began = time.monotonic()
                code = await self._once()
                self._crashed(code)
                if self.state == "parked":
                    return
                if self._went_on or time.monotonic() - began > CRASH_TIME:
                    wait, self._went_on = AT_ONCE, False
                await asyncio.sleep(min(wait, NO_ROOM_WAIT) if code == NO_ROOM else wait)
                wait = min(max(wait * 2, FIRST_WAIT), LONGEST_WAIT)
        finally:
            await self.stop()

    async def _once(self) -> int:
        """Run the process, or let one that waits go; return its exit code."""
        if self._process is None or self._process.returncode is not None:
            await self._spawn(self.command)
        else:
            with suppress(OSError):  # it has ended just now
                await asyncio.get_running_loop().sock_sendall(self._our_line, GO + b"\n")
        return await self._ended()

    async def _spawn(self, command: Sequence[str]) -> None:
        """Start the process; the other end of its stdin is ours, so that it sees us end."""
        if self._process is not None:
            self._release(self._process)
        self._tail.clear()
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs.fileno(),
                stderr=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._relay = asyncio.create_task(self._pass_on(self._process))

    async def _ended(self) -> int:
        """Wait for the exit code; a child of the process that holds its stderr open is not waited for."""
        process, relay = self._process, self._relay
        assert process is not None and relay is not None, "not started"  # noqa: S101, PT018 - for the type checker
        code = await process.wait()
        await asyncio.wait([relay], timeout=LAST_WORDS)
        self._release(process)
        return code

    def _release(self, process: asyncio.subprocess.Process) -> None:
        """Close our ends of the pipes, also of one whose other end a child of the process holds."""
        if self._relay is not None:
            self._relay.cancel()
        if self._line is not None:
            self._line.close()
        process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        """Show what the process logs, with its name before each line."""
        while process.stderr is not None:
            try:
                line = await process.stderr.readline()
            except ValueError:
                line = b"(a line that is too long)\n"
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            with suppress(OSError):  # nobody reads our stderr any more: the process goes on
                print(f"{self.name}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - it is a log line already

    def _crashed(self, code: int) -> None:
        now = time.monotonic()
        if code != NO_ROOM:
            self._crashes.append(now)
        self.restarts += 1
        known, self.last_error = self.last_error, self._why_killed or self._reason(code)
        self._why_killed = ""
        parked = code == ENVIRONMENT or (
            code != NO_ROOM and len(self._crashes) == CRASHES and now - self._crashes[0] < CRASH_TIME
        )
        if parked:
            log.error("parked", process=self.name, reason=self.last_error, exit_code=code)
        elif code != NO_ROOM or self.last_error != known:
            log.warning("ended, starts again", process=self.name, reason=self.last_error, exit_code=code)
        self._set("parked" if parked else "restarting")

    def _reason(self, code: int) -> str:
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        last = next((line for line in reversed(self._tail) if line.strip()), "")
        return last.removeprefix("millstream: ") or f"ended with code {code}"

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when it takes too long."""
        process, relay = self._process, self._relay
        if process is not None and process.returncode is None:
            self._set("stopping")
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIME)
            except TimeoutError:
                log.error("killed: it did not stop in time", process=self.name, seconds=STOP_TIME)
                self.kill()
                await process.wait()
        if process is not None and relay is not None:
            await asyncio.wait([relay], timeout=LAST_WORDS)
            self._release(process)
        if self.state != "parked":
            self._set("stopped")

    def kill(self, why: str = "") -> None:
        """End the process at once; `why` is then its last error."""
        if self._process is not None and self._process.returncode is None:
            self._why_killed = why
            with suppress(ProcessLookupError):
                self._process.kill()

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()
            self.on_change(self)
