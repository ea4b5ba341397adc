"""The tables of `status`, and its numbers as people read them."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from web.console_text import size

Found = dict[str, Any]
_KINDS = {
    "start": "start-up",
    "read": "read and decode",
    "stretch": "stateless",
    "keyed": "keyed",
    "sink": "sink",
    "rest": "rest",
}
_RESTS = {"engine": "the engine between the steps", "io": "links and reports", "threads": "threads of drivers"}


def overview(found: Found, gateway: Found) -> Table:
    """Return a line for each flow, and one for the gateway."""
    table = _table(
        "flow", "state", "version", "in/s", "out/s", "lag", "backlog", "full", "CPU", "memory", "dead", "restarts"
    )
    for name, state in found.items():
        table.add_row(
            name, state["state"], str(state.get("version", "")), rate(state["rate_in"]), rate(state["rate_out"]),
            duration(state["lag"]), f"{state['backlog']:,}", fullest(state), percent(state["cpu"]), size(state["rss"]),
            str(state["dead"]), str(state["restarts"]),
        )  # fmt: skip
    cost = (percent(gateway["cpu"]), size(gateway["rss"]))
    table.add_row("(gateway)", *[""] * 7, *cost, "", "")
    return table


def flow_tables(state: Found) -> Iterator[Table]:
    """Return what one flow's ledger, nodes, steps and queues are."""
    ledger = _table("ledger", "events")
    for term, count in state.get("ledger", {}).items():
        ledger.add_row(term.replace("_", " "), f"{count:,}")
    return iter((ledger, _nodes(state), _steps(state), _queues(state)))


def _nodes(state: Found) -> Table:
    table = _table("node", "in", "out", "dead", "in/s", "out/s", "dead/s")
    for name, counts in state["nodes"].items():
        rates = state["node_rates"].get(name, {})
        kinds = ("in", "out", "dead")
        totals, speeds = (
            [f"{counts.get(what, 0):,.0f}" for what in kinds],
            [rate(rates.get(what, 0.0)) for what in kinds],
        )
        table.add_row(name, *totals, *speeds)
    return table


def _steps(state: Found) -> Table:
    table = _table("step", "nodes", "CPU", "events/s", "µs/event", "busy", "keys", "state")
    for step in state["steps"]:
        micros = "" if step["micros"] is None else f"{step['micros']:.1f}"
        speed = "" if step["kind"] in ("start", "rest") else rate(step["rate"])
        busy = percent(step["busy"]) if step["kind"] == "sink" else ""
        held = (f"{step['keys']:,}", size(step["state"])) if step["kind"] == "keyed" else ("", "")
        nodes = " ".join(step["nodes"])
        if step["kind"] in ("stretch", "rest"):
            nodes = nodes or _RESTS.get(step["name"]) or f"what leaves {step['name']}"
        table.add_row(_KINDS[step["kind"]], nodes, percent(step["cpu"]), speed, micros, busy, *held)
    return table


def _queues(state: Found) -> Table:
    table = _table("queue", "name", "waiting", "full")
    for queue in state["queues"]:
        table.add_row(queue["kind"], queue["name"], f"{queue['waiting']:,}", percent(queue["fill"]))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for column in columns:
        left = column in ("flow", "state", "ledger", "node", "step", "nodes", "queue", "name")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "nodes", max_width=60)
    return table


def fullest(state: Found) -> str:
    """Return how full the fullest queue is, and whose it is where that is worth a look."""
    queue = max(state["queues"], key=lambda one: one["fill"], default=None)
    if queue is None:
        return ""
    return percent(queue["fill"]) + (f" {queue['kind']} {queue['name']}" if queue["fill"] >= 0.1 else "")


def rate(value: float) -> str:
    """Return events a second."""
    return f"{value:,.0f}" if value >= 10 or value < 0.05 else f"{value:.1f}"


def percent(share: float) -> str:
    """Return a share of a core, or of a queue."""
    return f"{share:.0%}" if share >= 0.095 or share < 0.0005 else f"{share:.1%}"


def duration(seconds: float) -> str:
    """Return seconds in one unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 or not seconds else f"{seconds:.1f} s"
