"""The command line: `millstream COMMAND`. Exit codes: 0 done, 1 findings, 2 usage, 3 environment."""

import sys
from collections.abc import Callable
from typing import Any

import typer

from cli.accounts import accounts
from cli.dead_letters import deadletters
from cli.deploy import deploy, plan, rollback, undeploy, versions
from cli.flow_tests import run_flow_tests
from cli.flows import graph
from cli.lint import lint
from cli.new import new
from cli.processes import gateway, run, worker
from cli.reference import explain, list_kinds, schema
from cli.replay import replay
from cli.status import status
from cli.tap import tap
from engine.errors import EnvironmentFault, FlowInvalid, MillstreamError


class Commands(typer.core.TyperGroup):
    """Turns our exceptions into a line and an exit code; findings are lines of their own, as editors read them."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs | {"prog_name": "millstream"})
        except FlowInvalid as fault:
            typer.echo(fault, err=True)
            sys.exit(fault.exit_code)
        except MillstreamError as fault:
            typer.echo(f"millstream: {fault}", err=True)
            sys.exit(fault.exit_code)
        except OSError as fault:
            typer.echo(f"millstream: {fault}", err=True)
            sys.exit(EnvironmentFault.exit_code)


app = typer.Typer(
    cls=Commands,
    help="Run dataflows that are declared in YAML.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "gateway": gateway,
    "plan": plan,
    "deploy": deploy,
    "rollback": rollback,
    "undeploy": undeploy,
    "versions": versions,
    "status": status,
    "new": new,
    "lint": lint,
    "test": run_flow_tests,
    "list": list_kinds,
    "explain": explain,
    "schema": schema,
    "graph": graph,
    "replay": replay,
    "tap": tap,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.command("worker", hidden=True)(worker)
app.add_typer(accounts, name="accounts")
app.add_typer(deadletters, name="deadletters")
