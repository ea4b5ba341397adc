"""The generated reference is what the classes say, and the decisions are listed."""

from pathlib import Path

import msgspec
import pytest

from engine.reference import markdown
from engine.registry import SECTIONS, components
from engine.schema import language_schema

DOCS = Path(__file__).parent.parent / "docs"
KINDS = [(section, name) for section in SECTIONS for name in components(section)]


@pytest.mark.parametrize(("section", "name"), KINDS)
def test_a_components_page_is_what_its_class_says(section: str, name: str) -> None:
    page = DOCS / "components" / section / f"{name}.md"
    assert page.read_text() == markdown(components(section)[name]), "run `make docs`"


def test_there_is_no_page_of_a_component_that_is_gone() -> None:
    pages = {(page.parent.name, page.stem) for page in (DOCS / "components").glob("*/*.md")}
    assert pages == set(KINDS)


def test_the_schema_is_what_the_classes_say() -> None:
    assert msgspec.json.decode((DOCS / "schema.json").read_bytes()) == language_schema(), "run `make docs`"


def test_every_decision_is_listed() -> None:
    index = (DOCS / "adr/README.md").read_text()
    assert [page.name for page in (DOCS / "adr").glob("0*.md") if f"({page.name})" not in index] == []
