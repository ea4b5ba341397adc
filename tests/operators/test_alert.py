"""`alert`: every transition of its life, by readings, by time, by hand, over restarts and outages."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.alert_desk import EVERY_KEY, alert_key
from engine.errors import FlowInvalid
from engine.fingerprints import fingerprints
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START, run_tests
from tests.operators.replay import LATER, SECOND, Cut, cuts, flow_of, one_by_one, replayed, sent

HANDS = "alerts_by_hand"


def acts(at: float, do: str, key: str = "a", by: str = "mia", **data: Any) -> Sent:
    """Return what somebody does `at` seconds after the start."""
    payload = msgspec.json.encode({"do": do, "key": key, **data})
    return Sent(START + round(at * SECOND), HANDS, payload, meta={"account": by})


def reads(at: float, v: Any, key: str = "a") -> Sent:
    return sent(at, k=key, v=v)


def run(options: dict[str, Any], *messages: Sent, until: float | None = None) -> Harness:
    harness = Harness(flow_of("alert", options))
    for message in messages:
        harness.send([message])
    harness.tick(START + round(until * SECOND) if until is not None else messages[-1].at + LATER)
    return harness


def changes(harness: Harness, output: str = "out") -> list[tuple[float, str]]:
    """Return when (seconds after the start) which change came out."""
    return [((event.arrival - START) / SECOND, event.data["change"]) for event in harness.out[output]]


HOLDS = {"when": "v > 5", "for": "30s"}


@pytest.mark.parametrize(
    ("options", "readings", "expected"),
    [
        pytest.param({"when": "v > 5"}, [(0, 6)], [(0, "fired")], id="at once"),
        pytest.param(HOLDS, [(0, 6)], [(30, "fired")], id="by time alone"),
        pytest.param(HOLDS, [(0, 6), (10, 7), (29, 8)], [(30, "fired")], id="goes on"),
        pytest.param(HOLDS, [(0, 6), (29.9, 5)], [], id="ended too early"),
        pytest.param(HOLDS, [(0, 6), (20, 5), (21, 6)], [(51, "fired")], id="begins anew"),
        pytest.param(HOLDS, [(0, 6), (30, 5)], [(30, "fired"), (30, "cleared")], id="a reading when it is over"),
        pytest.param(HOLDS, [(0, 6), (20, None)], [(30, "fired")], id="none changes nothing"),
        pytest.param({"when": "v == none"}, [(0, None), (1, 2)], [(0, "fired"), (1, "cleared")], id="none is meant"),
        pytest.param({"when": "v > 5", "clear_for": "10s"}, [(0, 6), (5, 1)], [(0, "fired"), (15, "cleared")], id="clear_for"),
        pytest.param({"when": "v > 5", "clear_for": "10s"}, [(0, 6), (5, 1), (14, 6), (20, 1)], [(0, "fired"), (30, "cleared")], id="not calm for long enough"),
        pytest.param({"when": "v > 5", "clear_when": "v < 3"}, [(0, 6), (1, 4), (2, 2), (3, 4)], [(0, "fired"), (2, "cleared")], id="hysteresis"),
        pytest.param({"when": "v > 5", "clear_when": "v < 3", "clear_for": "10s"}, [(0, 6), (1, 2), (5, 4), (20, 2)], [(0, "fired"), (30, "cleared")], id="hysteresis for a time"),
        pytest.param({"when": "v > 5", "again_after": "1m"}, [(0, 6), (1, 1), (2, 6), (3, 1)], [(0, "fired"), (1, "cleared")], id="cool-down"),
        pytest.param({"when": "v > 5", "again_after": "1m"}, [(0, 6), (1, 1), (2, 6)], [(0, "fired"), (1, "cleared"), (60, "fired")], id="holds when the cool-down is over"),
        pytest.param({"when": "v > 5", "again_after": "1m"}, [(0, 6), (1, 1), (70, 6)], [(0, "fired"), (1, "cleared"), (70, "fired")], id="after the cool-down"),
        pytest.param({"when": "v > 5", "repeat": "10s"}, [(0, 6), (5, 7), (25, 1)], [(0, "fired"), (10, "repeated"), (20, "repeated"), (25, "cleared")], id="repeat"),
        pytest.param({"absent": "5m"}, [(0, 1), (299, 1)], [(599, "fired")], id="absent"),
        pytest.param({"absent": "10s"}, [(0, 1), (12, 1)], [(10, "fired"), (12, "cleared"), (22, "fired")], id="back"),
        pytest.param({"absent": "10s", "clear_for": "5s"}, [(0, 1), (12, 1), (13, 1)], [(10, "fired"), (17, "cleared"), (23, "fired")], id="back for a time"),
        pytest.param({"absent": "5s", "clear_for": "20s"}, [(0, 1), (12, 1)], [(5, "fired")], id="back, but silent again"),
    ],
)  # fmt: skip
def test_a_change(
    options: dict[str, Any], readings: list[tuple[float, Any]], expected: list[tuple[float, str]]
) -> None:
    harness = run(options, *(reads(at, v) for at, v in readings), until=readings[-1][0] + 500)
    assert changes(harness) == expected
    assert harness.dead == []


LEVELS = [{"level": "warning", "when": "v > 60", "for": "30s"}, {"level": "critical", "when": "v > 80"}]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param([(0, 70)], [(30, "fired", "warning")], id="low"),
        pytest.param([(0, 90)], [(0, "fired", "critical")], id="high at once"),
        pytest.param([(0, 90), (40, 70)], [(0, "fired", "critical"), (40, "eased", "warning")], id="eases"),
        pytest.param([(0, 90), (10, 70)], [(0, "fired", "critical"), (10, "cleared", "critical"), (30, "fired", "warning")], id="low has not held for long enough"),
        pytest.param([(0, 70), (40, 90), (50, 10)], [(30, "fired", "warning"), (40, "escalated", "critical"), (50, "cleared", "critical")], id="escalates"),
    ],
)  # fmt: skip
def test_levels(readings: list[tuple[float, Any]], expected: list[tuple[float, str, str]]) -> None:
    harness = run({"levels": LEVELS}, *(reads(at, v) for at, v in readings))
    severities = [event.data["severity"] for event in harness.out["out"]]
    assert [(*change, severity) for change, severity in zip(changes(harness), severities, strict=True)] == expected


def test_what_is_told() -> None:
    options = {
        "when": "v > 5",
        "for": "30s",
        "message": '"value " + text(v)',
        "fields": ["v", "unit"],
        "severity": "major",
    }
    harness = run(options, sent(0, k="a", v=6, unit="mm", other=1), sent(10, k="a", v=7, unit="mm"), until=40)
    (event,) = harness.out["out"]
    told = msgspec.json.decode(msgspec.json.encode(event.data))
    assert told.pop("alert").endswith("-a")
    at = ["2023-11-14T22:13:20Z", "2023-11-14T22:13:50Z"]
    assert told == {
        "name": "made", "key": "a", "change": "fired", "state": "firing", "severity": "major", "since": at[0],
        "fired_at": at[1], "at": at[1], "cleared_at": None, "acknowledged_at": None, "acknowledged_by": None,
        "muted_until": None, "episode": 1, "number": 1, "count": 2, "reading": {"v": 7, "unit": "mm"},
        "message": "value 7",
    }  # fmt: skip
    assert (event.time, event.key) == (START + 30 * SECOND, "a")


def test_the_events_of_one_alert_have_its_id_and_the_next_alert_has_another() -> None:
    harness = run({"when": "v > 5"}, reads(0, 6), reads(1, 1), reads(2, 6), reads(3, 1), reads(3, 6, "b"))
    ids = [event.data["alert"] for event in harness.out["out"]]
    assert ids[0] == ids[1] != ids[2] == ids[3] != ids[4]
    assert len({event.id for event in harness.out["out"]}) == 5
    assert [event.data["episode"] for event in harness.out["out"]] == [1, 1, 2, 2, 1]


def test_an_alert_that_fires_and_clears_and_fires_in_one_instant_is_two() -> None:
    harness = Harness(flow_of("alert", {"when": "v > 5"}))
    harness.send([reads(0, 6), reads(0, 1), reads(0, 6)])
    assert len({event.data["alert"] for event in harness.out["out"]}) == 2
    assert len({event.id for event in harness.out["out"]}) == 3


@pytest.mark.parametrize("key", ["7", "", "line/1", "유아", "a b", "~x", "x" * 200])
def test_an_alert_is_acknowledged_by_its_id_whatever_the_key(key: str) -> None:
    harness = run({"when": "v > 5", "repeat": "10s"}, reads(0, 6, key), until=1)
    alert = harness.out["out"][0].data["alert"]
    assert alert_key(alert) == key
    harness.send([acts(5, "acknowledge", key, alert=alert)])
    harness.tick(START + LATER)
    assert changes(harness) == [(0, "fired"), (5, "acknowledged")]
    data = harness.out["out"][-1].data
    assert (data["state"], data["acknowledged_by"]) == ("acknowledged", "mia")


ONE = {"when": "v > 5", "repeat": "10s"}


@pytest.mark.parametrize(
    ("options", "messages", "expected", "muted"),
    [
        pytest.param(ONE, [reads(0, 6), acts(5, "acknowledge"), acts(6, "acknowledge"), reads(40, 1)], [(0, "fired"), (5, "acknowledged"), (40, "cleared")], [], id="acknowledged once, no reminder"),
        pytest.param(ONE, [acts(0, "acknowledge"), reads(1, 1)], [], [], id="nothing to acknowledge"),
        pytest.param(ONE, [reads(0, 6), acts(5, "acknowledge", name="other"), acts(6, "acknowledge", alert="0123456789abcdef-a"), reads(9, 1)], [(0, "fired"), (9, "cleared")], [], id="another alert is meant"),
        pytest.param({"levels": LEVELS, "repeat": "10s"}, [reads(0, 70), acts(31, "acknowledge"), reads(50, 90), reads(65, 1)], [(30, "fired"), (31, "acknowledged"), (50, "escalated"), (60, "repeated"), (65, "cleared")], [], id="what gets worse is new"),
        pytest.param({"when": "v > 5"}, [reads(0, 6), acts(5, "clear"), reads(6, 6), reads(7, 1), reads(8, 6)], [(0, "fired"), (5, "cleared"), (8, "fired")], [], id="cleared by hand until the condition has ended"),
        pytest.param({"absent": "10s"}, [reads(0, 6), acts(15, "clear"), reads(900, 1)], [(10, "fired"), (15, "cleared"), (910, "fired")], [], id="a silent one cleared by hand until it is heard"),
        pytest.param(ONE, [reads(0, 6), acts(5, "mute", **{"for": "1m"}), reads(30, 1)], [(0, "fired"), (5, "muted")], [(30, "cleared")], id="muted"),
        pytest.param(ONE, [acts(0, "mute", **{"for": "1m"}), reads(5, 6), reads(75, 1)], [(60, "unmuted"), (70, "repeated"), (75, "cleared")], [(5, "fired")], id="it fires while muted and goes on"),
        pytest.param(ONE, [reads(0, 6), acts(5, "mute", **{"for": "1h"}), acts(20, "mute", **{"for": "0s"}), reads(21, 1)], [(0, "fired"), (5, "muted"), (20, "unmuted"), (21, "cleared")], [], id="unmuted by hand"),
    ],
)  # fmt: skip
def test_what_people_do(
    options: dict[str, Any], messages: list[Sent], expected: list[tuple[float, str]], muted: list[tuple[float, str]]
) -> None:
    harness = run(options, *messages, until=messages[-1].at / SECOND - START / SECOND + 15)
    assert changes(harness) == expected
    assert changes(harness, "muted") == muted
    assert harness.dead == []


def test_every_key_is_muted_and_those_that_come_later_too() -> None:
    """What is meant for all is put in once for each shard."""
    harness = Harness(flow_of("alert", {"when": "v > 5"}))
    keys = [f"k{number}" for number in range(40)]
    harness.send([reads(0, 6, key) for key in keys[:20]])
    harness.send([acts(1, "mute", key, **{"for": "1m"}) for key in EVERY_KEY])
    harness.restart()
    harness.send([reads(2, 6, key) for key in keys[20:]])
    harness.send([reads(3, 1, key) for key in keys[:10]])
    assert sorted(event.data["key"] for event in harness.out["muted"]) == sorted(keys[:10] + keys[20:])
    harness.tick(START + 61 * SECOND)
    counted = Counter(change for _, change in changes(harness))
    assert counted == {"fired": 20, "muted": 20, "unmuted": 30}
    harness.send([reads(70, 1, key) for key in keys])
    harness.tick(START + 30 * 86_400 * SECOND)
    assert sum(len(shard.states) for shard in harness.shards["made"].values()) == 0


def test_the_mute_of_another_node_is_none() -> None:
    harness = Harness(flow_of("alert", {"when": "v > 5"}))
    harness.send([acts(1, "mute", key, name="other", **{"for": "1m"}) for key in EVERY_KEY])
    harness.send([reads(2, 6)])
    assert changes(harness) == [(2, "fired")]


@pytest.mark.parametrize(("on_resume", "at"), [("rebase", 630), ("advance", 610)])
def test_a_hold_in_which_the_gateway_was_down(on_resume: str, at: float) -> None:
    """With `rebase` it goes on where it stood; with `advance` it is over when the gateway is back."""
    harness = Harness(flow_of("alert", HOLDS | {"on_resume": on_resume}))
    harness.send([reads(0, 6)])
    harness.restart()
    harness.down(START + 10 * SECOND, START + 610 * SECOND)
    harness.tick(START + LATER)
    (event,) = harness.out["out"]
    assert (event.arrival - START) / SECOND == (30 if on_resume == "advance" else at)
    assert event.data["since"].timestamp() * SECOND == START


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param([(612, 6)], [(612, "fired")], id="it still holds: that time counts"),
        pytest.param([(612, None)], [(630, "fired")], id="nothing is said of it"),
        pytest.param([(612, 1), (613, 6)], [(643, "fired")], id="it has ended"),
    ],
)
def test_a_hold_that_is_confirmed_after_the_gateway_was_down(
    after: list[tuple[float, Any]], expected: list[tuple[float, str]]
) -> None:
    harness = Harness(flow_of("alert", HOLDS))
    harness.send([reads(0, 6)])
    harness.down(START + 10 * SECOND, START + 610 * SECOND)
    for at, v in after:
        harness.send([reads(at, v)])
    harness.tick(START + LATER)
    assert changes(harness) == expected


def test_silence_in_which_the_gateway_was_down_is_none() -> None:
    harness = Harness(flow_of("alert", {"absent": "30s"}))
    harness.send([reads(0, 6)])
    harness.down(START + 10 * SECOND, START + 610 * SECOND)
    harness.tick(START + LATER)
    assert changes(harness) == [(630, "fired")]


@pytest.mark.parametrize(("after", "cleared"), [([(612, 1)], 612), ([], 630), ([(612, 6), (620, 1)], 650)])
def test_an_end_that_is_confirmed_after_the_gateway_was_down(after: list[tuple[float, Any]], cleared: float) -> None:
    harness = Harness(flow_of("alert", {"when": "v > 5", "clear_for": "30s"}))
    harness.send([reads(-1, 6)])
    harness.send([reads(0, 1)])
    harness.down(START + 10 * SECOND, START + 610 * SECOND)
    for at, v in after:
        harness.send([reads(at, v)])
    harness.tick(START + LATER)
    assert changes(harness) == [(-1, "fired"), (cleared, "cleared")]


def harness_open() -> dict[tuple[str, str], bytes]:
    """Return the snapshot of an alert of the level `warning` that is open."""
    harness = Harness(flow_of("alert", {"when": "v > 5"}))
    harness.send([reads(0, 6)])
    return harness.snapshot()


def test_a_redeploy_with_another_bound_keeps_what_is_open() -> None:
    harness = Harness(flow_of("alert", HOLDS))
    harness.send([reads(0, 6)])
    snapshot = harness.snapshot()
    later = Harness(flow_of("alert", {"when": "v > 9", "for": "10s", "severity": "warning"}))
    later.resume(snapshot)
    later.tick(START + LATER)
    assert changes(later) == [(10, "fired")]
    gone = Harness(flow_of("alert", {"when": "v > 5", "severity": "critical"}))
    gone.resume(harness_open())
    gone.send([reads(1, 6)])
    assert [event.data["change"] for event in gone.out["out"]] == ["escalated"]
    same = [fingerprints(flow_of("alert", options))["made"] for options in (HOLDS, {"when": "v > 9"}, {"absent": "3s"})]
    assert same[0] == same[1] == same[2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"when": "v + 1 > 0"}, "v + 1"),
        ({"when": "true", "message": "v + 1"}, "v + 1"),
        ({"when": "true", "for_seconds": "v - 5"}, "v - 5"),
        ({"levels": [{"level": "x", "when": "v + 1 > 0"}]}, "v + 1"),
    ],
)
def test_a_value_of_the_wrong_type_is_the_events_fault(options: dict[str, Any], reason: str) -> None:
    harness = run(options, reads(0, "text"), reads(1, 5))
    (letter,) = harness.dead
    assert reason in letter.reason
    assert letter.values == {"v": "text"}
    assert changes(harness) == [(1, "fired")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"for": "30s"}, "one of when, absent and levels; got none"),
        ({"when": "v > 5", "absent": "1m"}, "got when and absent"),
        ({"absent": "1m", "clear_when": "v > 5"}, "clear_when"),
        ({"levels": [{"level": "a", "when": "v > 5"}, {"level": "a", "when": "v > 6"}]}, "names of their own"),
        ({"levels": [{"level": "a"}]}, "either when or absent"),
        ({"when": "v > 5", "path": "alerts"}, "path"),
    ],
)
def test_options_that_contradict_each_other_are_found(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FlowInvalid, match=message):
        flow_of("alert", options)


def test_alerts_of_one_flow_share_their_desk() -> None:
    flow = load_text("""
