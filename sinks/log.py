"""`log`: a line in the log."""

from typing import Any, Literal

import msgspec
import structlog

from engine.api import Event, Example, Node, Outside, Sink, Writer, component

LONGEST = 2000


@component("log")
class Log(Sink):
    """Write each event as one line to the log, a long one shortened. Delivery: at least once."""

    message: str = "event"
    """What the line says."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """How urgent it is."""

    shorthand = "message"
    guarantee = "at least once"
    examples = (
        Example(
            about="Say what was refused.",
            config="log: {message: refused, level: warning}",
            given=[{"a": 1}],
            expect=[{"a": 1}],
        ),
    )

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
            say(self.options.message, id=event.id.hex(), topic=event.topic, data=_shown(event.data))

    async def close(self) -> None:
        """Do nothing: the log stays."""


def _shown(data: dict[str, Any]) -> object:
    """Return data as it is, or the beginning of its JSON: a payload of megabytes is no log line."""
    text = msgspec.json.encode(data, enc_hook=str).decode()
    return data if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
