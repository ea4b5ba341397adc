"""`log`: a line in the log."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
import structlog

from engine.api import (
    Event,
    Example,
    Flow,
    Node,
    Outside,
    Problem,
    Sink,
    Type,
    Writer,
    component,
    unknown_fields,
)

LONGEST = 2000


@component("log")
class Log(Sink):
    """Write each event as one line to the log, a long one shortened. Delivery: at least once."""

    message: str = "event"
    """What the line says."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """How urgent it is."""
    fields: list[str] = []
    """Which fields are written (default: all)."""

    shorthand = "message"
    guarantee = "at least once"
    examples = (
        Example(
            about="Say what was refused.",
            config="log: {message: refused, level: warning}",
            given=[{"a": 1}],
            expect=[{"a": 1}],
        ),
        Example(
            about="Two fields of what passes, while a flow is being written.",
            config="log: {fields: [device, t], level: debug}",
            given=[{"device": "LED", "t": 20, "picture": "…"}],
            expect=[{"device": "LED", "t": 20, "picture": "…"}],
        ),
    )

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        return unknown_fields(flow, ((f"fields.{at}", name) for at, name in enumerate(self.fields)), given)

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return a writer on the process's log."""
        return Lines(self, node.name)


class Lines:
    """Writes lines."""

    def __init__(self, options: Log, node: str) -> None:
        self.options, self.log = options, structlog.get_logger().bind(node=node)

    async def write(self, events: list[Event]) -> None:
        """Write a line an event."""
        say = getattr(self.log, self.options.level)
        for event in events:
            data = {name: event.data.get(name) for name in self.options.fields} or event.data
            say(self.options.message, id=event.id.hex(), topic=event.topic, data=_shown(data))

    async def close(self) -> None:
        """Do nothing: the log stays."""


def _shown(data: dict[str, Any]) -> object:
    """Return data as it is, or the beginning of its JSON: a payload of megabytes is no log line."""
    text = msgspec.json.encode(data, enc_hook=str).decode()
    return data if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
