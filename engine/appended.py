"""Which tables of a flow hold events, rather than the latest state of something."""

from engine.flow import Flow


def appended_tables(flow: Flow) -> set[str]:
    """Return the tables that a sink of the flow appends to: they carry `_event`."""
    options = [node.component for node in flow.section("sinks") if node.kind == "sql"]
    return {getattr(option, "table") for option in options if getattr(option, "mode", "append") == "append"}  # noqa: B009
