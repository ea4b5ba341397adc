"""The cause of a dead letter: what differs from event to event is not part of it."""

import pytest

from engine.cause import LONGEST, cause_of


@pytest.mark.parametrize(
    ("cause", "reasons"),
    [
        ("column device: text of at most … characters; got …", ["column device: text of at most 50 characters; got 51"]),
        ("result: one_of OK, DEFECT; got …", ["result: one_of OK, DEFECT; got 'TIME; OUT'", "result: one_of OK, DEFECT; got 7"]),
        ("decode: a JSON object; got a list", ["decode: a JSON object; got a list"]),
        ("decode: JSON is malformed: invalid character (byte …)", ["decode: JSON is malformed: invalid character (byte 7)"]),
        ("x: a; got …", ["x: a; got [1, {'a': 2}]", "x: a; got 'cut off…", 'x: a; got "it\'s"']),
        ("a: text; got …; b: text; got …", ["a: text; got 1; b: text; got 2", "a: text; got [1]; b: text; got 'x'"]),
        ("… / sum: division by zero; sum = …, b = …", ["8 / sum: division by zero; sum = 0, b = 'x'"]),
        ("a source of this flow; '…' is not there any more", ["a source of this flow; 'a' is not there any more"]),
        ("KeyError: '…'", ["KeyError: 'a'", "KeyError:  'b'\n"]),
        ("it's somebody's", ["it's somebody's"]),
        ("at 2h2 of a1", ["at 2h2 of a1"]),
    ],
)  # fmt: skip
def test_reasons_with_other_values_have_one_cause(cause: str, reasons: list[str]) -> None:
    assert {cause_of(reason) for reason in reasons} == {cause}


def test_a_cause_is_bounded() -> None:
    assert len(cause_of("x" * 10_000)) == LONGEST
