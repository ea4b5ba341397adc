"""`reply`: answer the request that an event came from."""

from collections.abc import Iterable

import msgspec
from pydantic import Field

from engine.api import Event, Example, Flow, Node, Outside, Problem, Sink, Writer, component


@component("reply")
class Reply(Sink):
    """Answer an HTTP request whose source says `reply: flow` with the event's data.

    Delivery: the answer goes out when everything that the flow wrote before it is durable. A second answer to the same
    request is dropped; an event that no request waits for is ignored.
    """

    status: int = Field(default=200, ge=200, le=599)
    """The HTTP status."""
    fields: list[str] = []
    """Which fields are sent (default: all)."""

    guarantee = "once, after the effect is durable"
    spills = False
    examples = (
        Example(
            about="Answer with what was computed.", config="reply: {status: 200}", given=[{"a": 1}], expect=[{"a": 1}]
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a flow in which nobody waits."""
        if not any(getattr(source.component, "reply", "") == "flow" for source in flow.section("sources")):
            yield Problem("reply", "status", "a source with `reply: flow`; this flow has none")

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return a writer on the link to the gateway."""
        return Answers(self, node.name, outside)


class Answers:
    """Waits for the other sinks, then answers."""

    def __init__(self, options: Reply, node: str, outside: Outside) -> None:
        self.options, self.node, self.outside = options, node, outside

    async def write(self, events: list[Event]) -> None:
        """Answer a batch."""
        await self.outside.flushed(self.node)
        for event in events:
            fields = self.options.fields
            data = {name: event.data.get(name) for name in fields} if fields else event.data
            await self.outside.answer(event.id, self.options.status, msgspec.json.encode(data))

    async def close(self) -> None:
        """Do nothing: the link is the worker's."""
