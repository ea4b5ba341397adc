"""`status`: how every flow is, and what it takes."""

from typing import Annotated, Any

import typer

from cli.control import Control
from cli.output import AsJson, print_json
from engine.errors import UsageFault, did_you_mean
from engine.settings import read_environment

WIDTH = 200  # a terminal that is narrower breaks the lines itself, and what reads them gets them whole


def status(
    flow: Annotated[str | None, typer.Argument(help="One flow, with its nodes, their cost, and its ledger.")] = None,
    json: AsJson = False,
) -> None:
    """Show state, load, cost and ledger of the flows. Exit code 1: not every one runs, or a ledger is off."""
    told = Control(read_environment()).get("/flows")
    found: dict[str, Any] = told["flows"]
    if flow is not None:
        if flow not in found:
            raise UsageFault(f"a flow that is deployed ({', '.join(found)}); got '{flow}'. {did_you_mean(flow, found)}")
        found = {flow: found[flow]}
    if json:
        print_json(found)
    else:
        _show(found, told["gateway"], detailed=flow is not None)
    raise typer.Exit(1 if any(map(_wrong, found.values())) else 0)


def _wrong(state: dict[str, Any]) -> bool:
    return state["state"] != "running" or bool(state.get("ledger", {}).get("remainder"))


def _show(found: dict[str, Any], gateway: dict[str, Any], *, detailed: bool) -> None:
    from rich.console import Console

    from cli.status_text import flow_tables, overview

    console = Console(soft_wrap=True, width=WIDTH)
    console.print(overview(found, gateway))
    for name, state in found.items():
        if state["last_error"]:
            console.print(f"{name}: {state['last_error'][:200]}", markup=False, highlight=False)
        if detailed:
            console.print(*flow_tables(state))
