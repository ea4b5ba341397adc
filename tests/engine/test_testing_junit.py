"""JUnit XML: what CI servers read; elements and attributes are those of the schema of Jenkins' xUnit plug-in."""

from xml.etree import ElementTree

from engine.junit import junit
from engine.testing import Outcome

ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "disabled", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id"},
    "testcase": {"name", "classname", "time", "status", "assertions"},
    "failure": {"message", "type"},
}
REQUIRED: dict[str, set[str]] = {
    "testsuites": set(),
    "testsuite": {"name", "tests"},
    "testcase": {"name", "classname"},
    "failure": set(),
}
CHILDREN: dict[str, set[str]] = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure"},
    "failure": set(),
}
OUTCOMES = [
    Outcome("line", "holds", [], 0.25),
    Outcome("line", 'a < b & "c" \x07', ["out: 1 event; got 0\n    wanted [0] {}", "x: 1; got ]]>\x00"], 1.5),
    Outcome("oven", "holds", [], 0.0),
]


def read(outcomes: list[Outcome]) -> ElementTree.Element:
    return ElementTree.fromstring(junit(outcomes))  # noqa: S314  # what we wrote ourselves


def test_it_is_what_the_schema_says() -> None:
    root = read(OUTCOMES)
    assert root.tag == "testsuites"
    for element in root.iter():
        assert REQUIRED[element.tag] <= set(element.keys()) <= ALLOWED[element.tag]
        assert {child.tag for child in element} <= CHILDREN[element.tag]


def test_a_suite_a_flow_with_its_sums() -> None:
    root = read(OUTCOMES)
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["time"]) == ("3", "1", "1.750")
    found = [(suite.attrib["name"], suite.attrib["tests"], suite.attrib["failures"]) for suite in root]
    assert found == [("line", "2", "1"), ("oven", "1", "0")]


def test_differences_are_the_text_of_the_failure() -> None:
    root = read(OUTCOMES)
    (failure,) = root.iter("failure")
    assert failure.attrib["message"] == "out: 1 event; got 0"
    assert failure.text == "out: 1 event; got 0\n    wanted [0] {}\nx: 1; got ]]>\ufffd"
    assert [case.attrib["name"] for case in root.iter("testcase")] == ["holds", 'a < b & "c" \ufffd', "holds"]


def test_no_tests_are_a_document_too() -> None:
    assert read([]).attrib["tests"] == "0"
