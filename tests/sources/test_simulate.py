"""The device simulator: the same seed makes the same messages, whatever is restarted and however it is read."""

import base64
import collections
import json
import random
import statistics
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Finding
from engine.load import load_text
from sources.simulate import Distribution, Simulate

SECOND = 1_000_000
START = 1_000 * SECOND
SCRIPT = """
simulate:
  seed: 7
  every: 10s
  script:
    - {topic: gate, data: {car: {count: 1}}}
    - {after: 1s, topic: station, data: {result: {weighted: {OK: 9, DEFECT: 1}}, deep: [{t: {uniform: [4, 9]}}]}}
    - {after: 2s, topic: camera, odds: 0.3, data: {result: DEFECT}}
"""


def simulator(text: str = SCRIPT, **more: Any) -> Simulate:
    sinks = "sinks: {log: {from: line, log: {message: seen}}}"
    flow = load_text(f"flow: devices\nsources:\n  line: {json.dumps(yaml.safe_load(text))}\n{sinks}")
    flow.raise_findings()
    source = flow.nodes["line"].component
    assert isinstance(source, Simulate)
    return source.model_copy(update=more)


def findings(step: str) -> list[Finding]:
    text = f"flow: devices\nsources:\n  line: {{simulate: {{every: 1s, script: [{step}]}}}}"
    return [finding for finding in load_text(text).document.findings if finding.code != "unused"]


def messages(source: Simulate, until: float, stops: list[float] = [], limit: int = 1000) -> list[tuple[int, str, Any]]:  # noqa: B006
    """Read up to so many seconds, with a restart at each stop; return times in seconds, topics and payloads."""
    position: Any = [START, 0]
    reader, found = source.open(), []
    for now in [*sorted(stops), until]:
        while True:
            pull = reader.read(position, START + int(now * SECOND), limit)
            found += pull.arrivals
            if pull.position == position:
                break
            position = pull.position
        reader.close()
        reader, position = source.open(), msgspec.msgpack.decode(msgspec.msgpack.encode(position))
    return [((at - START) // SECOND, arrival.topic, msgspec.json.decode(arrival.payload)) for at, arrival in found]


@pytest.mark.parametrize("example", Simulate.examples, ids=lambda example: example.about)
def test_examples(example: Any) -> None:
    found = [data for _, _, data in messages(simulator(example.config), 3600)]
    assert len(found) == len(example.expect)
    for data, expected in zip(found, example.expect, strict=True):
        assert data | expected == data


def test_messages_come_at_their_times_in_order() -> None:
    found = messages(simulator(), 12, stops=[5])
    assert [(at, topic) for at, topic, _ in found if topic != "camera"] == [
        (0, "gate"), (1, "station"), (10, "gate"), (11, "station"),
    ]  # fmt: skip
    assert [data for _, topic, data in found if topic == "gate"] == [{"car": 1}, {"car": 2}]


def test_nothing_comes_before_its_time_and_the_reader_says_when() -> None:
    reader = simulator().open()
    pull = reader.read([START, 1], START + SECOND - 1, 10)
    assert (pull.arrivals, pull.wake_at, pull.done) == ([], START + SECOND, False)


def test_the_first_start_is_where_times_are_counted_from() -> None:
    pull = simulator().open().read(None, START, 10)
    assert [at for at, _ in pull.arrivals] == [START]
    assert pull.position == [START, 1]


def test_the_seed_decides() -> None:
    first = messages(simulator(catch_up=True), 1000)
    assert messages(simulator(catch_up=True), 1000) == first
    assert messages(simulator(catch_up=True, seed=8), 1000) != first


@given(stops=st.lists(st.floats(0, 9.5), max_size=5), limit=st.integers(1, 9))
def test_any_restart_and_any_batching_give_the_same_messages(stops: list[float], limit: int) -> None:
    source = simulator(SCRIPT.replace("10s", "3s").replace("2s", "1s"))
    assert messages(source, 9.9, stops, limit) == messages(source, 9.9)


@given(stops=st.lists(st.floats(0, 100_000), max_size=4))
def test_with_catch_up_nothing_is_left_out(stops: list[float]) -> None:
    source = simulator(catch_up=True, repeat=3)
    assert messages(source, 100_000, stops) == messages(source, 100_000)


def test_time_away_is_skipped_but_for_its_last_ten_seconds() -> None:
    found = messages(simulator(), 1000, stops=[1])
    assert [at for at, topic, _ in found if topic == "gate"] == [0, 1000]
    made_up = messages(simulator(catch_up=True), 1000, stops=[1])
    assert [at for at, topic, _ in made_up if topic == "gate"] == list(range(0, 1001, 10))


def test_a_message_is_the_same_whether_what_was_before_it_was_skipped() -> None:
    skipped = messages(simulator(), 1000, stops=[1])
    assert set(map(str, skipped)) < set(map(str, messages(simulator(catch_up=True), 1000)))


@given(
    stops=st.lists(st.integers(0, 200), max_size=6), limit=st.integers(1, 9), sure=st.lists(st.booleans(), min_size=7)
)
def test_a_message_keeps_its_number(stops: list[int], limit: int, sure: list[bool]) -> None:
    """Whatever does not happen, was skipped or is made again after a crash: an id is never used for another message."""
    source, seen = simulator(), dict[int, tuple[int, str]]()
    stored: tuple[Any, int] = ([START, 0], 0)
    for now, durable in zip([*sorted(stops), 200], sure, strict=False):
        reader, (position, count) = source.open(), stored
        while True:
            pull = reader.read(position, START + now * SECOND, limit)
            count += pull.skipped
            for count, (at, arrival) in enumerate(pull.arrivals, count + 1):  # noqa: B020 - it is counted on
                assert seen.setdefault(count, (at, arrival.topic)) == (at, arrival.topic)
            if pull.position == position:
                break
            position = pull.position
        stored = (position, count) if durable else stored
    assert len(set(seen.values())) == len(seen)


def test_it_ends_when_it_has_been_repeated() -> None:
    source = simulator(repeat=2)
    assert [topic for _, topic, _ in messages(source, 3600)].count("gate") == 2
    pull = source.open().read([START, 6], START + 3600 * SECOND, 1000)
    assert (pull.arrivals, pull.done, pull.wake_at) == ([], True, None)


def test_odds() -> None:
    topics = collections.Counter(topic for _, topic, _ in messages(simulator(catch_up=True), 20_000 - 1, limit=10_000))
    assert topics["gate"] == topics["station"] == 2000
    assert 520 < topics["camera"] < 680, "0.3 of 2000, give or take four standard deviations"


def chance(seed: str) -> random.Random:
    return random.Random(seed)


def drawn(distribution: Distribution, times: int = 4000) -> list[Any]:
    return [distribution.draw(chance(f"{number}"), number) for number in range(times)]


def test_distributions() -> None:
    choice = collections.Counter(drawn(Distribution(choice=["a", 2, None])))
    assert set(choice) == {"a", 2, None}
    assert min(choice.values()) > 1200
    weighted = collections.Counter(drawn(Distribution(weighted={"OK": 90, "DEFECT": 10, "NEVER": 0})))
    assert set(weighted) == {"OK", "DEFECT"}
    assert 320 < weighted["DEFECT"] < 480
    uniform = drawn(Distribution(uniform=[4, 9], digits=1))
    assert min(uniform) == 4
    assert max(uniform) == 9
    assert all(value == round(value, 1) for value in uniform)
    normal = drawn(Distribution(normal=[20, 2]))
    assert abs(statistics.mean(normal) - 20) < 0.2
    assert abs(statistics.stdev(normal) - 2) < 0.2
    assert set(drawn(Distribution(integer=[1, 3]))) == {1, 2, 3}
    assert drawn(Distribution(count=100), 3) == [100, 101, 102]


def decoded(text: str) -> Any:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text, validate=True), np.uint8), cv2.IMREAD_COLOR)


