"""The reference of the functions: every one is in it, with what it takes and gives."""

import re

import pytest

from engine.function_reference import function_text, functions_page, gives
from engine.functions import FUNCTIONS


def test_every_function_has_one_row() -> None:
    rows = re.findall(r"^\| `(\w+)\(", functions_page(), flags=re.MULTILINE)
    assert rows == list(FUNCTIONS)
    assert len(rows) > 90


def test_a_row_has_as_many_cells_as_the_head() -> None:
    rows = [line for line in functions_page().splitlines() if line.startswith("| `")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_one_function_alone() -> None:
    assert function_text(FUNCTIONS["find"]).splitlines() == [
        "# find(text, part) (function)",
        "",
        "Give the position (the first is 0) at which a text has another; none where it has not.",
        "",
        "- `text`: text",
        "- `part`: text",
        "",
        "Gives number or none.",
        "",
        "```",
        'find("led=1", "=")',
        "3",
        "```",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("upper", "text"), ("sqrt", "number"), ("mean", "number or none"), ("coalesce", "a value"), ("exists", "boolean")],
)
def test_what_comes_out_is_named(name: str, kind: str) -> None:
    assert gives(FUNCTIONS[name]) == kind


def test_optional_and_repeated_arguments_are_told() -> None:
    assert "- `digits`: whole number, may be left out" in function_text(FUNCTIONS["round"])
    assert "- `values`: anything, any number of them" in function_text(FUNCTIONS["min"])
