"""`lint`: what is wrong with flows, and with `--connect` what is wrong with the place that they would run at."""

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flows import Paths, loaded
from cli.output import AsJson, print_json
from engine.errors import Finding, FlowInvalid
from engine.settings import read_environment

if TYPE_CHECKING:
    from engine.flow import Flow

Connect = Annotated[bool, typer.Option("--connect", help="Try what the flows would reach here; nothing is changed.")]
Patience = Annotated[float, typer.Option(help="With --connect: seconds for each answer.", min=0.1, max=600)]


def lint(paths: Paths, json: AsJson = False, connect: Connect = False, patience: Patience = 5.0) -> None:
    """Find every problem in flows, each with its line and column; pages of Markdown with flows may be among them.

    Connects to nothing, unless --connect is given: then servers, files and tables are tried as well, all at once.
    Shapes that are known to be slow are warnings, which do not make it fail.
    """
    groups = loaded(paths)
    flows = [flow for group in groups for flow in group]
    findings = [finding for flow in flows for finding in flow.document.findings]
    findings += [finding for group in groups for finding in findings_between(group)]
    findings += _found_here(flows, patience) if connect else []
    findings = sorted(dict.fromkeys(findings + _slow(flows)), key=lambda f: (f.path, f.line, f.column))
    wrong = any(finding.severity == "error" for finding in findings)
    if json:
        print_json([_row(finding) for finding in findings])
    elif wrong:
        raise FlowInvalid(findings)
    else:
        typer.echo("".join(f"{warning}\n" for warning in findings) + _summary(len(flows), len(findings)))
    raise typer.Exit(1 if wrong else 0)


def _slow(flows: "list[Flow]") -> list[Finding]:
    from engine.slow_shapes import slow_shapes

    return [warning for flow in flows for warning in slow_shapes(flow)]


def _found_here(flows: "list[Flow]", patience: float) -> list[Finding]:
    """Return what is wrong with the place, for the flows that have no findings: those come first."""
    from engine.probing import probe_flows

    for name in ("engine", "apprise"):  # what connections say is in the findings
        logging.getLogger(name).addHandler(logging.NullHandler())
    sound = [flow for flow in flows if not flow.document.findings]
    return asyncio.run(probe_flows(sound, read_environment(), patience))


def _row(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON has it: with its tier and where its code is explained."""
    from engine.finding_codes import finding_codes

    entry = finding_codes()[finding.code]
    return {
        "tier": entry.tier, "code": finding.code, "severity": finding.severity, "message": finding.message,
        "path": finding.path, "line": finding.line, "column": finding.column, "node": finding.node,
        "option": finding.option, "hint": finding.hint, "docs": entry.link,
    }  # fmt: skip


def findings_between(together: "list[Flow]") -> list[Finding]:
    """Return what is wrong between the instances of a flow: they run together."""
    if len(together) < 2:
        return []
    from web.routes import path_conflicts

    names = Counter(flow.name for flow in together)
    found = [
        Finding(code="flow-name", message=f"a name of its own; {count} instances are '{name}'", path=str(flow.path))
        for flow in together[:1]
        for name, count in names.items()
        if count > 1
    ]
    return found + path_conflicts(together)[:1]


def _summary(flows: int, warnings: int) -> str:
    more = f", {warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    return f"{flows} flow{'s' if flows != 1 else ''}, no findings{more}"
