"""Write what comes out of a flow's tests into its file, as what they expect from now on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.document import Document
from engine.errors import UsageFault
from engine.flow import Flow
from engine.flow_tests import FlowTest
from engine.recording import dumped, expected_lines
from engine.recording import said as sayable
from engine.testing import actual, played, run_test
from engine.yaml_edit import composed, entry, with_entry
from engine.yaml_reader import parse


class Written(msgspec.Struct):
    """A file's text with what was recorded, and the names of the tests that have it."""

    path: Path
    text: str
    tests: list[str]


def with_expectations(flows: Sequence[Flow], *, overwrite: bool = False) -> Written:
    """Return a flow file with `expect:` in each test that has none; `flows` are the instances of the file.

    With `overwrite` in all tests, of the names that each has. Raises UsageFault where the flow or its instances do not
    give the same each time, or ask somebody outside for whom the test has no answers.
    """
    path = flows[0].path
    text = path.read_bytes().decode()
    section = entry(composed(text), "tests")
    tests = section[1].value if section else []
    chosen = [number for number, test in enumerate(tests) if overwrite or not _expects(test)]
    for number in reversed(chosen):  # from the end, so that the marks of those before stay true
        found = _outputs(flows, number)
        text = with_entry(text, tests[number], "expect", list(expected_lines(found, "  ")), dumped(sayable(found)))
    names = [flows[0].tests[number].name for number in chosen]
    _check(flows, chosen, text)
    return Written(path, text, names)


def _expects(test: Any) -> bool:
    found = entry(test, "expect")
    return found is not None and bool(found[1].value)


def _outputs(flows: Sequence[Flow], number: int) -> dict[str, list[Any]]:
    """Return what came out of a test, which must be the same of every instance."""
    found = [_output(flow, flow.tests[number]) for flow in flows]
    for flow, other in zip(flows, found, strict=True):
        if other != found[0]:
            name = flow.tests[number].name
            raise UsageFault(f"--record: '{name}': the same of every instance; {flows[0].name} and {flow.name} differ")
    return found[0]


def _output(flow: Flow, test: FlowTest) -> dict[str, list[Any]]:
    names = list(test.expect) or [*_sinks(flow), "deadletters"]
    taps = [name for name in names if name.partition(".")[0] in flow.nodes and name not in _sinks(flow)]
    harness = played(flow, test, taps)
    if missed := harness.unanswered():
        asked = ", ".join(f"'{node}' ({count})" for node, count in missed.items())
        raise UsageFault(f"--record: '{test.name}': `answers:` for each event that {asked} asks about; got none")
    return {name: actual(harness, name) for name in names}


def _sinks(flow: Flow) -> list[str]:
    """Return the sinks that stand in the file."""
    return [node.name for node in flow.section("sinks") if flow.document.has(("sinks", node.name))]


def _check(flows: Sequence[Flow], numbers: Sequence[int], text: str) -> None:
    """Run what was recorded as it will be read; raises UsageFault where it does not hold."""
    document = parse(text.encode(), Document(str(flows[0].path)))
    if document.findings:
        raise UsageFault(f"--record: events that YAML can say; {document.findings[0]}")
    for number in numbers:
        test = FlowTest.model_validate({"name": "", "expect": document.value["tests"][number]["expect"]})
        for flow in flows:
            told = flow.tests[number].model_copy(update={"expect": test.expect})
            differences = list(run_test(flow, told))
            if differences:
                said = "; ".join(differences[:3])
                raise UsageFault(f"--record: '{told.name}': the same each time; it differs: {said}")
