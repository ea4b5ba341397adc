"""What the clients of a channel see, for flow tests: the events that sinks push, by `channel.event`."""

from typing import Any

from engine.flow import Flow, Node


def pushing(flow: Flow, name: str) -> list[Node]:
    """Return the sinks that push `channel.event`; none where that is an output of a node."""
    channel, _, event = name.partition(".")
    if channel in flow.nodes or channel not in flow.channels:
        return []
    return [node for node in _sinks(flow, channel) if sent(node, "event") == event]


def pushed_events(flow: Flow, channel: str) -> list[str]:
    """Return the names of the events that sinks push to a channel."""
    return list(dict.fromkeys(str(sent(node, "event")) for node in _sinks(flow, channel)))


def _sinks(flow: Flow, channel: str) -> list[Node]:
    return [node for node in flow.section("sinks") if node.kind == "channel" and sent(node, "name") == channel]


def sent(sink: Node, option: str) -> Any:
    """Return an option of a channel's sink."""
    return getattr(sink.component, option, None)
