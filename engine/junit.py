"""The outcomes of flow tests as JUnit XML, as CI servers read it (the schema of Jenkins' JUnit and xUnit plug-ins)."""

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from engine.testing import Outcome

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(outcomes: Sequence[Outcome]) -> bytes:
    """Return the document: a suite a flow, a case a test, a failure with all differences."""
    root = ElementTree.Element("testsuites", {"name": "millstream test", **_sums(outcomes), "disabled": "0"})
    for flow, group in groupby(outcomes, lambda outcome: outcome.flow):
        _suite(root, flow, list(group))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _suite(root: ElementTree.Element, flow: str, outcomes: Sequence[Outcome]) -> None:
    suite = ElementTree.SubElement(root, "testsuite", {"name": flow, **_sums(outcomes), "skipped": "0"})
    for outcome in outcomes:
        named = {"name": _text(outcome.test), "classname": flow, "time": f"{outcome.seconds:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", named)
        if outcome.differences:
            first = _text(outcome.differences[0].partition("\n")[0])
            failure = ElementTree.SubElement(case, "failure", {"message": first, "type": "difference"})
            failure.text = _text("\n".join(outcome.differences))


def _sums(outcomes: Sequence[Outcome]) -> dict[str, str]:
    failed = sum(bool(outcome.differences) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0", "time": f"{seconds:.3f}"}


def _text(text: str) -> str:
    """Return a text without the characters that XML cannot carry."""
    return _NOT_XML.sub("\ufffd", text)
