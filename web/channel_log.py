"""The durable log of a flow's channels: a message is in it before a client sees it, so no number means two events.

Messages wait for a commit, and while one is going on more gather. When the file cannot be written, the channels go on
without it, under another run: a client that comes back gets a fresh snapshot, as after too long an absence.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from web.channel_log_file import Key, LogFile, Portion, Saved
from web.channel_message import Message, Pushed

RETRY = 5.0
_log = structlog.get_logger()


class Logged(Protocol):
    """A channel, as its log knows it."""

    name: str
    run: str
    assigned: int

    def deliver(self, messages: Iterable[Message]) -> None:
        """Let clients have what is durable now."""

    def state(self) -> Portion:
        """Return everything that the log should have."""

    def begin_run(self, run: str) -> None:
        """Count from 1 under another run, with no history."""

    def number_again(self, messages: Iterable[Message]) -> None:
        """Give messages that nobody has seen the next numbers."""

    @property
    def depth(self) -> int:
        """Return how many messages are kept."""


class ChannelLog:
    """The log of one flow. On the loop; commits are made by a thread of its own.

    `clock` is what messages are stamped with and what retries go by.
    """

    def __init__(self, path: Path, flow: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._flow, self._clock = flow, clock
        self._file = LogFile(path, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"channels {flow}")
        self._channels: dict[str, Logged] = {}
        self._portions: dict[str, Portion] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._committing: list[asyncio.Future[None]] | None = None
        self._only: list[str] | None = None
        self._logging, self._scheduled, self._closed, self._retry = True, False, False, 0.0

    def open(self) -> dict[str, Saved]:
        """Return what the log has of each channel; a file that cannot be read is replaced."""
        try:
            return self._file.open()
        except Exception as fault:  # whatever is wrong with the file: channels must not hold up the flow
            _log.warning("channel log cannot be read: clients get fresh snapshots", flow=self._flow, reason=str(fault))
            self._file.remove()
            self._logging = False
            return {}

    def watch(self, channels: Iterable[Logged]) -> None:
        """Log these channels from now on, and forget what the file has of others."""
        self._channels = {channel.name: channel for channel in channels}
        self._only = list(self._channels)
        for channel in self._channels.values():
            self._portion(channel)

    def append(self, channel: Logged, message: Message, push: Pushed) -> None:
        """Deliver a message to its channel when it is durable."""
        if not (self._logging or self._writes):
            channel.deliver([message])
            return
        portion = self._portions.get(channel.name) or self._portion(channel)
        portion.messages.append(message)
        portion.seen.append((message.event, message.room, message.origin))
        if push.keep or push.at_most:
            portion.latest[push.event, push.room] = (push, True) if push.keep else None

    def hold(self, channel: Logged, push: Pushed, key: Key) -> None:
        """Remember what is still held back by its pace: it is sent after a restart."""
        if self._writes:
            portion = self._portion(channel)
            portion.seen.append(key)
            portion.latest[push.event, push.room] = (push, False)

    def forget(self, channel: Logged, event: str, room: str) -> None:
        """Remember a kept value no longer."""
        if self._writes:
            self._portion(channel).latest[event, room] = None

    def flushed(self) -> "asyncio.Future[None] | None":
        """Return what is done when all that was given so far is durable, or was delivered without; None: it is."""
        waiters = self._waiters if self._portions else self._committing
        if waiters is None:
            return None
        future = asyncio.get_running_loop().create_future()
        waiters.append(future)
        return future

    @property
    def _writes(self) -> bool:
        """Tell whether what comes goes into the file: it does, or it is time to try again."""
        return self._logging or self._committing is not None or self._clock() >= self._retry

    def _portion(self, channel: Logged) -> Portion:
        if channel.name not in self._portions:
            self._portions[channel.name] = Portion(channel.name)
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._flush)
        return self._portions[channel.name]

    def _flush(self) -> None:
        self._scheduled = False
        if self._closed or self._committing is not None or not self._portions:
            return
        portions, self._portions = self._portions, {}
        self._committing, self._waiters = self._waiters, []
        for name, portion in portions.items():
            channel = self._channels[name]
            portion.run, portion.number, portion.history = channel.run, channel.assigned, channel.depth
        only, self._only = self._only, None
        new = list(portions.values())
        if not self._logging:  # everything goes into an empty file
            only, new = [], [channel.state() for channel in self._channels.values()] + new
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._file.commit, new, only)
        work.add_done_callback(partial(self._done, portions))

    def _done(self, portions: dict[str, Portion], work: "asyncio.Future[None]") -> None:
        if self._closed or work.cancelled():
            return
        if fault := work.exception():
            self._fail(fault, portions)
        elif not self._logging:
            self._logging = True
            _log.info("channel log is written again", flow=self._flow)
        self._deliver(portions)
        waiters, self._committing = self._committing or [], None
        _wake(waiters)
        self._flush()

    def _deliver(self, portions: dict[str, Portion]) -> None:
        for name, portion in portions.items():
            self._channels[name].deliver(portion.messages)

    def _fail(self, fault: BaseException, portions: dict[str, Portion]) -> None:
        """Go on in memory: nobody has seen what was to be committed, so it may have other numbers."""
        self._file.remove()
        self._retry = self._clock() + RETRY
        if self._logging:
            self._logging = False
            _log.warning("channel log cannot be written: channels go on in memory", flow=self._flow, reason=str(fault))
            for channel in self._channels.values():
                channel.begin_run(secrets.token_hex(4))
                for given in (portions, self._portions):
                    if channel.name in given:
                        channel.number_again(given[channel.name].messages)
        for name, portion in self._portions.items():
            portions.setdefault(name, Portion(name)).messages += portion.messages
        self._portions = {}
        waiters, self._waiters = self._waiters, []
        _wake(waiters)

    def close(self) -> None:
        """Wait for the commit that is going on, and close the file."""
        self._closed = True
        self._thread.shutdown()
        for waiter in (*self._waiters, *(self._committing or ())):
            waiter.cancel()
        self._file.close()


def _wake(waiters: "Iterable[asyncio.Future[None]]") -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
