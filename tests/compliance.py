"""What every component keeps: one function through which each component's test runs.

`comply(cls)` is all that a component's own test file needs to call; tests/test_components.py calls it for every
component that the registry finds, so a new file is covered without an edit. What surrounds an example stands in
engine/examples.py.
"""

import inspect
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from engine.component import Component, Example, Operator, Sink, Source
from engine.event import Event
from engine.examples import LATER, answers_of, data_of, flow_of, messages_of, options_of, run_example
from engine.flow import Flow
from engine.given import GivenAnswer
from engine.harness import Harness, Sent, block_of
from engine.reference import markdown, summary
from engine.schema import language_schema
from engine.testing import compare, plain
from tests.engine.bytewax_case import Batch, run_bytewax

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
    messages, answers = list(messages_of(example)), answers_of(example)
    harness = run_example(flow, example)
    wanted = example.expect if cls.section != "sinks" else [data_of(item) for item in example.given]
    assert list(compare("out", list(wanted), plain_of(harness.out["out"]))) == []
    for output, events in example.side.items():
        assert list(compare(output, list(events), plain_of(harness.out[f"out_{output}"]))) == []
    same_on_bytewax(flow, messages, harness, answers)


def same_on_bytewax(
    flow: Flow, messages: list[Sent], harness: Harness, answers: Mapping[str, Sequence[GivenAnswer]]
) -> None:
    """Run the same messages on Bytewax; what came out of the harness must come out, and nothing else."""
    blocks = [block_of([message], number, message.at) for number, message in enumerate(messages, 1)]
    last = messages[-1].at + LATER
    with tempfile.TemporaryDirectory() as folder:
        batches: list[Batch] = [[block, block.time] for block in blocks]
        outcome = run_bytewax(flow, [*batches, [last]], Path(folder), answers=answers)
    assert {name: events for name, events in outcome.out.items() if events} == {
        name: events for name, events in harness.out.items() if events
    }
    assert [(letter.node, letter.reason) for letter in outcome.dead] == [(d.node, d.reason) for d in harness.dead]


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