flow: oven
sources: {t: {mqtt: {topics: [t]}}}
operators:
  hot: {from: t, key: oven, alert: {when: t > 80, for: 30s}}
  cold: {from: t, key: oven, alert: {when: t < 10}}
  silent: {from: t, key: oven, alert: {absent: 1m, table: none}}
sinks: {out: {from: [hot, cold, silent], log: x}}
""").raise_findings()
    assert [node.name for node in flow.section("sources")] == ["t", HANDS]
    assert {node.name for node in flow.section("sinks")} == {"out", "hot_alert", "cold_alert"}
    assert (list(flow.tables), list(flow.queries)) == (["alert"], ["alerts"])
    assert flow.queries["alerts"].path == "/flows/oven/alerts"
    assert {name: print_.key for name, print_ in fingerprints(flow).items()} == dict.fromkeys(
        ["hot", "cold", "silent"], "oven"
    )


def test_two_nodes_that_are_served_at_one_path_in_two_ways_are_found() -> None:
    flow = load_text("""
flow: oven
sources: {t: {mqtt: {topics: [t]}}}
operators:
  hot: {from: t, alert: t > 80}
  cold: {from: t, alert: {when: t < 10, handle: manager}}
sinks: {out: {from: [hot, cold], log: x}}
""")
    (finding, _) = flow.document.findings
    assert (finding.node, finding.option) == ("hot", "handle")
    assert finding.message == "as in 'cold', manager, or a path of its own; got employee"


messages = st.lists(
    st.tuples(
        st.sampled_from([0, 1, SECOND // 2, SECOND, 3 * SECOND, 20 * SECOND]),
        st.one_of(
            st.builds(
                lambda key, v: ("given", {"k": key, "v": v}), st.sampled_from("ab"), st.sampled_from([1, 6, 9, None])
            ),
            st.builds(
                lambda do, key: (HANDS, {"do": do, "key": key} | ({"for": "5s"} if do == "mute" else {})),
                st.sampled_from(["acknowledge", "clear", "mute"]),
                st.sampled_from(["a", "b", *EVERY_KEY]),
            ),
        ),
    ),
    min_size=1,
    max_size=25,
)
SHAPE = flow_of(
    "alert",
    {
        "levels": [
            {"level": "low", "when": "v > 5", "for": "2s"},
            {"level": "high", "when": "v > 8"},
            {"level": "gone", "absent": "30s"},
        ]
    }
    | {"clear_for": "1s", "again_after": "4s", "repeat": "3s", "forget": "1m"},
)


@settings(max_examples=60, deadline=None)
@given(drawn=messages, cuts=cuts)
def test_with_people_too_batches_marks_and_restarts_make_no_difference(drawn: list[Any], cuts: list[Cut]) -> None:
    found, at = [], START
    for gap, (source, data) in drawn:
        at += gap
        found.append(Sent(at, source, msgspec.json.encode(data), meta={"account": "mia"}))
    outcome = replayed(SHAPE, found, cuts)
    assert outcome == one_by_one(SHAPE, found)
    assert not [name for name in outcome if name.startswith("dead/")]
    told = [event for name, events in outcome.items() if name.startswith(("out/", "muted/")) for event in events]
    assert len({event[0] for event in told}) == len(told)
    for name in {event[4]["alert"] for event in told}:
        numbers = sorted(event[4]["number"] for event in told if event[4]["alert"] == name)
        assert numbers == list(range(1, len(numbers) + 1))


AFTER_A_WINDOW = load_text("""
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  sums: {from: given, key: k, window: {every: 5s, compute: {top: {max: v}}}}
  made: {from: sums, alert: {when: top > 5, for: 3s, repeat: 4s, again_after: 6s, forget: 1m}}
