"""Check what no node can see alone: wires, cycles, outputs, paths, and that every name means something."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from engine.asking import Asking
from engine.component import RoutedSource, SocketSource
from engine.document import Where
from engine.errors import SpecProblem
from engine.flow import Flow, Input, Node
from engine.flow_tests import Change, FlowTest, Send
from engine.option_expressions import option_expressions
from engine.problem import Problem
from engine.pushed import pushed_events
from engine.registry import SECTIONS

ERRORS = "errors"
LOOSE = {"unknown-node", "unknown-section", "from", "node-name", "section"}
SHOWN = 10


def outputs(node: Node) -> list[str]:
    """Return the side outputs of a node; every one has `errors`."""
    return [*node.component.side_outputs(), ERRORS]


def check_wiring(flow: Flow) -> None:
    """Add a finding for each wire that leads nowhere and each name that means nothing."""
    names = [node.name for node in flow.nodes.values() if node.section != "sinks" and "/" not in node.name]
    for node in flow.nodes.values():
        _check_inputs(flow, _base(node), node.inputs, names)
        _check_component(flow, node)
    for section, name, spec in _unread(flow):
        _check_inputs(flow, (section, name), [Input.parse(wire) for wire in _wires(spec)], names)
    for cycle in _cycles(flow):
        _find_cycle(flow, cycle)
    _check_routes(flow)
    _check_specs(flow)
    _check_use(flow)
    _check_tests(flow)


def place_of(flow: Flow, node: Node, *path: str | int) -> Where:
    """Return where an option of a node is; the last of a node's steps has the node's name."""
    base, _, step = node.name.partition("/")
    steps: Where = (node.section, base, "steps")
    if not flow.document.has(steps):
        return (node.section, base, *path)
    last = len(flow.document.said(steps)) - 1
    return (*steps, int(step) - 1 if step else last, *path)


def _check_inputs(flow: Flow, base: Where, inputs: Sequence[Input], names: list[str]) -> None:
    node = str(base[1])
    for number, wire in enumerate(inputs):
        where = (*base, "from", number)
        if wire.node.partition("/")[0] in flow.unread or ("/" in wire.node and wire.node not in flow.nodes):
            continue
        source = flow.nodes.get(wire.node)
        if source is None or source.section == "sinks":
            why = f"a source or operator; '{wire.node}' is a sink" if source else f"a node; got '{wire.node}'"
            hint = "" if source else flow.document.guess(wire.node, (name for name in names if name != node))
            flow.document.find("unknown-node", where, why, node=node, option="from", hint=hint)
        elif wire.output and wire.output not in outputs(source):
            message = f"an output of '{wire.node}' ({', '.join(outputs(source))}); got '{wire.output}'"
            steps = [step.name for step in flow.steps_before(source) if wire.output in outputs(step)]
            guess = flow.document.guess(wire.output, outputs(source))
            hint = f"an earlier step has it: '{steps[0]}.{wire.output}'" if steps else guess
            flow.document.find("unknown-output", where, message, node=node, option="from", hint=hint)
        if wire in inputs[:number]:
            message = f"each input once; got '{wire}' again"
            flow.document.find("from", where, message, node=node, option="from")


def _check_component(flow: Flow, node: Node) -> None:
    """Tell what a component finds; what one finds that comes with another node is told at that node, once.

    A source that comes with a node has options of that node, where what is wrong with them has been told.
    """
    by = flow.nodes.get(node.inputs[0].node) if node.inputs and not flow.document.has(_base(node)) else None
    if not node.inputs and flow.document.findings and not flow.document.has(_base(node)):
        return
    for problem in (*node.component.check(flow, node), *_unready(node)):
        told = by or node
        where = place_of(flow, told, told.kind, *_steps(problem.option))
        place = flow.document.at(where)
        seen = {(finding.line, finding.column) for finding in flow.document.findings} if by else set()
        if place not in seen and not flow.document.follows(where):
            _tell(flow, told, where, problem)


def _unready(node: Node) -> Iterator[Problem]:
    """Find what a sink would look up later than its event: it writes when its target is there."""
    for option, expression in option_expressions(node.component) if node.section == "sinks" else ():
        if expression.tables:
            message = f"no live table in a sink, which writes later; got '{expression.text}'"
            yield Problem("expression", option, message, "look it up before, with set or lookup")


def _tell(flow: Flow, node: Node, where: Where, problem: Problem) -> None:
    hint = problem.hint or flow.document.near(where)
    flow.document.find(problem.code, where, problem.message, node=node.name, option=problem.option, hint=hint)


def _base(node: Node) -> Where:
    return (node.section, node.name.partition("/")[0])


def _steps(option: str) -> Iterable[str | int]:
    return (int(part) if part.isdecimal() else part for part in option.split("."))


def _cycles(flow: Flow) -> Iterator[list[str]]:
    """Yield cycles as the names along them, in the direction of the events; a node is in one of them at most."""
    done: set[str] = set()
    for start in flow.nodes:
        found = _walk(flow, start, done) if start not in done else None
        if found:
            yield [found[0], *found[:0:-1]]


def _walk(flow: Flow, start: str, done: set[str]) -> list[str] | None:
    """Return the cycle that is found against the direction of the wires; all that was walked is done."""
    path = {start: None}
    ways = [iter(flow.nodes[start].inputs)]
    while ways:
        wire = next(ways[-1], None)
        if wire is None:
            ways.pop()
            done.add(path.popitem()[0])
        elif wire.node in path:
            names = list(path)
            done.update(names)
            return names[names.index(wire.node) :]
        elif wire.node in flow.nodes and wire.node not in done:
            path[wire.node] = None
            ways.append(iter(flow.nodes[wire.node].inputs))
    return None


def _find_cycle(flow: Flow, cycle: list[str]) -> None:
    names = [*cycle, cycle[0]]
    way = names if len(names) <= SHOWN else [*names[: SHOWN - 2], "…", names[-1]]
    where = (*_base(flow.nodes[cycle[0]]), "from")
    flow.document.find("cycle", where, f"no cycle; got {' → '.join(way)}", node=cycle[0], option="from")


def _shape(path: str) -> str:
    return re.sub(r"\{\w*\}", "{}", path)


def _check_routes(flow: Flow) -> None:
    """Find sources that would be served at one path."""
    routes: dict[tuple[str, str], Node] = {}
    for node in flow.section("sources"):
        if isinstance(node.component, RoutedSource | SocketSource):
            method, path = _served(node.component)
            first = routes.setdefault((method, _shape(path)), node)
            if first is not node:
                message = f"a path of its own; {method} {path} is the source '{first.name}'"
                option = "path" if isinstance(node.component, SocketSource) else method.lower()
                where = place_of(flow, node, node.kind, option)
                flow.document.find("path-taken", where, message, node=node.name, option=option)


def _served(source: RoutedSource | SocketSource) -> tuple[str, str]:
    return source.route()[:2] if isinstance(source, RoutedSource) else ("WebSocket", source.socket()[0])


def _check_specs(flow: Flow) -> None:
    """Find what is wrong with channels and queries in this flow."""
    unread = any("channel" in spec for _, _, spec in _unread(flow))
    events = ("on_connect", "channel") if unread else ()
    for section, code, specs in (("channels", "channel", flow.channels), ("queries", "query", flow.queries)):
        for name, spec in specs.items():
            for problem in spec.check(flow):
                if problem.where[:1] not in [(option,) for option in events]:
                    _find_problem(flow, section, code, name, problem)
    for name, problem in _shared_paths(flow):
        _find_problem(flow, "queries", "query", name, problem)


def _find_problem(flow: Flow, section: str, code: str, name: str, problem: SpecProblem) -> None:
    where, option = (section, name, *problem.where), ".".join(map(str, (name, *problem.where)))
    told = flow.document.has((section, name)) or not flow.document.findings
    if told and not flow.document.follows(where):
        hint = problem.hint or flow.document.near(where)
        flow.document.find(code, where, problem.message, option=option, hint=hint)


def _shared_paths(flow: Flow) -> Iterator[tuple[str, SpecProblem]]:
    routes: dict[tuple[str, str], str] = {}
    for name, query in flow.queries.items():
        first = routes.setdefault((query.method, _shape(query.path)), name)
        if first != name:
            message = f"a path of its own; {query.method.upper()} {query.path} is the query '{first}'"
            yield name, SpecProblem((query.method,), message)


def _check_use(flow: Flow) -> None:
    """Find what nothing comes into and what nothing takes from, once every wire leads somewhere."""
    if any(finding.code in LOOSE for finding in flow.document.findings):
        return
    if not flow.document.value.get("sources") and not flow.document.findings:
        flow.document.find("no-source", ("sources",), "at least one source; got none")
    used = {wire.node for node in flow.nodes.values() for wire in node.inputs}
    used |= {Input.parse(wire).node for _, _, spec in _unread(flow) for wire in _wires(spec)}
    for node in flow.nodes.values():
        if node.section != "sinks" and node.name not in used and "/" not in node.name:
            message = "a node that takes from it; there is none"
            flow.document.find("unused", _base(node), message, node=node.name)


def _unread(flow: Flow) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the nodes that could not be read, as they stand in the file."""
    for section in SECTIONS:
        specs = flow.document.value.get(section)
        for name, spec in specs.items() if isinstance(specs, dict) else ():
            if name in flow.unread and isinstance(spec, dict):
                yield section, name, spec


