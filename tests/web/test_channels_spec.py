"""The `channels:` section: every problem at once, and what only the whole flow shows."""

from typing import Any

import pytest

from engine.channels import ChannelSpec, event_name_fits
from engine.errors import SpecFault
from engine.load import load_text

ROLES = "anyone, viewer, employee, manager, admin"
PATHS = "a path like /ws/dashboard or /ws/chat/{room}"


def problems(spec: Any, name: str = "dashboard") -> list[tuple[str, str, str]]:
    with pytest.raises(SpecFault) as caught:
        ChannelSpec.parse(name, spec)
    return [(".".join(map(str, p.where)), p.message, p.hint) for p in caught.value.problems]


def test_defaults() -> None:
    spec = ChannelSpec.parse("dashboard", {"path": "/ws/dashboard"})
    assert (spec.listens, spec.sender, spec.namespace, spec.parameter) == ("employee", "employee", "", "")
    assert (spec.history, spec.on_connect) == (1000, {})


def test_an_open_channel_is_open_to_listeners_only() -> None:
    spec = ChannelSpec.parse("chat", {"path": "/ws/chat/{room}", "open": True, "socketio": True})
    assert (spec.listens, spec.sender, spec.namespace, spec.parameter) == ("anyone", "employee", "/", "room")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, [("", "a mapping of options; got nothing", "")]),
        ("x", [("", "a mapping of options; got 'x'", "")]),
        ({}, [("path", "required, but missing", "")]),
        (
            {"path": "ws", "allw": "viewer", "history": -1, "open": "perhaps"},
            [
                ("path", f"{PATHS}; got 'ws'", ""),
                ("open", "true or false; got 'perhaps'", ""),
                ("history", "a whole number from 0 to 100000; got -1", ""),
                (
                    "allw",
                    "one of path, socketio, allow, open, on_connect, history, sends; got 'allw'",
                    "did you mean 'allow'?",
                ),
            ],
        ),
        (
            {"path": 3, "allow": "employe", "socketio": "line"},
            [
                ("path", f"{PATHS}; got 3", ""),
                ("socketio", "true, false or a namespace like /line; got 'line'", ""),
                ("allow", f"one of {ROLES}; got 'employe'", "did you mean 'employee'?"),
            ],
        ),
        ({"path": "/ws/{a}/{b}"}, [("path", "a path with at most one {parameter}; got '/ws/{a}/{b}'", "")]),
        (
            {"path": "/ws/x", "on_connect": {"a": 1, "b": {"qery": "x"}}},
            [
                (
                    "on_connect.a",
                    "a mapping of event names, each to the name of a kept event or {query: name}; got 1",
                    "",
                ),
                ("on_connect.b.query", "required, but missing", ""),
                ("on_connect.b.qery", "one of query; got 'qery'", "did you mean 'query'?"),
            ],
        ),
    ],
)
def test_every_problem_is_told(spec: Any, expected: list[tuple[str, str, str]]) -> None:
    assert problems(spec) == expected


@pytest.mark.parametrize(
    "path", ["", "/", "//", "/ws/", "/ws/a b", "/ws/x{r}", "/{r}", "/console/x", "/ws/%2e", "/a" * 150]
)
def test_paths_that_cannot_be(path: str) -> None:
    assert [where for where, _, _ in problems({"path": path})] == ["path"]


@pytest.mark.parametrize("event", ["", "x" * 65, "connect", "disconnect", "error", "a\nb"])
def test_event_names_that_cannot_be(event: str) -> None:
    assert not event_name_fits(event)
    assert [where for where, _, _ in problems({"path": "/ws/x", "on_connect": {event: "a"}})] == ["on_connect"]


def test_names_are_checked() -> None:
    assert problems({"path": "/ws/x"}, "Dash Board")[0][0] == ""


FLOW = """
flow: line
sources:
  gate: {mqtt: {topics: [sensor/ult01]}}
sinks:
  stats: {from: gate, channel: {name: dashboard, event: stats_update, keep: last}}
  noise: {from: gate, channel: {name: dashboard, event: noise}}
channels:
  dashboard: {path: /ws/dashboard, on_connect: {stats: stats_updates, noise: noise, rows: {query: row}}}
  other:     {path: "/ws/{room}", allow: manager, sends: viewer}
  third:     {path: "/ws/{line}"}
"""


def test_the_whole_flow_is_looked_at() -> None:
    found = [str(finding) for finding in load_text(FLOW).document.findings]
    kept = "an event that a channel sink keeps here (keep: last) (stats_update)"
    assert found == [
        f"flow.yaml:9:49: dashboard.on_connect.stats: {kept}; got 'stats_updates'"
        " (did you mean 'stats_update'?) [channel]",
        f"flow.yaml:9:71: dashboard.on_connect.noise: {kept}; got 'noise' [channel]",
        "flow.yaml:9:92: dashboard.on_connect.rows.query: a query of this flow (there is none); got 'row' [channel]",
        "flow.yaml:10:51: other.sends: the role that may listen (manager) or a higher one; got 'viewer' [channel]",
        "flow.yaml:11:15: third.path: a path of its own; channel 'other' has /ws/{room} [channel]",
    ]
