"""What an exception at a node means, in the terms of its options."""

from collections.abc import Callable
from typing import Any

from engine.errors import EventFault
from engine.event import Event
from engine.flow import Node
from engine.option_expressions import option_expressions


def key_text(value: Any) -> str:
    """Return a key as text; a missing key is the event's fault."""
    if value is None:
        raise EventFault("key: a value; got none")
    return value if isinstance(value, str) else str(value)


def explainer(node: Node) -> Callable[[Exception, Event], Exception]:
    """Return what turns a wrong type in one of a node's expressions into a reason with the values."""
    known = [e for e in (node.where, node.key) if e is not None]
    known += [expression for _, expression in option_expressions(node.component)]

    def explain(fault: Exception, event: Event) -> Exception:
        meant = node.component.explain(fault, event)
        if meant is not fault or isinstance(fault, EventFault):
            return meant
        for expression in known:
            try:
                expression(event)
            except Exception:  # the evaluation failed as it did in the flow: say why
                values = {field: event.data.get(field) for field in sorted(expression.fields)}
                return EventFault(expression.explain(event), values)
        return fault

    return explain