def _wires(spec: dict[str, Any]) -> list[str]:
    wires = spec.get("from")
    return [wire for wire in (wires if isinstance(wires, list) else [wires]) if isinstance(wire, str)]


def _check_tests(flow: Flow) -> None:
    sources = [node.name for node in flow.section("sources")]
    for index, test in enumerate(flow.tests):
        _check_rows(flow, index, test)
        _check_answers(flow, index, test)
        for number, send in enumerate(test.send):
            if isinstance(send, Send) and send.to not in sources and send.to not in flow.unread:
                where = ("tests", index, "send", number, "to")
                hint = flow.document.guess(send.to, sources)
                option = ".".join(map(str, where))
                flow.document.find("test", where, f"a source; got '{send.to}'", option=option, hint=hint)
        for name in test.expect:
            _check_expected(flow, ("tests", index, "expect", name), name)


def _check_answers(flow: Flow, index: int, test: FlowTest) -> None:
    """Find answers to nodes that ask nobody."""
    asking = [node.name for node in flow.section("operators") if isinstance(node.component, Asking)]
    for name in test.answers:
        if name not in asking and name not in flow.unread:
            option, hint = f"tests.{index}.answers.{name}", flow.document.guess(name, asking)
            message = f"a node that asks somebody outside; got '{name}'"
            flow.document.find("test", ("tests", index, "answers", name), message, option=option, hint=hint)


