"""`status`: how every flow is."""

from typing import Annotated, Any

import typer

from cli.control import Control
from cli.output import AsJson, print_json
from engine.errors import UsageFault, did_you_mean
from engine.settings import read_environment


def status(
    flow: Annotated[str | None, typer.Argument(help="One flow, with its nodes and its ledger.")] = None,
    json: AsJson = False,
) -> None:
    """Show the state, version, backlog and ledger of the flows. Exit code 1: not every one runs, or a ledger is off."""
    found: dict[str, Any] = Control(read_environment()).get("/flows")["flows"]
    if flow is not None:
        if flow not in found:
            raise UsageFault(f"a flow that is deployed ({', '.join(found)}); got '{flow}'. {did_you_mean(flow, found)}")
        found = {flow: found[flow]}
    if json:
        print_json(found)
    else:
        _show(found, detailed=flow is not None)
    raise typer.Exit(1 if any(map(_wrong, found.values())) else 0)


def _wrong(state: dict[str, Any]) -> bool:
    return state["state"] != "running" or bool(state.get("ledger", {}).get("remainder"))


def _show(found: dict[str, Any], *, detailed: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("flow", "state", "version", "backlog", "dead letters", "restarts", "last error", box=None)
    for name, state in found.items():
        table.add_row(
            name, state["state"], str(state.get("version", "")), f"{state['backlog']}", str(state["dead"]),
            str(state["restarts"]), state["last_error"][:100],
        )  # fmt: skip
    console = Console(soft_wrap=True)
    console.print(table)
    if detailed:
        for state in found.values():
            _show_detail(console, state)


def _show_detail(console: Any, state: dict[str, Any]) -> None:
    from rich.table import Table

    ledger = Table("ledger", "events", box=None)
    for term, count in state.get("ledger", {}).items():
        ledger.add_row(term.replace("_", " "), str(count))
    nodes = Table("node", "in", "out", "dead", "a second", box=None)
    for name, counts in state["nodes"].items():
        rate = f"{state['rates'].get(name, 0.0):.1f}"
        nodes.add_row(name, *(f"{counts.get(what, 0):g}" for what in ("in", "out", "dead")), rate)
    console.print(ledger, nodes)
