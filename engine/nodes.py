"""Read the nodes of a flow: a name, `from`, one kind with its options, and the options that every node has."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from engine.component import Component
from engine.document import Document, Where
from engine.expressions import Expression, ExpressionFault
from engine.expressions import parse as parse_expression
from engine.flow import Input, Node
from engine.model_faults import report, shown
from engine.registry import SECTIONS, Kinds, kinds

COMMON = {
    "sources": ("about", "was", "key", "where"),
    "operators": ("from", "where", "key", "on_error", "about", "was", "steps"),
    "sinks": ("from", "where", "on_error", "about", "was"),
}
ON_ERROR = ("dead_letters", "drop")
WHOLE = ("from", "was", "on_error")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Options(msgspec.Struct, frozen=True):
    """What a component's options are validated with (pydantic's context)."""

    settings: Mapping[str, Any]
    pack: Path = Path()
    tables: Mapping[str, Any] = {}


class NodeReader:
    """Reads one file's nodes; problems go to the document."""

    def __init__(self, document: Document, context: Options, flow: str = "") -> None:
        self.document, self.flow = document, flow
        self.implied: dict[str, dict[str, Any]] = {}
        self.context = context
        self.kinds: dict[str, Kinds] = {}
        self.unusable: set[str] = set()
        self.nodes: dict[str, Node] = {}
        for section in SECTIONS:
            self.kinds[section], faults = kinds(section, context.pack)
            self.unusable |= faults.keys()
            for kind, fault in faults.items():
                document.find("component", (section,), f"components that can be used; {fault}", option=kind)

    def read(self, section: str, name: str, spec: Any) -> None:
        """Read one node, or the nodes that its `steps` stand for."""
        where: Where = (section, name)
        if not _NAME.fullmatch(name):
            self.document.find("node-name", where, f"a name of small letters, digits and _; got '{name}'", node=name)
        if name in self.nodes:
            message = f"a name of its own; '{name}' is in {self.nodes[name].section} too"
            self.document.find("node-name", where, message, node=name)
            return
        if not isinstance(spec, dict):
            self.document.find("node", where, f"a mapping with one kind; got {shown(spec)}", node=name)
            return
        inputs = tuple(self._inputs(section, name, spec)) if section != "sources" else ()
        self._common(name, spec, where)
        if "steps" in spec and section == "operators":
            self._steps(name, spec, inputs, where)
        else:
            self._one(section, name, spec, inputs, where)

    def _common(self, name: str, spec: dict[str, Any], where: Where) -> None:
        """Check the options that are not expressions."""
        for option in ("about", "was"):
            if isinstance(spec.get(option), dict | list):
                message = f"text; got {shown(spec[option])}"
                self.document.find("option-value", (*where, option), message, node=name, option=option)
        on_error = spec.get("on_error", "dead_letters")
        if on_error not in ON_ERROR:
            message = f"one of {', '.join(ON_ERROR)}; got {shown(on_error)}"
            self.document.find("option-value", (*where, "on_error"), message, node=name, option="on_error")

    def _steps(self, name: str, spec: dict[str, Any], inputs: tuple[Input, ...], where: Where) -> None:
        steps = spec["steps"]
        for key in spec.keys() - {*COMMON["operators"]}:
            message = f"either steps or one kind; got both steps and '{key}'"
            self.document.find("unknown-option", (*where, key), message, node=name, option=key)
        if not isinstance(steps, list) or not steps:
            message = f"a list of kinds in a row; got {shown(steps)}"
            self.document.find("steps", (*where, "steps"), message, node=name, option="steps")
            return
        for index, step in enumerate(steps):
            at, own = (*where, "steps", index), name if index == len(steps) - 1 else f"{name}/{index + 1}"
            if not isinstance(step, dict):
                message = f"a kind with its options; got {shown(step)}"
                self.document.find("steps", at, message, node=name, option=f"steps.{index}")
            else:
                self._one("operators", own, self._step(name, spec, step, index, at), inputs, at)
            inputs = (Input(own),)

    def _step(self, name: str, spec: dict[str, Any], step: dict[str, Any], index: int, at: Where) -> dict[str, Any]:
        """Return a step with what it has of its node: the first one filters and keys what comes in."""
        taken = [option for option in WHOLE if option in step]
        taken += [option for option in ("where", "key") if index == 0 and option in step and option in spec]
        for option in taken:
            message = f"once, for the whole node or in a step; got '{option}' in a step"
            hint = "join the conditions by 'and'" if option == "where" else "write it beside steps"
            self.document.find("steps", (*at, option), message, node=name, option=f"steps.{index}.{option}", hint=hint)
        shared = ("where", "key", "on_error", "about") if index == 0 else ("on_error",)
        inherited = {option: spec[option] for option in shared if option in spec}
        if spec.get("was"):
            inherited["was"] = spec["was"] if index == len(spec["steps"]) - 1 else f"{spec['was']}/{index + 1}"
        return step | inherited

    def _one(self, section: str, name: str, spec: dict[str, Any], inputs: tuple[Input, ...], where: Where) -> None:
        kind, options = self._kind(section, name, spec, where)
        condition = None if kind == "where" else self._expression(name, spec, "where", where)
        key = self._expression(name, spec, "key", where)
        built = None if kind is None else self._component(section, name, kind, options, where)
        if built is None:
            return
        beside = tuple(map(Input, built.beside()))
        self.nodes[name] = Node(
            name=name, section=section, component=built, inputs=inputs + beside, beside=beside,
            where=condition, key=key, about=str(spec.get("about") or ""), was=str(spec.get("was") or ""),
            on_error=str(spec.get("on_error", "dead_letters")),
        )  # fmt: skip
        for implied, specs in built.implies(name, self.flow).items():
            for other, other_spec in specs.items():
                self._imply(implied, other, other_spec)

    def _imply(self, section: str, name: str, spec: Any) -> None:
        """Read a node that comes with another one, or note a table or a query; what several nodes imply comes once."""
        known = self.implied.setdefault(section, {})
        if known.get(name) != spec and not (section == "sources" and name in known):
            known[name] = spec
            if section in SECTIONS:
                self.read(section, name, spec)

    def _kind(self, section: str, name: str, spec: dict[str, Any], where: Where) -> tuple[str | None, Any]:
        known, common = self.kinds[section], COMMON[section]
        named = [key for key in spec if key not in common]
        found = [key for key in named if key in known]
        for key in named:
            if key not in known and key not in self.unusable:
                message = f"a kind of {section} or an option of every node; got '{key}'"
                hint = self._meant(section, key)
                self.document.find("unknown-kind", (*where, key), message, node=name, option=key, hint=hint)
        if len(found) > 1:
            message, hint = f"exactly one kind; got {', '.join(found)}", "give each its own node, or use steps"
            self.document.find("one-kind", (*where, found[1]), message, node=name, hint=hint)
            return None, None
        if found:
            return found[0], spec[found[0]]
        if section == "operators" and "where" in spec and not named:
            return "where", spec["where"]
        if not named:
            self.document.find("one-kind", where, f"exactly one kind of {section}; got none", node=name)
        return None, None

    def _meant(self, section: str, key: str) -> str:
        """Return what an unknown kind may mean: another name, or a kind of another section."""
        for other in SECTIONS:
            if other != section and key in (*self.kinds[other], *COMMON[other]):
                return f"'{key}' belongs to {other}"
        return self.document.guess(key, [*self.kinds[section], *COMMON[section]])

    def _component(self, section: str, name: str, kind: str, options: Any, where: Where) -> Component | None:
        cls = self.kinds[section][kind]
        given = cls.options(options)
        strip = cls.shorthand if given is not options else ""
        try:
            return cls.model_validate(given, context=self.context)
        except ValidationError as fault:
            report(self.document, fault, (*where, kind), cls, node=name, strip=strip)
        return None

    def _expression(self, name: str, spec: dict[str, Any], option: str, where: Where) -> Expression | None:
        if option not in spec:
            return None
        value, at = spec[option], (*where, option)
        if not isinstance(value, str | int | float):
            self.document.find("expression", at, f"an expression; got {shown(value)}", node=name, option=option)
            return None
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            return parse_expression(text, self.context.settings, self.context.tables)
        except ExpressionFault as fault:
            self.document.find(
                "expression", at, f"{fault}; in {shown(text)}", node=name, option=option, hint=fault.hint or "",
                text=text, offset=fault.column,
            )  # fmt: skip
        return None

    def _inputs(self, section: str, name: str, spec: dict[str, Any]) -> Iterator[Input]:
        where: Where = (section, name, "from")
        value = spec.get("from")
        wanted = [value] if isinstance(value, str) else value
        if not isinstance(wanted, list) or not wanted:
            message = f"a node's name or a list of names; got {shown(value)}"
            self.document.find("from", where, message, node=name, option="from")
            return
        for index, text in enumerate(wanted):
            if isinstance(text, str):
                yield Input.parse(text)
            else:
                message = f"a node's name; got {shown(text)}"
                self.document.find("from", (*where, index), message, node=name, option="from")


def read_nodes(
    document: Document, sections: dict[str, dict[str, Any]], context: Options, flow: str = ""
) -> tuple[dict[str, Node], frozenset[str], dict[str, dict[str, Any]]]:
    """Return all nodes by name, in file order, the names of those that cannot be read, and what comes with nodes.

    That is section → name → spec; its nodes are among the nodes.
    """
    reader = NodeReader(document, context, flow)
    for section, specs in sections.items():
        for name, spec in specs.items():
            reader.read(section, name, spec)
    unread = frozenset(name for specs in sections.values() for name in specs) - reader.nodes.keys()
    return reader.nodes, unread, reader.implied
