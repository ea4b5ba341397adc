"""Which stateless nodes run in one stretch: they are one generated function, whose time is measured as a whole."""

from engine.component import Stateful
from engine.flow import Flow

SOURCES = "sources"


def stretch(flow: Flow, name: str) -> tuple[str, ...]:
    """Return the nodes of the stretch after a keyed node, or of the one that begins with the sources, in order."""
    found = [node.name for node in flow.section("sources")] if name == SOURCES else [name]
    for one in found:
        for node, _ in flow.consumers(one):
            stateless = node.section == "operators" and not isinstance(node.component, Stateful)
            if stateless and node.name not in found:
                found.append(node.name)
    return tuple(found if name == SOURCES else found[1:])
