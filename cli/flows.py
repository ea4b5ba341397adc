"""`lint`, `test` and `graph`: what can be said of flows without running them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import AsJson, print_json
from engine.errors import Finding, FlowInvalid, UsageFault
from engine.settings import read_environment

if TYPE_CHECKING:
    from engine.flow import Flow

Paths = Annotated[list[Path], typer.Argument(help="Flow files, or folders of packs.", metavar="PATH...")]


def _flows(paths: list[Path]) -> "list[Flow]":
    from cli.paths import flow_files
    from engine.deployed import surroundings
    from engine.load import load

    around = surroundings(read_environment())
    return [load(file, around) for file in flow_files(paths, below=True)]


def lint(paths: Paths, json: AsJson = False) -> None:
    """Find every problem in flows, each with its line and column; connects to nothing.

    Shapes that are known to be slow are warnings, which do not make it fail.
    """
    from engine.slow_shapes import slow_shapes

    flows = _flows(paths)
    findings: list[Finding] = [finding for flow in flows for finding in flow.document.findings]
    warnings = [warning for flow in flows for warning in slow_shapes(flow)]
    if json:
        print_json(findings + warnings)
    elif findings:
        raise FlowInvalid(sorted(findings, key=lambda f: (f.path, f.line, f.column)))
    else:
        typer.echo("".join(f"{warning}\n" for warning in warnings) + _summary(len(flows), len(warnings)))
    raise typer.Exit(1 if findings else 0)


def _summary(flows: int, warnings: int) -> str:
    more = f", {warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    return f"{flows} flow{'s' if flows != 1 else ''}, no findings{more}"


def run_flow_tests(paths: Paths, json: AsJson = False) -> None:
    """Run the flows' own tests on a virtual clock; needs no broker and no database."""
    from engine.testing import run_tests

    flows = [flow.raise_findings() for flow in _flows(paths)]
    outcomes = [outcome for flow in flows for outcome in run_tests(flow)]
    failed = [outcome for outcome in outcomes if outcome.differences]
    if json:
        print_json(outcomes)
    else:
        for outcome in outcomes:
            typer.echo(f"{'FAIL' if outcome.differences else 'ok  '} {outcome.flow}: {outcome.test}")
            for difference in outcome.differences:
                typer.echo(f"     {difference}")
        typer.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    raise typer.Exit(1 if failed else 0)


def graph(path: Annotated[Path, typer.Argument(help="A flow file.")], json: AsJson = False) -> None:
    """Print the flow's graph: Mermaid text for documents, or JSON."""
    flows = _flows([path])
    if len(flows) > 1:
        raise UsageFault(f"graph: one flow; {path} has {', '.join(str(flow.path) for flow in flows)}")
    flow = flows[0].raise_findings()
    wires = [(str(wire), node.name) for node in flow.nodes.values() for wire in node.inputs]
    if json:
        nodes = {n.name: {"section": n.section, "kind": n.kind, "about": n.about} for n in flow.nodes.values()}
        print_json({"nodes": nodes, "wires": wires})
    else:
        typer.echo("\n".join(_mermaid(flow, wires)))


def _mermaid(flow: "Flow", wires: list[tuple[str, str]]) -> Iterator[str]:
    yield "flowchart LR"
    shapes = {"sources": ("([", "])"), "operators": ("[", "]"), "sinks": ("[/", "/]")}
    for node in flow.nodes.values():
        left, right = shapes[node.section]
        yield f'  {node.name.replace("/", "_")}{left}"{node.name}<br/>{node.kind}"{right}'
    for wire, name in wires:
        source, _, output = wire.partition(".")
        arrow = f"-- {output} -->" if output else "-->"
        yield f"  {source.replace('/', '_')} {arrow} {name.replace('/', '_')}"
