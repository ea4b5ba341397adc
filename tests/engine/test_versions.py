"""The versions of a flow on disk."""

from pathlib import Path

import pytest

from engine.errors import UsageFault
from engine.versions import Version, Versions, difference


def version(number: int, outcome: str = "deployed") -> Version:
    return Version(
        number=number, digest="0" * 12, author="maria", time=0.0, source="line.yaml", text=f"flow: line # {number}",
        outcome=outcome,  # type: ignore[arg-type]
    )  # fmt: skip


def test_every_version_is_kept_in_order(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    assert (versions.all(), versions.next_number()) == ([], 1)
    for number in range(1, 12):
        versions.write(version(number))
    assert [found.number for found in versions.all()] == list(range(1, 12))
    assert versions.next_number() == 12
    assert versions.get(7) == version(7)


def test_the_one_before_is_the_last_that_ran(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number, outcome in ((1, "deployed"), (2, "failed"), (3, "deployed")):
        versions.write(version(number, outcome))
    assert versions.before(3).number == 1
    with pytest.raises(UsageFault, match="a version before this one to go back to; there is none"):
        versions.before(1)


def test_a_number_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"a version of this flow \(none yet\); got 4"):
        Versions(tmp_path).get(4)


def test_a_difference_has_the_lines_around_it() -> None:
    text = difference("a\nb\nc\n", "a\nB\nc\n")
    assert text.splitlines()[3:] == [" a", "-b", "+B", " c"]


def test_a_deploy_that_was_cut_off_is_made_or_not(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number, outcome in ((1, "deployed"), (2, "started"), (3, "started")):
        versions.write(version(number, outcome))
    versions.settle(2)
    assert [(found.outcome, found.reason) for found in versions.all()] == [
        ("deployed", ""), ("deployed", ""), ("failed", "cut off: the gateway ended"),
    ]  # fmt: skip
