"""What a plan says of a change, node by node."""

import pytest

from engine.deploy_plan import DeployPlan, Stored, plan_deploy
from engine.fingerprints import fingerprints
from engine.flow import Flow
from engine.load import load_text

FLOW = """\
flow: line
settings: {limit: {default: 3}}
tables: {reading: {id: serial, n: int}}
sources:
  in: {http: {post: /in, allow: anyone}}
  days: {file: {path: days.jsonl}}
operators:
  some: {from: [in, days], where: n < settings.limit, key: device}
  minutes: {from: some, window: {every: 1m, compute: {n: count}}}
  sums: {from: some, tally: {of: result}}
sinks:
  out: {from: minutes, log: {message: it came}}
  rows: {from: sums, sql: {table: reading}}
"""
KEYS = {"minutes": 7, "sums": 1}


def flow(*pairs: tuple[str, str]) -> Flow:
    text = FLOW
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return load_text(text).raise_findings()


def planned(*pairs: tuple[str, str], **left: object) -> DeployPlan:
    old = flow()
    kept = Stored(**{"states": fingerprints(old), "keys": KEYS, "pulled": frozenset({"days"})} | left)  # type: ignore[arg-type]
    return plan_deploy(old, flow(*pairs), kept)


def effects(plan: DeployPlan) -> dict[str, str]:
    return {change.node: change.effect for change in plan.nodes if change.effect != "unchanged"}


KEPT = {"minutes": "state kept", "sums": "state kept"}


def test_the_first_version_is_new_all_over() -> None:
    plan = plan_deploy(None, flow(), Stored())
    assert (plan.first, plan.unchanged, plan.resets) == (True, False, [])
    assert {change.effect for change in plan.nodes} == {"new"}


def test_nothing_has_changed_when_only_comments_and_abouts_have() -> None:
    plan = planned(("flow: line", "# a comment\nflow: line"))
    assert (plan.unchanged, effects(plan)) == (True, KEPT)


CASES = [
    ("a filter", [("n < settings.limit", "n <= settings.limit")], {"some": "restarts"} | KEPT),
    ("a setting that expressions use", [("default: 3", "default: 4")], KEPT | {"some": "restarts"}),
    ("an option that leaves the state alone", [("every: 1m,", "every: 1m, idle: 5m,")], KEPT),
    ("a window's length", [("every: 1m", "every: 2m")], KEPT | {"minutes": "reset"}),
    ("a key", [("key: device", "key: place")], {"some": "restarts", "minutes": "reset", "sums": "reset"}),
    ("a kind", [("window: {every: 1m, compute: {n: count}}", "dedupe: {by: n}")], KEPT | {"minutes": "reset"}),
    (
        "a name with was", [("  minutes: {from: some,", "  m: {from: some, was: minutes,"), ("from: minutes", "from: m")],
        {"m": "state migrated", "sums": "state kept", "out": "restarts"},
    ),
    (
        "a name without was", [("  minutes:", "  m:"), ("from: minutes", "from: m")],
        {"m": "new", "minutes": "reset", "sums": "state kept", "out": "restarts"},
    ),
    ("a source that is read by position", [("  days:", "  d:"), ("days]", "d]")],
     {"some": "restarts", "d": "new", "days": "reset"} | KEPT),
    ("a sink", [("it came", "it is there")], KEPT | {"out": "restarts"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "pairs", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_change_is_named(what: str, pairs: list[tuple[str, str]], expected: dict[str, str]) -> None:
    plan = planned(*pairs)
    assert effects(plan) == expected
    assert not plan.unchanged


def test_a_node_that_has_no_keys_yet_needs_no_consent() -> None:
    plan = planned(("every: 1m", "every: 2m"), keys={"sums": 1})
    assert plan.refusals(frozenset(), destructive=False) == []


def test_a_reset_needs_consent_by_name() -> None:
    plan = planned(("every: 1m", "every: 2m"))
    (reason,) = plan.refusals(frozenset(), destructive=False)
    assert reason.startswith(
        "node 'minutes': the state of 7 keys is given up (every: 60000000 → 120000000): give the node"
    )
    assert "--reset-state minutes" in reason
    assert plan.refusals(frozenset({"minutes"}), destructive=False) == []
    assert plan.refusals(frozenset({"minutes", "sum"}), destructive=False) == [
        "--reset-state sum: the plan resets no node of this name"
    ]
    assert plan.edit().reset == {"minutes"}


def test_a_name_that_is_taken_again_keeps_its_own_state() -> None:
    """`was` stays in the file after the deploy that renamed: it means nothing any more then."""
    pairs = [("  minutes: {from: some,", "  m: {from: some, was: minutes,"), ("from: minutes", "from: m")]
    old = flow(*pairs)
    plan = plan_deploy(old, flow(*pairs), Stored(states=fingerprints(old), keys={"m": 7, "sums": 1}))
    assert plan.unchanged
    assert effects(plan) == {"m": "state kept", "sums": "state kept"}


def test_a_sink_with_events_on_disk_is_not_dropped_silently() -> None:
    plan = planned(("  rows: {from: sums, sql", "  r: {from: sums, sql"), spilled={"rows": 12})
    assert effects(plan)["rows"] == "reset"
    assert "12 events that wait for its target" in plan.refusals(frozenset(), destructive=False)[0]


def test_other_sections_are_listed() -> None:
    plan = planned(
        ("reading: {id: serial, n: int}", "reading: {id: serial, n: int, at: time}"), ("default: 3", "default: 4")
    )
    assert plan.sections == ["settings: ~ limit", "tables: ~ reading"]
