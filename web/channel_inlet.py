"""What clients of a channel send: checked, held to a rate, handed to the source that takes it."""

import asyncio
from typing import Any, NamedTuple

import msgspec

from engine.errors import MillstreamError, Unavailable
from web.channel import Channel
from web.channel_entry import Account, reaches
from web.channels import ChannelHub

RATE, BURST = 20.0, 40.0
MOST_FAULTS = 20


class Place(NamedTuple):
    """Where a client is: a room of a channel of a hub."""

    hub: ChannelHub
    channel: Channel
    room: str


class FrameFault(MillstreamError):
    """What a client sent cannot be taken; `code` and `more` go into the error that it gets."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more


class Inlet:
    """Takes the frames of one client, 20 a second (40 at once) at most: beyond that, reading waits; nothing is lost."""

    def __init__(self, place: Place, account: Account | None) -> None:
        self._place, self._account = place, account
        self._tokens, self._filled = BURST, 0.0
        self._faults = 0

    @property
    def exhausted(self) -> bool:
        """Tell whether the client has sent too many frames in a row that could not be taken."""
        return self._faults > MOST_FAULTS

    async def take(self, text: str | None) -> str | int | None:
        """Return once a frame is durable, with what it asks to have acknowledged; None stands for a binary frame.

        A frame `{..., "ack": 7}` is to be answered with `{"event": "ack", "data": 7}`. Raises FrameFault.
        """
        await self._wait_for_rate()
        try:
            wanted = await self._deliver(text)
        except FrameFault:
            self._faults += 1
            self._place.channel.counts["refused"] += 1
            raise
        self._faults = 0
        return wanted

    async def _wait_for_rate(self) -> None:
        now = asyncio.get_running_loop().time()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE) - 1
        self._filled = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / RATE)

    async def _deliver(self, text: str | None) -> str | int | None:
        hub, channel, room = self._place
        if hub.on_message is None:
            raise FrameFault("not_taken", "this channel takes nothing from clients")
        if not reaches(self._account, channel.spec.sender):
            raise FrameFault("forbidden", f"sending needs the role {channel.spec.sender}")
        if text is None:
            raise FrameFault("invalid_frame", "a text frame with JSON; got a binary frame")
        wanted = _acknowledgement(text)
        try:
            await hub.on_message(channel.name, room, self._account, text)
        except LookupError as fault:
            raise FrameFault("not_taken", "this channel takes nothing from clients") from fault
        except Unavailable as fault:
            more = {} if wanted is None else {"ack": wanted}
            raise FrameFault("unavailable", "cannot be taken now; send it again later", **more) from fault
        return wanted


def _acknowledgement(text: str) -> str | int | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as fault:
        raise FrameFault("invalid_frame", f"a text frame with JSON; {str(fault)[:200]}") from fault
    wanted = value.get("ack") if isinstance(value, dict) else None
    return wanted if isinstance(wanted, str | int) and not isinstance(wanted, bool) else None
