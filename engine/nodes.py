"""Read the nodes of a flow: a name, `from`, one kind with its options, and the options that every node has."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from engine.component import Component
from engine.document import Document, Where
from engine.errors import did_you_mean
from engine.expressions import Expression, ExpressionFault
from engine.expressions import parse as parse_expression
from engine.flow import Input, Node
from engine.model_faults import report, shown
from engine.registry import SECTIONS, components

COMMON = {
    "sources": ("about", "was", "key", "where"),
    "operators": ("from", "where", "key", "on_error", "about", "was", "steps"),
    "sinks": ("from", "where", "on_error", "about", "was"),
}
ON_ERROR = ("dead_letters", "drop")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Options(msgspec.Struct, frozen=True):
    """What a component's options are validated with (pydantic's context)."""

    settings: Mapping[str, Any]
    pack: Path = Path()


class NodeReader:
    """Reads one file's nodes; problems go to the document."""

    def __init__(self, document: Document, settings: Mapping[str, Any], pack: Path) -> None:
        self.document = document
        self.context = Options(settings, pack)
        self.kinds = {section: components(section, pack) for section in SECTIONS}
        self.nodes: dict[str, Node] = {}

    def read(self, section: str, name: str, spec: Any) -> None:
        """Read one node, or the nodes that its `steps` stand for."""
        where: Where = (section, name)
        if not _NAME.fullmatch(name):
            self.document.find("node-name", where, f"a name of small letters, digits and _; got '{name}'", node=name)
        if name in self.nodes:
            self.document.find(
                "node-name", where, f"a name of its own; '{name}' is in {self.nodes[name].section} too", node=name
            )
            return
        if not isinstance(spec, dict):
            self.document.find("node", where, f"a mapping with one kind; got {shown(spec)}", node=name)
            return
        inputs = tuple(self._inputs(section, name, spec)) if section != "sources" else ()
        if "steps" in spec and section == "operators":
            self._steps(name, spec, inputs, where)
        else:
            self._one(section, name, spec, inputs, where)

    def _steps(self, name: str, spec: dict[str, Any], inputs: tuple[Input, ...], where: Where) -> None:
        steps, common = spec["steps"], {k: v for k, v in spec.items() if k in COMMON["operators"] and k != "steps"}
        for key in spec.keys() - common.keys() - {"steps"}:
            self.document.find(
                "unknown-option",
                (*where, key),
                f"either steps or one kind; got both steps and '{key}'",
                node=name,
                option=key,
            )
        if not isinstance(steps, list) or not steps:
            self.document.find(
                "steps", (*where, "steps"), f"a list of kinds in a row; got {shown(steps)}", node=name, option="steps"
            )
            return
        for index, step in enumerate(steps):
            last, at = index == len(steps) - 1, (*where, "steps", index)
            own = f"{name}/{index + 1}" if not last else name
            if not isinstance(step, dict):
                self.document.find(
                    "steps", at, f"a kind with its options; got {shown(step)}", node=name, option=f"steps.{index}"
                )
                continue
            self._one("operators", own, step | (common if index == 0 else {}), inputs, at)
            inputs = (Input(own),)

    def _one(self, section: str, name: str, spec: dict[str, Any], inputs: tuple[Input, ...], where: Where) -> None:
        kind, options = self._kind(section, name, spec, where)
        if kind is None:
            return
        built = self._component(section, name, kind, options, where)
        condition = None if kind == "where" else self._expression(name, spec, "where", where)
        key = self._expression(name, spec, "key", where)
        on_error = spec.get("on_error", "dead_letters")
        if on_error not in ON_ERROR:
            self.document.find(
                "option-value",
                (*where, "on_error"),
                f"one of {', '.join(ON_ERROR)}; got {shown(on_error)}",
                node=name,
                option="on_error",
            )
        if built is not None:
            self.nodes[name] = Node(
                name=name, section=section, component=built, inputs=inputs, where=condition, key=key,
                about=str(spec.get("about") or ""), was=str(spec.get("was") or ""), on_error=str(on_error),
            )
            for implied, nodes in built.implies(name).items():
                for other, other_spec in nodes.items():
                    self.read(implied, other, other_spec)

    def _kind(self, section: str, name: str, spec: dict[str, Any], where: Where) -> tuple[str | None, Any]:
        known, common = self.kinds[section], COMMON[section]
        named = [key for key in spec if key not in common]
        kinds = [key for key in named if key in known]
        for key in named:
            if key not in known:
                words = [*known, *common]
                self.document.find(
                    "unknown-kind", (*where, key), f"a kind of {section} or an option of every node; got '{key}'",
                    node=name, option=key, hint=did_you_mean(key, words),
                )
        if len(kinds) > 1:
            self.document.find(
                "one-kind",
                (*where, kinds[1]),
                f"exactly one kind; got {', '.join(kinds)}",
                node=name,
                hint="give each its own node, or use steps",
            )
            return None, None
        if kinds:
            return kinds[0], spec[kinds[0]]
        if section == "operators" and "where" in spec and not named:
            return "where", spec["where"]
        if not named:
            self.document.find("one-kind", where, f"exactly one kind of {section}; got none", node=name)
        return None, None

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
        value = spec[option]
        text = str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else str(value)
        try:
            return parse_expression(text, self.context.settings)
        except ExpressionFault as fault:
            self.document.find(
                "expression",
                (*where, option),
                f"{fault}; in {shown(text)}",
                node=name,
                option=option,
                hint=fault.hint or "",
            )
        return None

    def _inputs(self, section: str, name: str, spec: dict[str, Any]) -> Iterator[Input]:
        where: Where = (section, name, "from")
        value = spec.get("from")
        wanted = [value] if isinstance(value, str) else value
        if not isinstance(wanted, list) or not wanted:
            self.document.find(
                "from",
                where if value is not None else where[:2],
                f"a node's name or a list of names; got {shown(value)}",
                node=name,
                option="from",
            )
            return
        for text in wanted:
            node, _, output = str(text).partition(".")
            yield Input(node, output)


def read_nodes(
    document: Document, sections: dict[str, dict[str, Any]], settings: Mapping[str, Any], pack: Path
) -> tuple[dict[str, Node], frozenset[str]]:
    """Return all nodes by name, in file order, and the names of those that cannot be read."""
    reader = NodeReader(document, settings, pack)
    for section, specs in sections.items():
        for name, spec in specs.items():
            reader.read(section, name, spec)
    return reader.nodes, frozenset(name for specs in sections.values() for name in specs) - reader.nodes.keys()
