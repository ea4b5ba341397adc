"""Load a flow file: every section read, every problem found at once."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.channels import ChannelSpec
from engine.document import Document, parse, read
from engine.errors import SpecFault, did_you_mean
from engine.flow import Flow
from engine.flow_tests import FlowTest
from engine.model_faults import report, shown
from engine.nodes import read_nodes
from engine.queries import QuerySpec
from engine.registry import SECTIONS
from engine.substitution import Surroundings, read_settings, substitute
from engine.tables import Table, check_tables, resolved
from engine.wiring import check_wiring

KEYS = ("flow", "about", "settings", "tables", *SECTIONS, "channels", "queries", "pages", "tests")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def load(path: Path, around: Surroundings | None = None) -> Flow:
    """Return the flow of a file; what is wrong with it stands in `flow.document.findings`."""
    return _load(read(path), path, around or Surroundings())


def load_text(text: str, path: Path = Path("flow.yaml"), around: Surroundings | None = None) -> Flow:
    """Return the flow of a text."""
    return _load(parse(text.encode(), Document(str(path))), path, around or Surroundings())


def find_flows(paths: Iterable[Path], *, below: bool = False) -> list[Path]:
    """Return the flow files of files and pack folders (every `*.yaml` there that names a flow), in order.

    With `below`, the folders in a folder are looked into as well.
    """
    found: list[Path] = []
    for path in paths:
        files = sorted(path.glob("**/*.yaml" if below else "*.yaml")) if path.is_dir() else [path]
        found += [file for file in files if not path.is_dir() or _names_a_flow(file)]
    return found


def _names_a_flow(file: Path) -> bool:
    return re.search(r"^flow\s*:", file.read_text(errors="replace"), re.MULTILINE) is not None


def _load(document: Document, path: Path, around: Surroundings) -> Flow:
    spec = document.value
    if not isinstance(spec, dict):
        if not document.findings:
            document.find("flow", (), f"a mapping with the sections of a flow; got {shown(spec)}")
        return Flow(name="", path=path, document=document)
    for key in spec.keys() - set(KEYS):
        document.find("unknown-section", (key,), f"one of {', '.join(KEYS)}; got '{key}'", hint=did_you_mean(key, KEYS))
    settings = read_settings(document, spec.get("settings"), around)
    rest = {
        key: substitute(document, value, settings, (key,))
        for key, value in spec.items()
        if key not in ("settings", "tests")
    }
    flow = Flow(
        name=_flow_name(document, rest),
        path=path,
        about=str(rest.get("about") or ""),
        settings=settings,
        document=document,
    )
    flow.tables = _tables(document, _mapping(document, rest, "tables"))
    flow.channels = _specs(document, _mapping(document, rest, "channels"), "channels", ChannelSpec.parse)
    flow.queries = _specs(document, _mapping(document, rest, "queries"), "queries", QuerySpec.parse)
    flow.pages = {str(name): str(file) for name, file in _mapping(document, rest, "pages").items()}
    flow.nodes, flow.unread = read_nodes(document, {s: _mapping(document, rest, s) for s in SECTIONS}, settings, path.parent)
    flow.tests = _tests(document, spec.get("tests"))
    check_wiring(flow)
    return flow


def _flow_name(document: Document, spec: dict[str, Any]) -> str:
    name = spec.get("flow")
    if name is None:
        document.find("flow-name", (), "a line 'flow: name'", option="flow")
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        document.find(
            "flow-name", ("flow",), f"a name of small letters, digits and _; got {shown(name)}", option="flow"
        )
        return ""
    return name or ""


def _mapping(document: Document, spec: dict[str, Any], section: str) -> dict[str, Any]:
    value = spec.get(section)
    if value is None:
        return {}
    if not isinstance(value, dict):
        document.find("section", (section,), f"a mapping of names; got {shown(value)}", option=section)
        return {}
    return value


def _tables(document: Document, specs: dict[str, Any]) -> dict[str, Table]:
    tables = _specs(document, specs, "tables", Table.parse)
    problems = check_tables(tables)
    for problem in problems:
        document.find(
            "table",
            ("tables", *problem.where),
            problem.message,
            option=".".join(map(str, problem.where)),
            hint=problem.hint,
        )
    return tables if problems else resolved(tables)


def _specs(
    document: Document, specs: dict[str, Any], section: str, parse_one: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Parse each entry of a section; a parser raises SpecFault with all its problems."""
    found = {}
    for name, spec in specs.items():
        try:
            found[name] = parse_one(name, spec)
        except SpecFault as fault:
            for problem in fault.problems:
                option = ".".join(map(str, (name, *problem.where)))
                document.find(
                    section.rstrip("s").replace("querie", "query"),
                    (section, name, *problem.where),
                    problem.message,
                    option=option,
                    hint=problem.hint,
                )
    return found


def _tests(document: Document, specs: Any) -> list[FlowTest]:
    if specs is None:
        return []
    if not isinstance(specs, list):
        document.find("section", ("tests",), f"a list of tests; got {shown(specs)}", option="tests")
        return []
    found = []
    for index, spec in enumerate(specs):
        try:
            found.append(FlowTest.model_validate(spec))
        except ValidationError as fault:
            report(document, fault, ("tests", index), FlowTest, node="")
    return found
