"""The generated reference is what the classes say, and the decisions are listed."""

import re
from pathlib import Path

import msgspec
import pytest

from engine.load import load_text
from engine.reference import markdown
from engine.registry import SECTIONS, components
from engine.schema import language_schema
from engine.testing import run_tests

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
