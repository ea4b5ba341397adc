"""Load a flow file: every section read, every problem found at once."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from engine.channels import ChannelSpec
from engine.document import Document
from engine.errors import SpecFault, SpecProblem
from engine.flow import Flow
from engine.flow_tests import FlowTest
from engine.model_faults import report, shown
from engine.nodes import read_nodes
from engine.paths import check_path
from engine.queries import QuerySpec
from engine.registry import SECTIONS
from engine.substitution import Surroundings, read_settings, substitute
from engine.tables import Table, check_tables, resolved
from engine.wiring import check_wiring
from engine.yaml_reader import parse, read

KEYS = ("flow", "about", "settings", "tables", *SECTIONS, "channels", "queries", "pages", "tests")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def load(path: Path, around: Surroundings | None = None) -> Flow:
    """Return the flow of a file; what is wrong with it stands in `flow.document.findings`."""
    return _load(read(path), path, around or Surroundings())


def load_text(text: str, path: Path = Path("flow.yaml"), around: Surroundings | None = None) -> Flow:
    """Return the flow of a text."""
    return _load(parse(text.encode(errors="surrogatepass"), Document(str(path))), path, around or Surroundings())


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
    flow = Flow(name="", path=path, document=document)
    spec = document.value
    if isinstance(spec, dict):
        _read(flow, spec, around)
    elif not document.findings:
        document.find("flow", (), f"a mapping with the sections of a flow; got {shown(spec)}")
    document.findings.sort(key=lambda finding: (finding.line, finding.column))
    return flow


def _read(flow: Flow, spec: dict[str, Any], around: Surroundings) -> None:
    """Read every section; what needs more than one is checked at the end."""
    document = flow.document
    misplaced = _unknown_sections(document, spec)
    flow.settings = read_settings(document, spec.get("settings"), around)
    rest = {
        key: substitute(document, value, flow.settings, (key,))
        for key, value in spec.items()
        if key not in ("settings", "tests")
    }
    flow.name, flow.about = _flow_name(document, rest), _about(document, rest)
    flow.tables = _tables(document, _mapping(document, rest, "tables"))
    flow.channels = _specs(document, _mapping(document, rest, "channels"), "channel", ChannelSpec.parse)
    flow.queries = _specs(document, _mapping(document, rest, "queries"), "query", QuerySpec.parse)
    flow.pages = dict(_pages(document, _mapping(document, rest, "pages"), flow.path.parent))
    sections = {section: _mapping(document, rest, section) for section in SECTIONS}
    flow.nodes, unread = read_nodes(document, sections, flow.settings, flow.path.parent)
    flow.unread = unread | misplaced
    flow.tests = _tests(document, spec.get("tests"))
    check_wiring(flow)


def _unknown_sections(document: Document, spec: dict[str, Any]) -> frozenset[str]:
    """Find sections that are none; return the names in them, so that no one who uses them is blamed."""
    names: set[str] = set()
    for key in spec:
        if key not in KEYS:
            hint = document.guess(key, KEYS)
            document.find("unknown-section", (key,), f"one of {', '.join(KEYS)}; got '{key}'", hint=hint)
            names |= spec[key].keys() if isinstance(spec[key], dict) else set()
    for section in ("tables", "channels", "queries"):
        document.broken.setdefault(section, set()).update(names)
    return frozenset(names)


def _flow_name(document: Document, spec: dict[str, Any]) -> str:
    name = spec.get("flow")
    if name is None:
        document.find("flow-name", ("flow",), "a line like 'flow: line_1'; got nothing", option="flow")
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"a name of small letters, digits and _; got {shown(name)}"
        document.find("flow-name", ("flow",), message, option="flow")
        return ""
    return name or ""


def _about(document: Document, spec: dict[str, Any]) -> str:
    about = spec.get("about")
    if isinstance(about, dict | list):
        document.find("option-value", ("about",), f"text; got {shown(about)}", option="about")
    return str(about or "")


def _mapping(document: Document, spec: dict[str, Any], section: str) -> dict[str, Any]:
    value = spec.get(section)
    if value is None:
        return {}
    if not isinstance(value, dict):
        document.find("section", (section,), f"a mapping of names; got {shown(value)}", option=section)
        return {}
    return value


def _tables(document: Document, specs: dict[str, Any]) -> dict[str, Table]:
    tables = _specs(document, specs, "table", Table.parse)
    problems = check_tables(tables)
    for problem in problems:
        if not document.follows(("tables", *problem.where)):
            _find(document, "table", "tables", problem)
    return tables if problems else resolved(tables)


def _specs(
    document: Document, specs: dict[str, Any], code: str, parse_one: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Parse each entry of a section; a parser raises SpecFault with all its problems."""
    section = {"table": "tables", "channel": "channels", "query": "queries"}[code]
    found = {}
    for name, spec in specs.items():
        try:
            found[name] = parse_one(name, spec)
        except SpecFault as fault:
            document.broken.setdefault(section, set()).add(name)
            for problem in fault.problems:
                _find(document, code, section, msgspec.structs.replace(problem, where=(name, *problem.where)))
    return found


def _find(document: Document, code: str, section: str, problem: SpecProblem) -> None:
    option = ".".join(map(str, problem.where))
    document.find(code, (section, *problem.where), problem.message, option=option, hint=problem.hint)


def _pages(document: Document, specs: dict[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    for path, file in specs.items():
        for message in check_path(path):
            document.find("page", ("pages", path), message, option=path)
        if not isinstance(file, str):
            document.find("page", ("pages", path), f"a file beside the flow; got {shown(file)}", option=path)
        else:
            if not _is_file(folder / file):
                document.find("page", ("pages", path), f"a file beside the flow; '{file}' is not there", option=path)
            yield path, file


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


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
            report(document, fault, ("tests", index), FlowTest, node="", option=f"tests.{index}")
            found.append(FlowTest(name=""))
    return found