def test_pictures_are_small_real_jpegs() -> None:
    for text in drawn(Distribution(picture="defect"), 40):
        blob = base64.b64decode(text, validate=True)
        assert blob.startswith(b"\xff\xd8\xff")
        assert len(blob) < 20_000
        assert decoded(text).shape == (240, 320, 3)


def test_a_picture_is_its_message_s() -> None:
    pictures = drawn(Distribution(picture="defect"), 40)
    assert drawn(Distribution(picture="defect"), 40) == pictures
    assert len(set(pictures)) == 40


def test_the_text_and_the_number_are_on_the_picture() -> None:
    seed = "the same damage"
    first, other = (decoded(Distribution(picture=text).draw(chance(seed), 5)) for text in ("defect", "scratch"))
    differs = np.argwhere(np.abs(first.astype(int) - other).max(axis=2) > 60)
    assert differs[:, 0].min() >= 200, "only in the strip with the label"
    assert len(differs) > 50
    assert np.array_equal(first, decoded(Distribution(picture="defect").draw(chance(seed), 5)))
    decoded(Distribution(picture="Türgriff 门").draw(chance(seed), 5))


def test_two_pictures_of_a_message_show_one_car_and_two_damages() -> None:
    source = simulator("simulate: {every: 1s, script: [{data: {images: [{picture: a}, {picture: a}]}}]}")
    [(_, _, data)] = messages(source, 0)
    one, two = map(decoded, data["images"])
    assert data["images"][0] != data["images"][1]
    assert np.abs(one[60:75, 120:].astype(int) - two[60:75, 120:]).mean() < 12, "the same paint"


def test_a_field_that_is_no_distribution_stays_as_it_is() -> None:
    data = "{count: 5, a: {b: [1, {}]}, c: {uniform: [1, 2], x: 1}}"
    source = simulator(f"simulate: {{every: 1s, script: [{{data: {data}}}]}}")
    assert messages(source, 0) == [(0, "", {"count": 5, "a": {"b": [1, {}]}, "c": {"uniform": [1, 2], "x": 1}})]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("{after: 5}", "script.0.after: a duration"),
        ("{odds: 1.5}", "script.0.odds: "),
        ("{topik: x}", "did you mean 'topic'?"),
        ("{data: {t: {uniform: [1]}}}", "script.0.data.t.uniform: "),
        ("{data: {t: {uniform: [1, x]}}}", "script.0.data: t.uniform.1: "),
        ("{data: {t: {integer: [9, 1]}}}", "script.0.data.t: integer: the lower bound first; got [9, 1]"),
        ("{data: {t: {choice: []}}}", "script.0.data.t: choice: at least one value"),
        ("{data: {t: {weighted: {OK: -1}}}}", "script.0.data.t: weighted: weights of at least 0, one of them greater"),
        ("{data: {t: {weighted: {}}}}", "script.0.data.t: weighted: weights of at least 0"),
        ("{data: {list: [{t: {count: 1, choice: [1]}}]}}", "script.0.data: list.0.t: exactly one of choice"),
        ("{data: {t: {digits: 2}}}", "script.0.data.t: exactly one of choice, weighted, uniform"),
    ],
)
def test_a_bad_option_is_told_where_it_stands(step: str, expected: str) -> None:
    [finding] = findings(step)
    assert expected in str(finding)


def test_a_script_takes_time() -> None:
    found = load_text("flow: devices\nsources:\n  line: {simulate: {script: [{topic: x}]}}").document.findings
    assert "a script that takes time: give a step `after`, or give `every`" in str(found[0])
