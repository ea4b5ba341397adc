"""Every component that the registry finds keeps what a component promises; a new file is covered without an edit."""

import socket

import pytest
from pydantic import ConfigDict

from engine.component import Component, Example
from engine.registry import SECTIONS, components
from tests.compliance import check_example, check_options, check_place, check_words, comply, watched

COMPONENTS = [cls for section in SECTIONS for cls in components(section).values()]


@pytest.mark.parametrize("cls", COMPONENTS, ids=lambda cls: f"{cls.section}.{cls.kind}")
def test_a_component_complies(cls: type[Component]) -> None:
    comply(cls)


def test_there_are_components_of_every_section() -> None:
    assert {cls.section for cls in COMPONENTS} == {*SECTIONS}
    assert len(COMPONENTS) >= 20


def test_the_compliance_checks_can_fail() -> None:
    """A component that promises nothing is caught at every promise."""

    class Bare(Component):
        kind = "bare"
        section = "operators"
        wide: int = 1

    class Loose(Bare):
        model_config = ConfigDict(frozen=False)

    for check, cls in ((check_place, Bare), (check_words, Bare), (check_options, Loose)):
        with pytest.raises(AssertionError):
            check(cls)
    wrong = Example(about="Nothing is dropped.", config="where: a == 1", given=[{"a": 2}], expect=[{"a": 2}])
    with pytest.raises(AssertionError):
        check_example(components("operators")["where"], wrong)


def test_a_connection_is_seen() -> None:
    with watched() as connections, socket.socket() as opened, pytest.raises(OSError, match="refused"):
        opened.connect(("127.0.0.1", 1))
    assert "socket.connect" in connections