def _check_rows(flow: Flow, index: int, test: FlowTest) -> None:
    """Find rows of a test that no live table of the flow has."""
    given: list[tuple[Where, Where, str, list[dict[str, Any]]]] = []
    for name, rows in test.tables.items():
        given += [(("tables", name), ("tables", name, at), name, [row]) for at, row in enumerate(rows)]
        given += [] if rows else [(("tables", name), (), name, [])]
    for number, step in enumerate(test.send):
        if isinstance(step, Change):
            rows = [] if step.put is None else [step.put]
            given.append((("send", number, "table"), ("send", number, "put"), step.table, rows))
    for named, where, name, rows in given:
        if name in flow.live.tables:
            for row in rows:
                _check_row(flow, ("tests", index, *where), name, row)
        elif name not in flow.document.broken.get("tables", ()):
            live = ", ".join(flow.live.tables) or "there is none"
            message = f"a live table of the flow ({live}); got '{name}'"
            _find_in_test(flow, ("tests", index, *named), message, name, flow.live.tables)


def _check_row(flow: Flow, where: Where, name: str, row: dict[str, Any]) -> None:
    table = flow.live.tables[name]
    for message, column in table.problems(row):
        _find_in_test(flow, (*where, *column), message, "".join(column), table.types)


def _find_in_test(flow: Flow, where: Where, message: str, got: str, known: Iterable[str]) -> None:
    hint = "" if got in known else flow.document.guess(got, known)
    flow.document.find("test", where, message, option=".".join(map(str, where)), hint=hint)


def _check_expected(flow: Flow, where: Where, name: str) -> None:
    base, dot, output = name.partition(".")
    node, option = flow.nodes.get(base), ".".join(map(str, where[:3]))
    if name == "deadletters" or base in flow.unread:
        return
    if node is None and base in flow.channels:
        events = pushed_events(flow, base)
        if output not in events:
            message = f"an event of channel '{base}' ({', '.join(events)}); got '{output}'"
            flow.document.find("test", where, message, option=option, hint=flow.document.guess(output, events))
    elif node is None:
        hint = flow.document.guess(name, [*flow.nodes, "deadletters"])
        flow.document.find("test", where, f"a node or deadletters; got '{name}'", option=option, hint=hint)
    elif dot and output not in outputs(node):
        message = f"an output of '{base}' ({', '.join(outputs(node))}); got '{output}'"
        flow.document.find("test", where, message, option=option, hint=flow.document.guess(output, outputs(node)))
