"""`pareto`: against Kume's worked example, and the standard library's Counter."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.harness import Harness
from engine.testing import START
from tests.operators.replay import LATER, flow_of, sent

KUME = {"strain": 104, "scratch": 42, "pinhole": 20, "crack": 10, "stain": 6, "gap": 4, "others": 14}


def rankings(options: dict[str, Any], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    harness = Harness(flow_of("pareto", {"of": "c", "every": "1h"} | options, key=""))
    for number, reading in enumerate(given):
        harness.send([sent(**({"at": number * 1e-3} | reading))])
    harness.tick(START + 5 * LATER)
    return [event.data for event in harness.out["out"]]


def column(ranking: dict[str, Any], name: str) -> list[Any]:
    return [row[name] for row in ranking["categories"]]


def test_the_ranking_is_that_of_the_published_example() -> None:
    """H. Kume, Statistical Methods for Quality Improvement: defects of 200; 52, 73, 83, … % make up the vital few."""
    [found] = rankings({"sum": "n"}, [{"c": name, "n": number} for name, number in KUME.items()])
    assert found["total"] == 200
    assert column(found, "category") == ["strain", "scratch", "pinhole", "others", "crack", "stain", "gap"]
    assert column(found, "share") == pytest.approx([0.52, 0.21, 0.10, 0.07, 0.05, 0.03, 0.02])
    assert column(found, "cumulative") == pytest.approx([0.52, 0.73, 0.83, 0.90, 0.95, 0.98, 1.0])
    assert found["vital"] == ["strain", "scratch", "pinhole"]
    assert found["others"] == 0


def test_what_is_not_listed_stands_together_at_the_end() -> None:
    [found] = rankings({"sum": "n", "most": 3}, [{"c": name, "n": number} for name, number in KUME.items()])
    assert column(found, "category") == ["strain", "scratch", "pinhole", "other"]
    assert found["categories"][-1] == {
        "category": "other",
        "value": 34,
        "share": 0.17,
        "cumulative": 1.0,
        "vital": False,
    }
    assert found["others"] == 4


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "d", 7, None]), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0.1, 0.5, 0.8, 1.0]),
)
def test_counts_shares_and_the_vital_few(given_: list[Any], most: int, held: int, share: float) -> None:
    options = {"most": most, "held": held, "share": share}
    found = rankings(options, [{"c": category} for category in given_])
    counted = [str(category) for category in given_ if category is not None]
    if not counted:
        assert found == []
        return
    [ranking] = found
    assert ranking["total"] == len(counted) == sum(column(ranking, "value"))
    assert sum(column(ranking, "share")) == pytest.approx(1)
    assert ranking["categories"][-1]["cumulative"] == pytest.approx(1)
    known = set(list(dict.fromkeys(counted))[:held])
    expected = Counter(name for name in counted if name in known).most_common()
    top = sorted(expected, key=lambda item: (-item[1], item[0]))[:most]
    assert [(row["category"], row["value"]) for row in ranking["categories"]][: len(top)] == top
    vital = [number for _, number in top[: len(ranking["vital"])]]
    assert ranking["vital"] == [name for name, _ in top[: len(vital)]]
    assert sum(vital[:-1]) < share * len(counted)
    assert sum(vital) >= share * len(counted) - 1e-9 or len(vital) == len(top)


def test_each_time_has_a_ranking_of_its_own_unless_it_is_running() -> None:
    given_: list[dict[str, Any]] = [{"at": 0, "c": "a"}, {"at": 3600, "c": "b"}, {"at": 3 * 3600, "c": "b"}]
    assert [column(ranking, "category") for ranking in rankings({}, given_)] == [["a"], ["b"], ["b"]]
    found = rankings({"running": True}, given_)
    assert [ranking["total"] for ranking in found] == [1, 2, 3]
    assert column(found[-1], "category") == ["b", "a"]
    assert len({ranking["start"] for ranking in found}) == 1


def test_sums_of_nothing_have_no_shares() -> None:
    [found] = rankings({"sum": "n"}, [{"c": "a", "n": 0}])
    assert (found["total"], column(found, "share"), found["vital"]) == (0, [0.0], [])


def test_what_is_no_category_or_no_number_is_a_dead_letter() -> None:
    harness = Harness(flow_of("pareto", {"of": "c", "sum": "n", "every": "1h"}, key=""))
    wrong: list[dict[str, Any]] = [
        {"c": [1], "n": 1}, {"c": "x" * 201, "n": 1}, {"c": "a", "n": -1}, {"c": "a", "n": "1"}, {"c": "a"}, {"n": 1},
    ]  # fmt: skip
    for number, reading in enumerate(wrong):
        harness.send([sent(number, **reading)])
    assert [letter.reason.split("; got")[0] for letter in harness.dead] == [
        "of: text of at most 200 characters, or a number",
        "of: text of at most 200 characters, or a number",
        "sum: a number of at least 0",
        "sum: a number",
    ]
    harness.tick(START + LATER)
    assert harness.out["out"] == []
