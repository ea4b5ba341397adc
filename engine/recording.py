"""Real traffic as a flow test: what arrived, and what the flow makes of it from an empty state."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import yaml

from engine.block import Block
from engine.document import Document
from engine.errors import UsageFault
from engine.event import moment
from engine.flow import Flow
from engine.flow_tests import FlowTest
from engine.harness import Sent
from engine.live_table import TABLES
from engine.quantities import duration_text
from engine.retry import RETRY
from engine.testing import actual, played, run_test
from engine.yaml_reader import LARGEST, parse

MOST = 5_000
DEEPEST = 20


class Recorded(msgspec.Struct):
    """A test as YAML, how many events it sends, and what is to be said of what it leaves out."""

    text: str
    sent: int
    notes: list[str]


class _Dumper(yaml.SafeDumper):
    """Writes texts with line ends or control characters in double quotes, never over several lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def recorded(flow: Flow, blocks: Iterable[Block]) -> Recorded:
    """Return a test that `millstream test` passes; raises UsageFault when nothing can be recorded, or too much."""
    notes: list[str] = []
    messages = _texts([message for block in blocks for message in _messages(block)], notes)
    if not messages:
        raise UsageFault("--record: events in the inbox to record; got none")
    if len(messages) > MOST:
        raise UsageFault(f"--record: at most {MOST} events; got {len(messages)}: take a shorter --since or a --count")
    first = messages[0].at
    sends = [f"      - {dumped(_send(message, first))}" for message in messages]
    start = moment(first).isoformat().replace("+00:00", "Z")
    name = f"recorded {start[:19]}Z, {len(messages)} events"
    head = ["tests:", f"  - name: {dumped(name)}", f"    start: {dumped(start)}", "    send:", *sends]
    harness = played(flow, _read("\n".join(head)))
    if missed := harness.unanswered():
        return Recorded("\n".join(head) + "\n", len(messages), [*notes, _unanswered(missed)])
    names = [*(node.name for node in flow.section("sinks")), "deadletters"]
    lines = expected_lines({name: actual(harness, name) for name in names}, "      ")
    text = "\n".join([*head, "    expect:", *lines]) + "\n"
    differences = list(run_test(flow, _read(text)))
    if differences:
        raise UsageFault(f"--record: a flow that gives the same each time; it differs: {'; '.join(differences[:3])}")
    return Recorded(text, len(messages), notes)


def _unanswered(missed: dict[str, int]) -> str:
    asked = ", ".join(f"'{node}' ({count})" for node, count in missed.items())
    return f"answers from outside are not recorded: write `answers:` for {asked}, then `millstream test --record` does"


def _messages(block: Block) -> Iterator[Sent]:
    for at, payload in enumerate(block.payloads):
        source, topic = block.sources[block.source_index[at]], block.topics[block.topic_index[at]]
        yield Sent(block.time, source, payload, topic, block.metas.get(at))


def _texts(messages: list[Sent], notes: list[str]) -> list[Sent]:
    """Return the messages that can be written down, and note how many cannot."""
    messages, changes = [m for m in messages if m.source != TABLES], [m for m in messages if m.source == TABLES]
    if changes:
        notes.append(f"{len(changes)} changes of live tables left out: give their rows as `tables:` of the test")
    arrived = [message for message in messages if message.source != RETRY]
    if len(arrived) < len(messages):
        notes.append(f"{len(messages) - len(arrived)} retried dead letters left out: a test sends to sources only")
    found = [message for message in arrived if _is_text(message.payload)]
    if len(found) < len(arrived):
        notes.append(f"{len(arrived) - len(found)} events left out: their payload is not UTF-8 text")
    return found


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _send(message: Sent, first: int) -> dict[str, Any]:
    at = message.at - first
    found: dict[str, Any] = {"at": duration_text(at) if at else "0s", "to": message.source}
    if message.topic:
        found["topic"] = message.topic
    value = _value(message.payload)
    if value is not None:
        found["data"] = value
    elif message.payload:
        found["raw"] = message.payload.decode()
    if message.meta:
        found["meta"] = said(msgspec.json.decode(msgspec.json.encode(message.meta, enc_hook=str)))
    return found


def _value(payload: bytes) -> Any:
    """Return what a JSON payload stands for; None where YAML cannot say the same."""
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if _sayable(value, 0) else None


def _sayable(value: Any, depth: int) -> bool:
    if depth > DEEPEST:
        return False
    if isinstance(value, dict):
        return all(key.isprintable() and key and _sayable(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list):
        return all(_sayable(inner, depth + 1) for inner in value)
    return not isinstance(value, int) or -LARGEST <= value < LARGEST


def said(value: Any) -> Any:
    """Return a mapping without the fields that YAML cannot say: what is expected are the fields that are named."""
    if not isinstance(value, dict):
        return [said(one) for one in value] if isinstance(value, list) else value
    return {k: said(v) for k, v in value.items() if _sayable({k: 0}, 0) and (isinstance(v, dict) or _sayable(v, 0))}


def expected_lines(outputs: dict[str, list[Any]], indent: str) -> Iterator[str]:
    """Yield the lines of `expect:` as a block."""
    for name, events in outputs.items():
        yield f"{indent}{name}:" + ("" if events else " []")
        yield from (f"{indent}  - {dumped(said(event))}" for event in events)


def dumped(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _read(text: str) -> FlowTest:
    """Return the test as the reader of flows sees it; raises UsageFault when it cannot be written as YAML."""
    document = parse(text.encode(), Document("--record"))
    if document.findings:
        raise UsageFault(f"--record: events that YAML can say; {document.findings[0]}")
    return FlowTest.model_validate(document.value["tests"][0])
