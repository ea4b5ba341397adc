"""Reading YAML: plain values with their places; what cannot be read is told once and never raises."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.document import GUESSES, Document
from engine.yaml_reader import MAX_BYTES, parse

PLAIN = """\
flow: line_1
about: "a: b"
nothing:
whole: -3
share: 1.5e+2
yes_or_no: [true, false]
nested:
  - a: {b: [1, two]}
    c: |
      one
      two
text: 'it''s'
1: one
"""


def read(text: str | bytes) -> Document:
    return parse(text.encode() if isinstance(text, str) else text, Document("f"))


def test_plain_values() -> None:
    document = read(PLAIN)
    assert document.findings == []
    assert document.value == {
        "flow": "line_1",
        "about": "a: b",
        "nothing": None,
        "whole": -3,
        "share": 150.0,
        "yes_or_no": [True, False],
        "nested": [{"a": {"b": [1, "two"]}, "c": "one\ntwo\n"}],
        "text": "it's",
        "1": "one",
    }


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ((), (1, 1)),
        (("about",), (2, 1)),
        (("yes_or_no", 1), (6, 19)),
        (("nested", 0, "a", "b", 1), (8, 16)),
        (("nested", 0, "c"), (9, 5)),
        (("nested", 0, "gone", "deeper"), (8, 5)),
        (("gone",), (1, 1)),
    ],
)
def test_each_part_has_its_place(where: tuple[str | int, ...], place: tuple[int, int]) -> None:
    assert read(PLAIN).at(where) == place


@pytest.mark.parametrize(
    ("where", "text", "offset", "place"),
    [
        (("flow",), "line_1", 2, (1, 9)),
        (("about",), "a: b", 3, (2, 12)),
        (("about",), "another text", 3, (2, 9)),
        (("text",), "it's", 3, (12, 7)),
        (("nested", 0, "c"), "one\ntwo\n", 5, (9, 8)),
        (("gone",), "x", 1, (1, 1)),
    ],
)
def test_a_place_inside_a_text_is_exact_where_the_text_stands_as_it_is(
    where: tuple[str | int, ...], text: str, offset: int, place: tuple[int, int]
) -> None:
    assert read(PLAIN).inside(where, text, offset) == place


def test_what_is_said_at_a_part_or_around_it() -> None:
    document = read(PLAIN)
    assert document.said(("nested", 0, "a", "b", 1)) == "two"
    assert document.said(("flow", "shorthand", 3)) == "line_1"


def test_a_lost_part_is_told_once() -> None:
    document = read("a: !!int x\nb: 1\n")
    document.find("later", ("a", "inner"), "nothing more")
    document.find("later", ("b",), "something")
    document.find("later", ("b",), "something")
    assert [finding.code for finding in document.findings] == ["yaml-surprise", "later"]


def test_guessing_ends_where_it_would_take_too_long() -> None:
    document = Document("f")
    assert document.guess("abc", ["abd"]) == "did you mean 'abd'?"
    assert [document.guess("abc", ["abd"]) for _ in range(GUESSES)][-1] == ""


def test_a_byte_order_mark_and_other_line_ends() -> None:
    assert read("\ufeffflow: f\r\nabout: x\r\n").value == {"flow": "f", "about": "x"}
    assert read("flow: f\rabout: x\r").value == {"flow": "f", "about": "x"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "---\n...\n"])
def test_nothing_is_nothing(text: str) -> None:
    document = read(text)
    assert (document.value, document.findings) == (None, [])


def test_the_limit_of_size_is_in_bytes() -> None:
    assert [finding.code for finding in read("é" * (MAX_BYTES // 2)).findings] == []
    assert [finding.code for finding in read("é" * (MAX_BYTES // 2 + 1)).findings] == ["file-size"]


scalars = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8),
    st.sampled_from(["on", "no", "1_000", "012", "12:30", "2024-05-01", "<<", "=", "~", "a: b", "#x", "${x}", "0x1"]),
)
names = st.one_of(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), st.sampled_from(["on", "12", "no", "~", "<<", "x y"]))
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=20
)


@settings(max_examples=200)
@given(trees)
def test_what_was_written_is_read(tree: Any) -> None:
    """Whatever a YAML writer quotes where it must comes back as it was, with nothing to say about it."""
    document = read(yaml.safe_dump(tree, allow_unicode=True))
    assert document.findings == []
    assert document.value == tree


hostile = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            ": ",
            "- ",
            "\n",
            "  ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&x ",
            "*x",
            "!",
            "!!int ",
            "!!float ",
            "!!bool ",
            "<<",
            "on",
            "'",
            '"',
            "|",
            ">",
            "\t",
            "#",
            "---",
            "...",
            "? ",
            "%YAML 1.1\n",
            "0x",
            "1_0",
            ".inf",
            ".NaN",
            "9" * 25,
            "12:30",
            "2024-01-01",
            "\x00",
            "\x85",
            "\u2028",
            "é",
            "~",
            "!!binary ",
            "!!set ",
            "!x ",
        ]
    ),
    max_size=30,
)


@settings(max_examples=500)
@given(st.one_of(hostile.map(lambda parts: "".join(parts).encode()), st.binary(max_size=40)))
def test_nothing_raises(blob: bytes) -> None:
    document = parse(blob, Document("f"))
    assert document.findings or _plain(document.value)
    assert all(finding.line >= 1 and finding.column >= 1 and finding.message for finding in document.findings)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or type(value) in (str, int, float, bool)
