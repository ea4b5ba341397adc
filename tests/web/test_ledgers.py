"""The gateway's side of the ledger: the latest of each flow, the alarm, metrics and health."""

import structlog.testing
from prometheus_client import CollectorRegistry, generate_latest

from engine.frames import Report
from engine.ledger import Ledger
from web.flow_metrics import FlowCollector
from web.health import health
from web.ledgers import PATIENCE, Ledgers
from web.services import FlowState
from web.status import alarm_text


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(head: int = 10, **unbalanced: int) -> Report:
    ledger = Ledger(received=head, stored=head, remainder=sum(map(abs, unbalanced.values())))
    return Report(head=head, ledger=ledger.terms(), unbalanced=unbalanced)


def test_what_the_worker_has_not_read_is_in_flight_also_while_it_is_away() -> None:
    ledgers = Ledgers()
    assert ledgers.terms("line", 10) == {}
    ledgers.take("line", told())
    ledgers.take("line", Report())  # of a worker that has just started
    assert ledgers.terms("line", 10) == told().ledger
    assert ledgers.terms("line", 15) == told().ledger | {"received": 15, "in_flight": 5}
    ledgers.forget("line")
    assert ledgers.terms("line", 15) == {}


def test_a_remainder_that_stays_is_one_error() -> None:
    clock = Clock()
    ledgers = Ledgers(clock)
    with structlog.testing.capture_logs() as logs:
        ledgers.take("line", told(stats=2))
        clock.now += PATIENCE - 1
        ledgers.take("line", told(20, stats=2))
        ledgers.watch()
        assert (ledgers.where("line"), logs) == ({}, [])
        clock.now += 1
        ledgers.watch()
        ledgers.take("line", told(30, stats=3))
        ledgers.watch()
    assert ledgers.where("line") == {"stats": 3}
    [entry] = logs
    assert (entry["log_level"], entry["flow"], entry["where"]) == ("error", "line", {"stats": 2})
    assert (entry["received"], entry["remainder"]) == (20, 2)


def test_a_remainder_that_goes_away_is_none() -> None:
    clock = Clock()
    ledgers = Ledgers(clock)
    for unbalanced in ({"a": 1}, {}, {"a": 1}):
        ledgers.take("line", told(**unbalanced))
        clock.now += PATIENCE - 1
        assert ledgers.where("line") == {}


def test_the_alarm_says_where_and_health_says_that() -> None:
    assert alarm_text({}) == ""
    assert alarm_text({"stats": 1200, "rows": -1}) == (
        "The ledger does not balance: 1,200 lost at 'stats', 1 doubled at 'rows'"
    )
    flows = {"a": FlowState(state="running", unbalanced={"rows": 1}), "b": FlowState(state="running")}
    assert health(flows) == (
        200,
        {
            "status": "ok",
            "flows": {
                "a": {"state": "running", "restarts": 0, "ledger": "unbalanced"},
                "b": {"state": "running", "restarts": 0},
            },
        },
    )


class Flows:
    """The part of the services that metrics read."""

    def flows(self) -> dict[str, FlowState]:
        return {"line": FlowState(state="running", lag=1.5, backlog=7, ledger=told(10, rows=3).ledger)}


def test_metrics_have_lag_backlog_and_ledger() -> None:
    registry = CollectorRegistry()
    registry.register(FlowCollector(Flows()))  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    for line in (
        'millstream_flow_lag_seconds{flow="line"} 1.5',
        'millstream_flow_backlog_events{flow="line"} 7.0',
        'millstream_ledger_events{flow="line",term="received"} 10.0',
        'millstream_ledger_events{flow="line",term="in_flight"} 0.0',
        'millstream_ledger_remainder{flow="line"} 3.0',
    ):
        assert line in text
    assert 'term="remainder"' not in text
