"""Fingerprints of stateful nodes: what has to stay the same for a stored state to mean what it meant."""

from typing import Any

import msgspec

from engine.component import Stateful
from engine.expressions import Expression
from engine.flow import Flow, Node


class Fingerprint(msgspec.Struct, frozen=True):
    """Of one node: its kind, the key that its states hang on, the options that shape a state, and the state's type."""

    kind: str
    key: str
    shape: dict[str, Any]
    state: str

    def difference(self, now: "Fingerprint") -> str:
        """Return in words what has changed, "" for nothing."""
        if self.kind != now.kind:
            return f"kind: {self.kind} → {now.kind}"
        if self.key != now.key:
            return f"key: {self.key or 'none'} → {now.key or 'none'}"
        for name in sorted(self.shape.keys() | now.shape.keys()):
            old, new = self.shape.get(name), now.shape.get(name)
            if old != new:
                return f"{name}: {_short(old)} → {_short(new)}"
        return "" if self.state == now.state else f"form of the state: {self.state} → {now.state}"


def fingerprints(flow: Flow) -> dict[str, Fingerprint]:
    """Return the fingerprint of each stateful node of a flow."""
    return {
        node.name: _fingerprint(flow, node)
        for node in flow.section("operators")
        if isinstance(node.component, Stateful)
    }


def _fingerprint(flow: Flow, node: Node) -> Fingerprint:
    component: Any = node.component
    giver = flow.key_giver(node) if component.keyed else None
    key = giver.key.text if giver is not None and giver.key is not None else ""
    options = component.model_dump(exclude=set(component.state_free))
    shape = msgspec.json.decode(msgspec.json.encode(options, enc_hook=_text))
    return Fingerprint(component.kind, key, shape, _form(component.state_type))


def _text(value: Any) -> str:
    return value.text if isinstance(value, Expression) else repr(value)


def _form(kind: Any) -> str:
    """Return the form of a state's type as it is stored: the fields of a struct, the name of anything else."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return ", ".join(field.name for field in msgspec.structs.fields(kind))
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"