sinks: {out: {from: [made, made.muted], log: x}}
""").raise_findings()


@settings(max_examples=60, deadline=None)
@given(drawn=messages, cuts=cuts)
def test_behind_a_window_what_people_do_comes_when_it_is_its_time(drawn: list[Any], cuts: list[Cut]) -> None:
    """However late the window's own events are sent on: no act overtakes what was before it."""
    found, at = [], START
    for gap, (source, data) in drawn:
        at += gap
        found.append(Sent(at, source, msgspec.json.encode(data), meta={"account": "mia"}))
    assert replayed(AFTER_A_WINDOW, found, cuts) == one_by_one(AFTER_A_WINDOW, found)


def test_what_people_do_does_not_move_the_clock_of_an_alert_behind_a_window() -> None:
    """A timer between two events that come from the window fires between them, although an act came before both."""
    found = [reads(0, 6), reads(6, 1), reads(11, 1), acts(30, "acknowledge"), reads(31, 1)]
    expected = one_by_one(AFTER_A_WINDOW, found)
    assert [event[4]["change"] for event in expected["out/a"]] == ["fired", "cleared"]
    assert replayed(AFTER_A_WINDOW, found, [Cut(5, True, False)]) == expected


def test_a_bound_in_a_live_table_is_that_of_the_moment() -> None:
    flow = load_text("""
flow: cold
tables: {room: {name: text(20), most: number, hold: number, unique: [[name]], live: true}}
sources: {reading: {mqtt: {topics: [room/+/temperature]}}}
operators:
  hot:
    from: reading
    key: meta.levels[1]
    alert: {when: "celsius > table.room[meta.key].most", for: 30s, for_seconds: "table.room[meta.key].hold"}
tests:
  - name: a limit that is changed holds from the next reading on
    tables: {room: [{name: a, most: 5}]}
    send:
      - {at: 0s, to: reading, topic: room/a/temperature, data: {celsius: 7}}
      - {at: 40s, table: room, put: {name: a, most: 9}}
      - {at: 41s, to: reading, topic: room/a/temperature, data: {celsius: 7}}
    expect: {hot: [{change: fired, fired_at: "2023-11-14T22:13:50Z"}, {change: cleared}]}
  - name: how long it must hold is each key's own, and that of the latest reading
    tables: {room: [{name: a, most: 5, hold: 100}, {name: b, most: 5, hold: 2}]}
    send:
      - {at: 0s, to: reading, topic: room/a/temperature, data: {celsius: 7}}
      - {at: 0s, to: reading, topic: room/b/temperature, data: {celsius: 7}}
      - {at: 5s, table: room, put: {name: a, most: 5, hold: 8}}
      - {at: 6s, to: reading, topic: room/a/temperature, data: {celsius: 7}}
    advance: 1m
    expect: {hot: [{key: b, fired_at: "2023-11-14T22:13:22Z"}, {key: a, fired_at: "2023-11-14T22:13:28Z"}]}
""").raise_findings()
    assert [outcome.differences for outcome in run_tests(flow)] == [[], []]


def test_the_ledger_balances_with_all_that_alerts_make() -> None:
    harness = Harness(flow_of("alert", {"when": "v > 5", "for": "2s", "repeat": "5s", "again_after": "10s"}))
    harness.send([reads(0, 6), reads(0, 6, "b"), reads(0, "text", "c"), reads(0, None, "d")])
    harness.send([acts(6, "mute", key, **{"for": "20s"}) for key in EVERY_KEY])
    harness.send([acts(7, "acknowledge", "b"), acts(7, "dance", "b"), acts(7, "mute", "b", **{"for": "soon"})])
    harness.restart()
    harness.send([reads(40, 1), reads(41, 1, "b")])
    harness.tick(START + LATER)
    ledger = harness.ledger()
    assert (ledger.remainder, ledger.where) == (0, {})
    assert [letter.reason for letter in harness.dead] == [
        'v > 5: cannot compare text with number; v = "text"',
        "do: one of acknowledge, clear, mute; got 'dance'",
        "for: a duration like 1h; got 'soon'",
    ]
