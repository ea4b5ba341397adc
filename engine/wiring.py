"""Check what no node can see alone: wires, cycles, outputs, and that every name means something."""

from collections.abc import Iterator

from engine.document import Where
from engine.errors import did_you_mean
from engine.flow import Flow, Node

ERRORS = "errors"


def outputs(node: Node) -> list[str]:
    """Return the side outputs of a node; every one has `errors`."""
    return [*node.component.outputs, ERRORS]


def check_wiring(flow: Flow) -> None:
    """Add a finding for each wire that leads nowhere and each name that means nothing."""
    for node in flow.nodes.values():
        _check_inputs(flow, node)
        _check_component(flow, node)
    for cycle in _cycles(flow):
        flow.document.find(
            "cycle",
            _place(flow.nodes[cycle[0]], "from"),
            f"no cycle; got {' → '.join([*cycle, cycle[0]])}",
            node=cycle[0],
        )
    _check_use(flow)
    _check_tests(flow)
    for problem_name, problems in (("queries", _query_problems(flow)), ("channels", _channel_problems(flow))):
        for name, where, message, hint in problems:
            flow.document.find(
                problem_name.rstrip("s").replace("querie", "query"),
                (problem_name, name, *where),
                message,
                option=".".join(map(str, (name, *where))),
                hint=hint,
            )


def _place(node: Node, *path: str | int) -> Where:
    base, _, step = node.name.partition("/")
    return (node.section, base, *(("steps", int(step) - 1) if step else ()), *path)


def _check_inputs(flow: Flow, node: Node) -> None:
    for wire in node.inputs:
        if wire.node in flow.unread:
            continue
        source = flow.nodes.get(wire.node)
        if source is None or source.section == "sinks":
            known = [other.name for other in flow.nodes.values() if other.section != "sinks" and other is not node]
            why = f"a source or operator; '{wire.node}' is a sink" if source else f"a node; got '{wire.node}'"
            flow.document.find(
                "unknown-node",
                _place(node, "from"),
                why,
                node=node.name,
                option="from",
                hint=did_you_mean(wire.node, known),
            )
        elif wire.output and wire.output not in outputs(source):
            known = outputs(source)
            message = f"an output of '{wire.node}' ({', '.join(known)}); got '{wire.output}'"
            flow.document.find(
                "unknown-output",
                _place(node, "from"),
                message,
                node=node.name,
                option="from",
                hint=did_you_mean(wire.output, known),
            )


def _check_component(flow: Flow, node: Node) -> None:
    for problem in node.component.check(flow, node):
        path = (int(part) if part.isdigit() else part for part in problem.option.split("."))
        flow.document.find(
            problem.code,
            _place(node, node.kind, *path),
            problem.message,
            node=node.name,
            option=problem.option,
            hint=problem.hint,
        )


def _cycles(flow: Flow) -> Iterator[list[str]]:
    """Yield each cycle once, as the names along it."""
    done: set[str] = set()
    for start in flow.nodes:
        path: list[str] = []
        found = _walk(flow, start, path, done)
        if found:
            yield found


def _walk(flow: Flow, name: str, path: list[str], done: set[str]) -> list[str] | None:
    if name in path:
        return path[path.index(name) :]
    if name in done or name not in flow.nodes:
        return None
    path.append(name)
    for wire in flow.nodes[name].inputs:
        found = _walk(flow, wire.node, path, done)
        if found:
            done.update(path)
            return found
    path.pop()
    done.add(name)
    return None


def _check_use(flow: Flow) -> None:
    if not flow.section("sources") and not flow.document.findings:
        flow.document.find("no-source", (), "at least one source")
    used = {wire.node for node in flow.nodes.values() for wire in node.inputs}
    for node in flow.nodes.values():
        if node.section != "sinks" and node.name not in used and not flow.document.findings:
            flow.document.find("unused", _place(node), "a node that takes from it; nothing does", node=node.name)


def _check_tests(flow: Flow) -> None:
    names = [*flow.nodes, *flow.unread]
    for index, test in enumerate(flow.tests):
        for number, send in enumerate(test.send):
            sources = [node.name for node in flow.section("sources")]
            if send.to not in sources and send.to not in flow.unread:
                flow.document.find(
                    "test",
                    ("tests", index, "send", number),
                    f"a source; got '{send.to}'",
                    option="to",
                    hint=did_you_mean(send.to, sources),
                )
        for name in test.expect:
            if name != "deadletters" and name.partition(".")[0] not in names:
                flow.document.find(
                    "test",
                    ("tests", index, "expect", name),
                    f"a node or deadletters; got '{name}'",
                    option="expect",
                    hint=did_you_mean(name, names),
                )


def _query_problems(flow: Flow) -> Iterator[tuple[str, tuple[str | int, ...], str, str]]:
    routes: dict[tuple[str, str], str] = {}
    for name, query in flow.queries.items():
        for problem in query.check(flow):
            yield name, problem.where, problem.message, problem.hint
        first = routes.setdefault((query.method, query.path), name)
        if first != name:
            yield name, (), f"a path of its own; {query.method.upper()} {query.path} is '{first}' already", ""


def _channel_problems(flow: Flow) -> Iterator[tuple[str, tuple[str | int, ...], str, str]]:
    for name, channel in flow.channels.items():
        for problem in channel.check(flow):
            yield name, problem.where, problem.message, problem.hint
