"""The hub of a flow's live channels: fans out what is pushed, and welcomes clients without gap or doubling."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from engine.channels import ChannelSpec, FromQuery
from web.channel import RESTART, Channel
from web.channel_entry import Account
from web.channel_log import ChannelLog
from web.channel_message import Client, Message, Pushed, Snapshot, error_message
from web.channel_pace import Later
from web.channel_room import Listener

QUERY_TIME = 10.0
REMOVED = 4404
Query = Callable[[str, Mapping[str, str], Account | None], Awaitable[Snapshot]]
OnMessage = Callable[[str, str, Account | None, str], Awaitable[None]]
_log = structlog.get_logger()


class ChannelHub:
    """The live channels of one flow. Publish from the loop's thread only.

    `query(name, parameters, account)` answers the declared queries of `on_connect`. `on_message(channel, room, account,
    text)` returns once what a client sent is durable; it raises LookupError where no source takes what clients of that
    channel send, and Unavailable when it cannot be taken now. Without it, clients may not send.
    """

    def __init__(
        self, flow: str, specs: Mapping[str, ChannelSpec], clock: Callable[[], float] = time.monotonic,
        later: Later | None = None, query: Query | None = None, on_message: OnMessage | None = None, run: str = "",
        log: ChannelLog | None = None,
    ) -> None:  # fmt: skip
        self.flow = flow
        self.run = run or secrets.token_hex(4)
        self.query = query
        self.on_message = on_message
        self.channels: dict[str, Channel] = {}
        self._clock, self._later, self._log = clock, later, log
        self._removed: dict[str, Channel] = {}
        self._open(specs)

    def _open(self, specs: Mapping[str, ChannelSpec]) -> None:
        saved = self._log.open() if self._log else {}
        for name in specs.keys() & saved.keys():
            self.channels[name] = self._channel(name, specs[name])
            self.channels[name].restore(saved[name])
        self.replace(specs)
        for name in specs.keys() & saved.keys():
            self.channels[name].resume(saved[name].waiting)

    def replace(self, specs: Mapping[str, ChannelSpec]) -> None:
        """Take the channels of another version of the flow.

        Numbers, history and kept values go on, also those of a channel that comes back after a deploy that failed.
        Clients stay, unless their channel is gone (4404) or has other doors (1012): then they come again by these.
        """
        for name in self.channels.keys() - specs.keys():
            self._removed[name] = self.channels.pop(name)
            self._removed[name].close(REMOVED, "channel removed")
        for name, spec in specs.items():
            if name not in self.channels:
                again = name in self._removed
                self.channels[name] = self._removed.pop(name) if again else self._channel(name, spec)
            self.channels[name].change(spec)
        if self._log:
            self._log.watch([*self.channels.values(), *self._removed.values()])

    def _channel(self, name: str, spec: ChannelSpec) -> Channel:
        return Channel(name, spec, self.run, self._clock, self._later, self._log)

    def publish(self, items: Iterable[Pushed]) -> "asyncio.Future[None] | None":
        """Send events to their channels, each id once; what names no declared channel is left out and logged.

        Return what is done when the events are durable; None: they are, or the hub has no log.
        """
        for push in items:
            channel = self.channels.get(push.channel)
            if channel is None:
                _log.debug("push to an unknown channel", flow=self.flow, channel=push.channel, event_name=push.event)
            else:
                channel.publish(push)
        return self._log.flushed() if self._log else None

    def kept(self, channel: str, event: str, room: str = "") -> bytes | None:
        """Return the last value of a kept event, as JSON."""
        found = self.channels[channel].kept.get((event, room)) if channel in self.channels else None
        return found.body if found else None

    def keeps(self) -> list[Pushed]:
        """Return every kept value; publishing them to a new hub restores them there."""
        return [push for channel in self.channels.values() for push in channel.kept.values()]

    def report(self) -> dict[str, dict[str, int]]:
        """Return for each channel its clients, last number, and what was sent, repeated, conflated, cut, refused."""
        return {
            name: {"clients": sum(1 for _ in channel.listeners()), "number": channel.number, **channel.counts}
            for name, channel in self.channels.items()
        }

    def queues(self) -> list[tuple[str, int, float]]:
        """Return for each channel the most that is held back for a client, and how full (0 to 1) that is."""
        held = {name: [of.client.waiting for of in channel.listeners()] for name, channel in self.channels.items()}
        return [(name, *max(waiting, key=lambda one: one[1], default=(0, 0.0))) for name, waiting in held.items()]

    async def join(
        self, channel: Channel, client: Client, account: Account | None = None, room: str = "", after: str = ""
    ) -> Listener:
        """Add a client: first what it missed since the message `after`, or else a snapshot; then live events."""
        listener = channel.enter(client, room)
        missed = channel.missed(after, room) if after else None
        try:
            if missed is None:
                await self._snapshot(channel, listener, account, room, after)
            else:
                for message in missed:
                    client.send(message)
                listener.release()
        except BaseException:
            channel.leave(listener)
            raise
        return listener

    async def _snapshot(
        self, channel: Channel, listener: Listener, account: Account | None, room: str, after: str
    ) -> None:
        begin, first = channel.last_id, channel.spec.on_connect
        answers = await self._answers(channel, room, account)
        if after and not first:
            listener.client.send(Message(begin, "gap", b'{"reason":"too long ago to resume"}'))
        for event, value in first.items():
            if isinstance(value, FromQuery):
                _send_answer(channel, listener, Message(begin, event, b""), answers[event], room)
                continue
            for push in channel.last_values(value, room):
                listener.known.update(channel.coming(push))
                listener.client.send(Message(begin, event, push.body))
        listener.release(frozenset(value for value in first.values() if isinstance(value, str)))

    async def _answers(self, channel: Channel, room: str, account: Account | None) -> dict[str, Snapshot | None]:
        asked = {event: value.query for event, value in channel.spec.on_connect.items() if isinstance(value, FromQuery)}
        if not asked:
            return {}
        found = await asyncio.gather(*(self._ask(query, channel, room, account) for query in asked.values()))
        return dict(zip(asked, found, strict=True))

    async def _ask(self, query: str, channel: Channel, room: str, account: Account | None) -> Snapshot | None:
        parameters = {channel.spec.parameter: room} if channel.spec.parameter else {}
        if self.query is None:
            return None
        try:
            return await asyncio.wait_for(self.query(query, parameters, account), QUERY_TIME)
        except Exception as fault:  # whatever a database may raise: the client still gets live events, and is told
            _log.warning("snapshot failed", flow=self.flow, channel=channel.name, query=query, fault=repr(fault))
            return None

    def close(self) -> None:
        """Cut every client: the gateway stops."""
        for channel in self.channels.values():
            channel.close(RESTART, "the server stops")
        if self._log:
            self._log.close()


def _send_answer(channel: Channel, listener: Listener, message: Message, answer: Snapshot | None, room: str) -> None:
    if answer is None:
        listener.client.send(error_message("unavailable", f"{message.event} cannot be read now", event=message.event))
        return
    message.body = answer.body
    listener.client.send(message)
    if answer.ids is None:
        return
    listener.known |= answer.ids
    held = {held.origin for held in listener.held or ()}
    for recent in channel.lately(room, answer.ids | held):
        listener.client.send(recent)
