"""The examples of components as flows: what surrounds them, and what comes out when they run on a virtual clock.

An example may name the tables and channels of SURROUNDINGS; an event that it gives may carry `at: 4s`, when it arrives.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from engine.component import Component, Example
from engine.event import MICROSECONDS
from engine.flow import Flow
from engine.given import GivenAnswer
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.quantities import is_duration, parse_duration
from engine.testing import START

SURROUNDINGS = """
flow: example
tables:
  car:           {id: serial, created_at: time}
  sensor_result: {id: serial, car_id: int, device: text(50), result: text(10), created_at: time}
  device_state:  {device: text(50), state: text(10), seen: int, unique: [[device]]}
  device:        {device: text(50), model: text(50), high: number, unique: [[device]], live: true}
channels:
  dashboard: {path: /ws/dashboard}
  chat:      {path: "/ws/chat/{room}"}
"""
TAPPED = {"http": {"post": "/given", "reply": "flow"}}
LATER = 3600 * MICROSECONDS


def options_of(cls: type[Component], example: Example) -> Any:
    """Return the options of an example: its YAML has the kind as the only key."""
    spec = yaml.safe_load(example.config)
    if list(spec) != [cls.kind]:
        raise ValueError(f"{cls.kind}: the kind as the only key; got {', '.join(spec)}")
    return spec[cls.kind]


def flow_of(cls: type[Component], example: Example) -> tuple[dict[str, Any], Flow]:
    """Return a flow around an example: a source, the component, and a sink at each of its outputs."""
    spec = yaml.safe_load(SURROUNDINGS)
    kind = {cls.kind: options_of(cls, example)}
    spec["sources"] = {"given": kind if cls.section == "sources" else TAPPED}
    if cls.section == "operators":
        spec["operators"] = {"made": {"from": "given", **kind}}
        built = cls.model_validate(cls.options(kind[cls.kind]))
        outputs = [*built.side_outputs(), "errors"]
        spec["sinks"] = {f"out_{name}": {"from": f"made.{name}", "log": name} for name in outputs}
        spec["sinks"]["out"] = {"from": "made", "log": "out"}
    else:
        spec["sinks"] = {"out": {"from": "given", **(kind if cls.section == "sinks" else {"log": "out"})}}
    return spec, load_text(yaml.safe_dump(spec, sort_keys=False))


def messages_of(example: Example) -> Iterator[Sent]:
    """Yield what an example gives, each a microsecond after the one before where it does not say when."""
    at = START
    for item in example.given:
        at = START + parse_duration(item["at"]) if is_duration(item.get("at")) else at + 1
        yield Sent(at, "given", msgspec.json.encode(data_of(item)))


def data_of(item: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of what is given."""
    return {name: value for name, value in item.items() if name != "at" or not is_duration(value)}


def answers_of(example: Example) -> dict[str, list[GivenAnswer]]:
    """Return what comes back from outside."""
    return {"made": [GivenAnswer.model_validate(answer) for answer in example.answers]}


def run_example(flow: Flow, example: Example) -> Harness:
    """Return the harness after all that an example gives, and an hour."""
    harness = Harness(flow, answers=answers_of(example))
    for table, rows in example.tables.items():
        harness.put(0, table, rows)
    last = START
    for message in messages_of(example):
        harness.send([message])
        last = message.at
    harness.tick(last + LATER)
    return harness
