"""`graph`, and the flows that commands are about."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from cli.output import AsJson, print_json
from engine.errors import UsageFault
from engine.settings import read_environment

if TYPE_CHECKING:
    from engine.flow import Flow

Paths = Annotated[
    list[Path], typer.Argument(help="Flow files, folders of packs, or Markdown with flows.", metavar="PATH...")
]


def loaded(paths: list[Path]) -> "list[list[Flow]]":
    """Return the instances of each flow of flow files, folders and pages of Markdown."""
    from cli.paths import flow_files
    from engine.deployed import surroundings
    from engine.lint_markdown import load_each

    around = structs.replace(surroundings(read_environment()), trying=True)
    return [flows for file in flow_files(paths, below=True) for flows in load_each(file, around)]


def _flows(paths: list[Path]) -> "list[Flow]":
    return [flow for flows in loaded(paths) for flow in flows]


def graph(path: Annotated[Path, typer.Argument(help="A flow file.")], json: AsJson = False) -> None:
    """Print the flow's graph: Mermaid text for documents, or JSON."""
    flows = _flows([path])
    if len({flow.path for flow in flows}) > 1:
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
