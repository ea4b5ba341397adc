"""Settings: which value wins, of which type it is, and where it is put in."""

from typing import Any

import pytest
from pydantic import SecretStr

from engine.document import Document
from engine.substitution import Surroundings, read_settings, substitute

SPEC: dict[str, Any] = {
    "plain": "text",
    "most": {"env": "MOST", "default": 5},
    "share": {"env": "SHARE", "default": 0.5},
    "open": {"env": "OPEN", "default": True},
    "names": {"env": "NAMES", "default": ["a"]},
    "key": {"env": "KEY", "secret": True},
    "derived": {"default": "${plain}/${most}"},
    "local_too": "${local}",
}


def settings(environment: dict[str, str] | None = None, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    document = Document("f")
    found = read_settings(
        document, SPEC, Surroundings(environment={"KEY": "s", **(environment or {})}, overrides=overrides or {})
    )
    assert document.findings == []
    return found


def test_defaults_and_facts() -> None:
    found = settings()
    assert found.pop("key").get_secret_value() == "s"
    assert found == {
        "local": True, "plain": "text", "most": 5, "share": 0.5, "open": True, "names": ["a"], "derived": "text/5",
        "local_too": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("MOST", "7", "most", 7),
        ("SHARE", "1e3", "share", 1000.0),
        ("OPEN", " Off ", "open", False),
        ("NAMES", '["b", "c"]', "names", ["b", "c"]),
    ],
)
def test_the_environment_is_read_as_the_defaults_type(variable: str, text: str, name: str, value: Any) -> None:
    found = settings({variable: text})[name]
    assert (type(found), found) == (type(value), value)


def test_an_override_wins_over_the_environment_and_reaches_what_is_derived() -> None:
    found = settings({"MOST": "7"}, {"most": "8"})
    assert (found["most"], found["derived"]) == (8, "text/8")


VALUES = {"most": 5, "name": "led", "topics": ["a", "b"], "none": None, "key": SecretStr("hunter2")}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${most}", 5),
        ("a/${most}/${name}", "a/5/led"),
        ("${topics}", ["a", "b"]),
        ({"a": ["${name}", 3]}, {"a": ["led", 3]}),
        ("$most and {name}", "$most and {name}"),
        ("${none}", None),
        (7, 7),
    ],
)
def test_one_reference_alone_keeps_its_type(value: Any, expected: Any) -> None:
    document = Document("f")
    assert substitute(document, value, VALUES, ()) == expected
    assert document.findings == []


def test_a_secret_goes_in_alone_and_is_still_a_secret() -> None:
    document = Document("f")
    found = substitute(document, {"whole": "${key}", "part": "Bearer ${key}"}, VALUES, ())
    assert isinstance(found["whole"], SecretStr)
    assert found["part"] is None
    assert [finding.message for finding in document.findings] == [
        "a secret alone in its option; got ${key} in a longer text"
    ]
    assert "hunter2" not in str(document.findings)


def test_every_wrong_reference_of_a_text_is_told_once() -> None:
    document = Document("f")
    assert substitute(document, ["${mots} ${nam} ${"], VALUES, ("a",)) == [None]
    assert [(finding.message, finding.hint) for finding in document.findings] == [
        ("a setting's name in ${…}; got 'mots'", "did you mean 'most'?"),
        ("a setting's name in ${…}; got 'nam'", "did you mean 'name'?"),
        ("a setting's name in ${…}; got '${' without its end", ""),
    ]
