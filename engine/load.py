"""Load a flow file: every section read, every problem found at once."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from engine.bundle import Files, unbundle
from engine.channels import ChannelSpec
from engine.document import Document
from engine.errors import SpecFault, SpecProblem
from engine.flow import Flow
from engine.flow_tests import FlowTest
from engine.flow_types import check_types
from engine.include import Filling, Includer
from engine.instances import read_instances
from engine.live_table import LiveTables
from engine.model_faults import report, shown
from engine.nodes import Options, read_nodes
from engine.paths import check_path
from engine.queries import QuerySpec
from engine.registry import SECTIONS
from engine.substitution import Surroundings, read_settings, substitute
from engine.tables import Table, check_tables, resolved
from engine.wiring import check_wiring
from engine.yaml_reader import parse, read

KEYS = (
    "flow",
    "about",
    "for_each",
    "include",
    "settings",
    "tables",
    *SECTIONS,
    "channels",
    "queries",
    "pages",
    "tests",
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def load(path: Path, around: Surroundings | None = None) -> Flow:
    """Return the flow of a file, the first of its instances; what is wrong stands in `flow.document.findings`."""
    return _load(read(path), path, around or Surroundings(), {})


def load_all(path: Path, around: Surroundings | None = None) -> list[Flow]:
    """Return every instance of a flow file: one, where it has no `for_each`."""
    around = around or Surroundings()
    first = load(path, around)
    rest = [msgspec.structs.replace(around, overrides={**around.overrides, **key}) for key in first.instances[1:]]
    return [first, *(load(path, other) for other in rest)]


def load_text(text: str, path: Path = Path("flow.yaml"), around: Surroundings | None = None) -> Flow:
    """Return the flow of a text, behind which the files that it includes may stand (engine/bundle.py)."""
    main, files = unbundle(text)
    return _load(parse(main.encode(errors="surrogatepass"), Document(str(path))), path, around or Surroundings(), files)


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


def _load(document: Document, path: Path, around: Surroundings, given: dict[str, str]) -> Flow:
    flow, files = Flow(name="", path=path, document=document), Files(path.parent, given)
    spec = document.value
    if isinstance(spec, dict):
        spec = document.value = Includer(document, files).included(spec)
        _read(flow, spec, around, files)
    elif not document.findings:
        document.find("flow", (), f"a mapping with the sections of a flow; got {shown(spec)}")
    flow.files = files.read
    document.findings.sort(key=lambda finding: (finding.path != document.path, finding.line, finding.column))
    return flow


def _read(flow: Flow, spec: dict[str, Any], around: Surroundings, files: Files) -> None:
    """Read every section; what needs more than one is checked at the end."""
    document = flow.document
    misplaced = _unknown_sections(document, spec)
    entry = _instance(flow, spec, around, files)
    around = msgspec.structs.replace(around, facts={**around.facts, **entry})
    flow.settings = read_settings(document, spec.get("settings"), around)
    rest = {
        key: substitute(document, value, _small(flow.settings, entry) if key == "flow" else flow.settings, (key,))
        for key, value in spec.items()
        if key not in ("settings", "tests", "for_each")
    }
    flow.name, flow.about = _flow_name(document, rest), _about(document, rest)
    sections = {section: _mapping(document, rest, section) for section in SECTIONS}
    flow.live = _live(_mapping(document, rest, "tables"))
    context = Options(flow.settings, flow.path.parent, flow.live.tables)
    flow.nodes, unread, implied = read_nodes(document, sections, context, flow.name)
    flow.tables = _tables(document, implied.get("tables", {}) | _mapping(document, rest, "tables"))
    flow.channels = _specs(document, _mapping(document, rest, "channels"), "channel", ChannelSpec.parse)
    queries = implied.get("queries", {}) | _mapping(document, rest, "queries")
    flow.queries = _specs(document, queries, "query", QuerySpec.parse)
    flow.pages = dict(_pages(document, _mapping(document, rest, "pages"), flow.path.parent))
    flow.unread = unread | misplaced
    flow.tests = _tests(document, Filling(document, entry, "").plain(spec.get("tests")))
    check_wiring(flow)
    if around.judged:
        check_types(flow)


def _instance(flow: Flow, spec: dict[str, Any], around: Surroundings, files: Files) -> dict[str, Any]:
    """Return the values of the instance that this flow is; `flow.instances` gets the keys of all."""
    instances = read_instances(flow.document, spec.get("for_each"), files)
    entries = instances.chosen(flow.document, around.overrides)
    flow.instances = [instances.key(entry) for entry in entries]
    entry, name = entries[0] if entries else {}, spec.get("flow")
    if len(instances.entries) > 1 and not any(f"${{{key}}}" in str(name) for key in entry):
        message = (
            f"a name that differs in each instance, such as 'flow: oven_${{{next(iter(entry))}}}'; got {shown(name)}"
        )
        flow.document.find("flow-name", ("flow",), message, option="flow")
    settings = spec.get("settings")
    for key in entry.keys() & (settings.keys() if isinstance(settings, dict) else ()):
        flow.document.find("setting", ("settings", key), f"a name that for_each does not give; got '{key}'", option=key)
    return entry


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


def _small(settings: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with an instance's values in small letters, as names of flows are: site A is `site_a`."""
    return settings | {key: value.lower() for key, value in entry.items() if isinstance(value, str)}


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


def _live(specs: dict[str, Any]) -> LiveTables:
    """Return the live tables, which expressions name; what is wrong with a table is said where it is read."""
    found = {}
    for name, spec in specs.items():
        with suppress(SpecFault):
            found[name] = Table.parse(name, spec)
    return LiveTables(found if check_tables(found) else resolved(found))


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
