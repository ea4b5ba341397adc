"""The metrics of flows: names and labels as Prometheus has them, with the numbers of the flows' states."""

import re

from prometheus_client import CollectorRegistry, generate_latest

from tests.process import ROOT
from web.flow_metrics import FlowCollector
from web.services import FlowState, Queue, StepLine

STATE = FlowState(
    state="running", lag=1.5, backlog=7, rss=84_000_000, cpu_seconds=12.5,
    steps=[
        StepLine("read", "inbox", ("gate",), seconds=1.0),
        StepLine("keyed", "on_line", ("on_line",), seconds=2.5, keys=40, state=900),
        StepLine("sink", "results", ("results",), seconds=0.5, busy_seconds=8.0),
        StepLine("rest", "engine", (), seconds=3.0),
    ],
    queues=[Queue("inbox", "inbox", 7, 0.01), Queue("lane", "results", 500, 0.25)],
)  # fmt: skip
SAMPLES = """
millstream_flow_up{flow="line"} 1.0
millstream_flow_lag_seconds{flow="line"} 1.5
millstream_flow_backlog_events{flow="line"} 7.0
millstream_flow_memory_bytes{flow="line"} 8.4e+07
millstream_flow_cpu_seconds_total{flow="line"} 12.5
millstream_node_cpu_seconds_total{flow="line",kind="keyed",node="on_line"} 2.5
millstream_node_cpu_seconds_total{flow="line",kind="rest",node="engine"} 3.0
millstream_sink_busy_seconds_total{flow="line",node="results"} 8.0
millstream_state_keys{flow="line",node="on_line"} 40.0
millstream_state_bytes{flow="line",node="on_line"} 900.0
millstream_queue_fill_ratio{flow="line",name="results",queue="lane"} 0.25
millstream_queue_waiting{flow="line",name="inbox",queue="inbox"} 7.0
"""


DOCS = ROOT / "docs/concepts/cost.md"


class Flows:
    """The part of the services that metrics read."""

    def flows(self) -> dict[str, FlowState]:
        return {"line": STATE}


def test_every_metric_is_told_of() -> None:
    registry = CollectorRegistry()
    registry.register(FlowCollector(Flows()))  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    lines = set(text.splitlines())
    assert [line for line in SAMPLES.split("\n") if line and line not in lines] == []
    told = {line.split()[2] for line in lines if line.startswith("# HELP")}
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert told == typed
    assert {line.partition("{")[0] for line in lines if "{" in line} <= told
    assert 'state_keys{flow="line",node="results"}' not in text


def test_every_metric_is_documented_and_none_that_is_not_there() -> None:
    collected = {metric.name + "_total" * (metric.type == "counter") for metric in FlowCollector(Flows()).collect()}  # type: ignore[arg-type]
    documented = set(re.findall(r"^\| `(millstream_\w+)`", DOCS.read_text(), re.M))
    http = {"millstream_http_requests_total", "millstream_http_request_seconds"}
    assert documented == collected | http
