"""The generated reference is what the classes say, and the decisions are listed."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from cli.reference_pages import component_pages
from engine.finding_codes import codes_page
from engine.function_reference import functions_page
from engine.load import load_text
from engine.reference import delivery, index_page, summary, type_text
from engine.registry import SECTIONS, components
from engine.schema import language_schema
from engine.testing import run_tests

DOCS = Path(__file__).parent.parent / "docs"
KINDS = [(section, name) for section in SECTIONS for name in components(section)]


@pytest.mark.parametrize(("section", "name"), KINDS)
def test_a_components_page_and_pictures_are_what_its_class_says(section: str, name: str) -> None:
    for file, text in component_pages(components(section)[name]):
        assert (DOCS / "components" / file).read_text() == text, f"{file}: run `make docs`"


def test_the_other_pages_are_what_they_say() -> None:
    kinds = {section: dict(components(section).items()) for section in SECTIONS}
    others = {"README.md": index_page(kinds), "functions.md": functions_page(), "lint.md": codes_page()}
    for file, text in others.items():
        assert (DOCS / "components" / file).read_text() == text, f"{file}: run `make docs`"


def test_there_is_no_page_or_picture_of_what_is_gone() -> None:
    pages = {(page.parent.name, page.stem) for page in (DOCS / "components").glob("*/*.md")}
    assert pages == set(KINDS)
    for section in SECTIONS:
        text = "".join(page.read_text() for page in (DOCS / "components" / section).glob("*.md"))
        shown = set(re.findall(r"]\(pictures/(.*?)\)", text))
        assert shown == {picture.name for picture in (DOCS / "components" / section).glob("pictures/*")}


@pytest.mark.parametrize("kind", ["validate", "alert", "spc"])
def test_pictures_are_the_same_each_time_and_are_svg(kind: str) -> None:
    once, again = (dict(component_pages(components("operators")[kind])) for _ in range(2))
    assert once == again
    pictures = [text for name, text in once.items() if name.endswith(".svg")]
    assert len(pictures) >= len(components("operators")[kind].examples)
    for picture in pictures:
        root = ElementTree.fromstring(picture)  # noqa: S314  # ours
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"nan|inf|[(,\" ]-[0-9]{4}", picture)


def test_the_index_has_every_kind_output_and_guarantee() -> None:
    index = (DOCS / "components/README.md").read_text()
    for section, name in KINDS:
        cls = components(section)[name]
        assert f"| [{name}]({section}/{name}.md) | {summary(cls)[:20]}" in index
        assert all(f"| [{name}]({section}/{name}.md) | `.{output}` |" in index for output in cls.outputs)
        assert (f"| [{name}]({section}/{name}.md) | {delivery(cls)} |" in index) == bool(cls.guarantee)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": ["string", "number", "boolean"], "description": "What it says."}, "expression"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}, "number"),
        ({"items": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}, "type": "array"}, "list of values"),
        ({"additionalProperties": {"type": ["boolean", "string", "number"]}, "type": "object"}, "mapping of expressions"),
        ({"type": "string", "title": "duration"}, "duration"),
        ({"anyOf": [{"enum": ["a", 1]}, {"const": "b"}]}, "`a` | `1` or `b`"),
        ({"$ref": "#/$defs/Level"}, "mapping"),
        ({}, "value"),
    ],
)  # fmt: skip
def test_a_type_is_said_for_people(schema: dict[str, Any], text: str) -> None:
    assert type_text(schema) == text


def test_the_schema_is_what_the_classes_say() -> None:
    assert msgspec.json.decode((DOCS / "schema.json").read_bytes()) == language_schema(), "run `make docs`"


def test_every_decision_is_listed() -> None:
    index = (DOCS / "adr/README.md").read_text()
    assert [page.name for page in (DOCS / "adr").glob("0*.md") if f"({page.name})" not in index] == []


def flows_in_docs() -> list[tuple[str, str]]:
    """Return each YAML block of the written pages that is a flow."""
    pages = sorted((DOCS / "concepts").glob("*.md"))
    return [
        (page.name, block)
        for page in pages
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(("page", "text"), flows_in_docs())
def test_flows_in_the_docs_lint_and_pass_their_tests(page: str, text: str) -> None:
    outcomes = run_tests(load_text(text).raise_findings())
    assert outcomes
    assert [outcome for outcome in outcomes if outcome.differences] == []
