"""What every component keeps: one function through which each component's test runs.

`comply(cls)` is all that a component's own test file needs to call; tests/test_components.py calls it for every
component that the registry finds, so a new file is covered without an edit. An example may name the tables and channels
of SURROUNDINGS; an event that it gives may carry `at: 4s`, when it arrives.
"""

import inspect
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from pydantic import ValidationError

from engine.component import Component, Example, Operator, Sink, Source
from engine.event import MICROSECONDS, Event
from engine.flow import Flow
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.quantities import parse_duration
from engine.reference import markdown, summary
from engine.schema import language_schema
from engine.testing import START, compare, plain
from tests.engine.bytewax_case import Batch, run_bytewax

SURROUNDINGS = """
flow: example
tables:
  car:           {id: serial, created_at: time}
  sensor_result: {id: serial, car_id: int, device: text(50), result: text(10), created_at: time}
  device_state:  {device: text(50), state: text(10), unique: [[device]]}
channels:
  dashboard: {path: /ws/dashboard}
  chat:      {path: "/ws/chat/{room}"}
"""
TAPPED = {"http": {"post": "/given", "reply": "flow"}}
LATER = 3600 * MICROSECONDS
_connections: list[str] | None = None


def comply(cls: type[Component]) -> None:
    """Check all that a component promises by being one; fails with what is missing."""
    check_place(cls)
    check_words(cls)
    check_options(cls)
    for example in cls.examples:
        check_example(cls, example)


def check_place(cls: type[Component]) -> None:
    """The file's name is the kind's, its folder is the section's, and it is of the section's class."""
    file = Path(inspect.getfile(cls))
    assert (file.parent.name, file.stem) == (cls.section, cls.kind)
    assert issubclass(cls, {"sources": Source, "operators": Operator, "sinks": Sink}[cls.section])


def check_words(cls: type[Component]) -> None:
    """The class, every option and every side output is documented; sources and sinks say what they guarantee."""
    assert summary(cls), f"{cls.kind}: a docstring"
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.kind}.{name}: a docstring"
    assert all(cls.outputs.values()), f"{cls.kind}: what comes out of its side outputs"
    assert cls.fault_output in (*cls.outputs, "errors")
    assert cls.section == "operators" or cls.guarantee, f"{cls.kind}: a delivery guarantee"
    assert cls.examples, f"{cls.kind}: an example"
    page = markdown(cls)
    assert all(f"`{field.alias or name}`" in page for name, field in cls.model_fields.items())
    assert not cls.shorthand or cls.shorthand in cls.model_fields


def check_options(cls: type[Component]) -> None:
    """Options are frozen, an unknown one is refused, the schema builds, and nothing connects."""
    assert cls.model_config.get("frozen")
    assert cls.model_config.get("extra") == "forbid"
    with pytest.raises(ValidationError, match="Extra inputs"):
        cls.model_validate({"no_such_option": 1})
    assert isinstance(cls.model_json_schema(), dict)
    for example in cls.examples:
        with watched() as connections:
            built = cls.model_validate(cls.options(options_of(cls, example)))
        assert connections == []
        for name in cls.model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(built, name, None)


def check_example(cls: type[Component], example: Example) -> None:
    """An example lints clean, fits the schema, does what it says, and does the same on Bytewax."""
    assert example.about.endswith(".")
    assert example.expect, f"{cls.kind}: what comes out of its example"
    with watched() as connections:
        spec, flow = flow_of(cls, example)
    assert connections == []
    assert [str(finding) for finding in flow.document.findings] == []
    jsonschema.Draft202012Validator(language_schema()).validate(spec)
    messages = list(messages_of(cls, example))
    harness = Harness(flow)
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    wanted = example.expect if cls.section != "sinks" else [data_of(item) for item in example.given]
    assert list(compare("out", list(wanted), plain_of(harness.out["out"]))) == []
    for output, events in example.side.items():
        assert list(compare(output, list(events), plain_of(harness.out[f"out_{output}"]))) == []
    same_on_bytewax(flow, messages, harness)


def same_on_bytewax(flow: Flow, messages: list[Sent], harness: Harness) -> None:
    """Run the same messages on Bytewax; what came out of the harness must come out, and nothing else."""
    blocks = [block_of([message], number, message.at) for number, message in enumerate(messages, 1)]
    last = messages[-1].at + LATER
    with tempfile.TemporaryDirectory() as folder:
        batches: list[Batch] = [[block, block.time] for block in blocks]
        outcome = run_bytewax(flow, [*batches, [last]], Path(folder))
    assert {name: events for name, events in outcome.out.items() if events} == {
        name: events for name, events in harness.out.items() if events
    }
    assert [(letter.node, letter.reason) for letter in outcome.dead] == [(d.node, d.reason) for d in harness.dead]


def options_of(cls: type[Component], example: Example) -> Any:
    """Return the options of an example: its YAML has the kind as the only key."""
    spec = yaml.safe_load(example.config)
    assert list(spec) == [cls.kind]
    return spec[cls.kind]


def flow_of(cls: type[Component], example: Example) -> tuple[dict[str, Any], Flow]:
    """Return a flow around an example: a source, the component, and a sink at each of its outputs."""
    spec = yaml.safe_load(SURROUNDINGS)
    kind = {cls.kind: options_of(cls, example)}
    spec["sources"] = {"given": kind if cls.section == "sources" else TAPPED}
    if cls.section == "operators":
        spec["operators"] = {"made": {"from": "given", **kind}}
        outputs = [*cls.outputs, "errors"]
        spec["sinks"] = {f"out_{name}": {"from": f"made.{name}", "log": name} for name in outputs}
        spec["sinks"]["out"] = {"from": "made", "log": "out"}
    else:
        spec["sinks"] = {"out": {"from": "given", **(kind if cls.section == "sinks" else {"log": "out"})}}
    return spec, load_text(yaml.safe_dump(spec, sort_keys=False))


def messages_of(cls: type[Component], example: Example) -> Iterator[Sent]:
    """Yield what an example gives, each a microsecond after the one before where it does not say when."""
    at = START
    for item in example.given:
        at = START + parse_duration(item["at"]) if "at" in item else at + 1
        yield Sent(at, "given", msgspec.json.encode(data_of(item)))


def data_of(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "at"}


def plain_of(events: list[Event]) -> list[dict[str, Any]]:
    return [plain(event.data) for event in events]


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect the sockets that are opened meanwhile: an audit hook sees them all, whoever opens them."""
    global _connections
    found: list[str] = []
    _connections = []
    try:
        yield found
    finally:
        found += _connections
        _connections = None


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if _connections is not None and event.startswith("socket."):
        _connections.append(event)


sys.addaudithook(_audit)
