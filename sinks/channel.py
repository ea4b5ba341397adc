"""`channel`: push events to everybody who listens."""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from engine.api import (
    Event,
    Example,
    Expression,
    Flow,
    Node,
    Outside,
    Problem,
    Push,
    Rate,
    Sink,
    Type,
    Writer,
    component,
    did_you_mean,
    unknown_fields,
)


@component("channel")
class Channel(Sink):
    """Push each event to the clients of a live channel, over WebSocket and Socket.IO alike.

    Delivery: the gateway has each event once (it knows their ids); a client that reconnects with its last number gets
    what it missed, or a fresh snapshot.
    """

    name: str
    """The channel, one of the flow's `channels`."""
    event: str
    """The event's name for the clients."""
    keep: Literal["none", "last"] = "none"
    """`last`: the latest one is kept for those who connect later, and for queries."""
    at_most: Rate = 0
    """How many a second reach a client; the latest always does (default: all)."""
    room: Expression | None = None
    """Which room of a channel with rooms it goes to."""
    fields: list[str] = []
    """Which fields are sent (default: all)."""

    guarantee = "exactly once as seen by a connected client"
    spills = False
    examples = (
        Example(
            about="Defects reach the dashboard.",
            config="channel: {name: dashboard, event: defect}",
            given=[{"device": "LED"}],
            expect=[{"device": "LED"}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a channel that is not there."""
        if self.name not in flow.channels:
            yield Problem(
                "unknown-channel",
                "name",
                f"a channel of this flow; got '{self.name}'",
                did_you_mean(self.name, flow.channels),
            )

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        return unknown_fields(flow, ((f"fields.{at}", name) for at, name in enumerate(self.fields)), given)

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return a writer on the link to the gateway."""
        return Pusher(self, node.name, outside)


class Pusher:
    """Sends batches over the link and remembers what is kept, for a gateway that starts anew."""

    def __init__(self, options: Channel, node: str, outside: Outside) -> None:
        self.options, self.node, self.outside = options, node, outside

    async def write(self, events: list[Event]) -> None:
        """Return when the gateway has the events; of kept ones that a client would not see, only the last is sent."""
        conflates = self.options.keep == "last" and self.options.at_most and self.options.room is None
        sent = events[-1:] if conflates else events
        await self.outside.push([self._push(event) for event in sent])
        if len(sent) < len(events):
            self.outside.conflated(self.node, len(events) - len(sent))

    def _push(self, event: Event) -> Push:
        options = self.options
        data = {name: event.data.get(name) for name in options.fields} if options.fields else event.data
        room = "" if options.room is None else str(options.room(event))
        body = msgspec.json.encode(data)
        return Push(
            options.name, options.event, event.id, body, room, options.keep == "last", event.arrival, options.at_most
        )

    async def close(self) -> None:
        """Do nothing: the link is the worker's."""
