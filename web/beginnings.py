"""What channels keep before the first event: what an operator says nothing looks like."""

from collections.abc import Iterator

import msgspec

from engine.component import Operator
from engine.event import derived_id
from engine.flow import Flow
from engine.frames import Push


def beginnings(flow: Flow) -> Iterator[Push]:
    """Yield the kept values that stand before the first event."""
    for node in flow.section("sinks"):
        if getattr(node.component, "keep", "none") == "last":
            operator = flow.nodes[node.inputs[0].node].component
            empty = operator.empty() if isinstance(operator, Operator) else None
            if empty is not None:
                channel, event = getattr(node.component, "name", ""), getattr(node.component, "event", "")
                yield Push(channel, event, derived_id(node.name, "", 0), msgspec.json.encode(empty), keep=True)
