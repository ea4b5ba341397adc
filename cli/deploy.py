"""`plan`, `deploy`, `rollback`, `undeploy`, `versions`: change what the gateway runs."""

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.control import Control, Refused, part
from cli.output import AsJson, print_json
from engine.settings import read_environment

Paths = Annotated[list[Path], typer.Argument(help="Flow files, or folders of packs.", metavar="PATH...")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the flows.")]
Resets = Annotated[list[str] | None, typer.Option("--reset-state", help="A node whose state may be given up.")]
Destructive = Annotated[bool, typer.Option("--destructive", help="Changes of tables that lose data may be made.")]
Author = Annotated[str, typer.Option(help="Who deploys; default: the name of the user.")]
FlowName = Annotated[str, typer.Argument(help="A deployed flow.")]


def plan(paths: Paths, set_: Overrides = None, json: AsJson = False) -> None:
    """Show what a deploy would do to each node, state and table; changes nothing. Exit code 1: it needs consent."""
    control = Control(read_environment())
    plans = [control.post("/plan", order) for order in _orders(paths, set_)]
    if json:
        print_json(plans)
    else:
        for found in plans:
            _show_plan(found)
    raise typer.Exit(1 if any(_needs_consent(found) for found in plans) else 0)


def deploy(
    paths: Paths, set_: Overrides = None, reset_state: Resets = None, destructive: Destructive = False,
    restart: Annotated[bool, typer.Option("--restart", help="Also restart a flow that has not changed.")] = False,
    author: Author = "", json: AsJson = False,
) -> None:  # fmt: skip
    """Deploy flows to the running gateway: lint, plan, tables, drain, start, health; or the old version runs on."""
    control = Control(read_environment())
    consent = {"reset": reset_state or [], "destructive": destructive, "restart": restart}
    found = [_deploy(control, "/deploy", order | consent, author, json) for order in _orders(paths, set_)]
    if json:
        print_json(found)


def rollback(
    flow: FlowName, to: Annotated[int, typer.Option("--to", help="The version; default: the one before.")] = 0,
    reset_state: Resets = None, destructive: Destructive = False, author: Author = "", json: AsJson = False,
) -> None:  # fmt: skip
    """Deploy an earlier version of a flow again."""
    body = {"to": to, "reset": reset_state or [], "destructive": destructive}
    found = _deploy(Control(read_environment()), f"/flows/{part(flow)}/rollback", body, author, json)
    if json:
        print_json(found)


def undeploy(flow: FlowName, json: AsJson = False) -> None:
    """Stop a flow and take it out of what is deployed; its inbox, states and versions stay on disk."""
    found = Control(read_environment()).post(f"/flows/{part(flow)}/undeploy", {})
    print_json(found) if json else typer.echo(f"{flow}: undeployed")


def _orders(paths: list[Path], overrides: list[str] | None) -> list[dict[str, Any]]:
    """Return what is to be deployed of each flow file, one for each instance; the gateway reads it in its own place."""
    from cli.paths import flow_files
    from cli.processes import read_overrides
    from engine.deployed import surroundings, whole_text
    from engine.load import load_all

    given = read_overrides(overrides or [])
    around = surroundings(read_environment(), given)
    return [
        {"text": whole_text(flow), "source": str(flow.path.resolve()), "overrides": given | flow.instance}
        for file in flow_files(paths)
        for flow in load_all(file, around)
    ]


def _deploy(control: Control, path: str, body: dict[str, Any], author: str, json: bool) -> dict[str, Any]:
    try:
        found: dict[str, Any] = control.post(path, body, author=author or getpass.getuser())
    except Refused as fault:
        if not json and "plan" in fault.error:
            _show_plan(fault.error["plan"])
        raise
    if not json:
        if found["outcome"] != "unchanged":
            _show_plan(found["plan"])
        seconds = f" in {found['seconds']:.1f} s" if found["seconds"] else ""
        typer.echo(f"{found['flow']}: {found['outcome']}, version {found['number']}{seconds}")
    return found


def _needs_consent(found: dict[str, Any]) -> bool:
    return bool(found["destructive"]) or any(node["effect"] == "reset" for node in found["nodes"])


def _show_plan(found: dict[str, Any]) -> None:
    what = "new" if found["first"] else "unchanged" if found["unchanged"] else "changed"
    typer.echo(f"{found['flow']}: {what}")
    width = max((len(node["node"]) for node in found["nodes"]), default=0)
    for node in found["nodes"]:
        if node["effect"] != "unchanged" and not found["first"]:
            detail = f"  {node['detail']}" if node["detail"] else ""
            typer.echo(f"  {node['node']:{width}}  {node['effect']}{detail}")
    for line in found["sections"]:
        typer.echo(f"  {line}")
    for line in found["tables"]:
        typer.echo(f"  database: {line}{'  (loses data)' if line in found['destructive'] else ''}")


def versions(
    flow: FlowName, number: Annotated[int | None, typer.Argument(help="Show this one, with its diff.")] = None,
    json: AsJson = False,
) -> None:  # fmt: skip
    """List every version of a flow: who, when, what became of it; or show one."""
    control = Control(read_environment())
    if number is None:
        found = control.get(f"/flows/{part(flow)}/versions")
        print_json(found["versions"]) if json else _show_versions(found["versions"])
    else:
        version = control.get(f"/flows/{part(flow)}/versions/{number}")
        print_json(version) if json else _show_version(version)


def _show_versions(found: list[dict[str, Any]]) -> None:
    from cli.output import moment_text

    for version in found:
        mark = "*" if version["deployed"] else " "
        back = f" (rolled back to {version['rolled_back_to']})" if version["rolled_back_to"] else ""
        reason = f": {version['reason']}" if version["reason"] else ""
        head = f"{mark}{version['number']:>4}  {version['digest']}  {moment_text(version['time'])}  {version['author']}"
        typer.echo(f"{head}  {version['outcome']}{back}{reason}")


def _show_version(version: dict[str, Any]) -> None:
    from cli.output import moment_text

    typer.echo(f"version {version['number']} ({version['digest']}) of {version['source']}")
    typer.echo(
        f"{version['author']}, {moment_text(version['time'])}: {version['outcome']} {version['reason']}".rstrip()
    )
    for node in version["nodes"]:
        if node["effect"] not in ("unchanged", "new"):
            typer.echo(f"  {node['node']}: {node['effect']} {node['detail']}".rstrip())
    typer.echo(version["diff"])
