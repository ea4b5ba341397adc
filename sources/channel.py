"""`channel`: what the clients of a channel send."""

from collections.abc import Iterable

from engine.api import ChannelSource, Example, Flow, Node, Problem, component, did_you_mean


@component("channel")
class Channel(ChannelSource):
    """Take the messages (JSON objects) that clients of a live channel send.

    `meta.account` is who sent it and `meta.room` the room, where the channel's path has one. Delivery: in the durable
    inbox before the client sees any effect; a client that loses its connection before that sends again.
    """

    name: str
    """The channel, one of the flow's `channels`."""

    shorthand = "name"
    guarantee = "at least once into the inbox"
    examples = (
        Example(
            about="What people say in a chat.",
            config="channel: chat",
            given=[{"text": "hello"}],
            expect=[{"text": "hello"}],
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

    def channel(self) -> str:
        """Return the channel's name."""
        return self.name
