"""`reply`: answer the request that an event came from."""

from collections.abc import Iterable

import msgspec
from pydantic import Field

from engine.api import Event, Example, Flow, Node, Outside, Problem, Sink, Writer, component, did_you_mean


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
    counts: str = ""
    """A `sql` sink: the answer tells what it did with the rows that came of the request, by `inserted`, `updated` and
    `unchanged`, and how many parts of the request became dead letters, by `errors` and the first twenty `reasons`.
    While its database is away, the answer is a 503: the rows are stored later."""

    guarantee = "once, after the effect is durable"
    spills = False
    examples = (
        Example(
            about="Answer with what was computed.", config="reply: {status: 200}", given=[{"a": 1}], expect=[{"a": 1}]
        ),
        Example(
            about="Answer one field only, with the status of something new.",
            config="reply: {status: 201, fields: [id]}",
            given=[{"id": 7, "secret": "x"}],
            expect=[{"id": 7}],
        ),
        Example(
            about="Say that it was made, and under which number.",
            config="reply: {status: 201, fields: [number]}",
            given=[{"number": 7, "part": "axle"}],
            expect=[{"number": 7, "part": "axle"}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a flow in which nobody waits."""
        if not any(getattr(source.component, "reply", "") == "flow" for source in flow.section("sources")):
            yield Problem("reply", "status", "a source with `reply: flow`; this flow has none")
        known = [sink.name for sink in flow.section("sinks") if sink.kind == "sql"]
        if self.counts and self.counts not in known:
            message = f"a sql sink of the flow ({', '.join(known) or 'there is none'}); got '{self.counts}'"
            yield Problem("unknown-node", "counts", message, did_you_mean(self.counts, known))

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return a writer on the link to the gateway."""
        return Answers(self, node.name, outside)


class Answers:
    """Waits for the other sinks, then answers."""

    def __init__(self, options: Reply, node: str, outside: Outside) -> None:
        self.options, self.node, self.outside = options, node, outside
        if options.counts:
            outside.tallies.ask(options.counts)

    async def write(self, events: list[Event]) -> None:
        """Answer a batch."""
        await self.outside.flushed(self.node)
        if self.options.counts:  # what that sink has refused
            await self.outside.letters_stored()
        for event in events:
            await self.outside.answer(event.id, *self._answer(event))

    def _answer(self, event: Event) -> tuple[int, bytes]:
        fields, counts = self.options.fields, self.options.counts
        data = {name: event.data.get(name) for name in fields} if fields else event.data
        if not counts:
            return self.options.status, msgspec.json.encode(data)
        told = self.outside.tallies.take(event.id, counts)
        if self.outside.spilled(counts):
            error = {"code": "busy", "message": "the database is away: the rows are kept, and stored later"}
            return 503, msgspec.json.encode({"error": {**error, "id": event.id.hex()}})
        return self.options.status, msgspec.json.encode({**data, **told})

    async def close(self) -> None:
        """Do nothing: the link is the worker's."""
