"""Flow files, mostly valid with hostile leaves: reading gives findings and never raises; what lints clean runs."""

import random
import time
from typing import Any

import msgspec
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import Finding
from engine.flow import Flow
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.slow_shapes import slow_shapes
from engine.substitution import Surroundings
from engine.testing import START, run_tests
from tests.fuzz.flow_parts import KINDS, LEAVES, NAMES, REST, SINKS, SOURCES

TYPES = ("unknown-field", "expression", "field-type", "column-type")


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid flow: nodes in a row and in branches, and all other sections."""
    spec: dict[str, Any] = {"flow": "f", **msgspec.msgpack.decode(msgspec.msgpack.encode(REST))}
    spec["sources"] = {
        f"s{i}": dict(kind) for i, kind in enumerate(draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3)))
    }
    names = list(spec["sources"])
    spec["operators"] = {}
    ordered = [name for name, source in spec["sources"].items() if "key" not in source]
    for i, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), max_size=6))):
        able = ordered if counts_rows(kind) else names
        if able:
            taken = draw(st.lists(st.sampled_from(able), min_size=1, max_size=2, unique=True))
            spec["operators"][f"o{i}"] = {"from": taken, **kind}
            names.append(f"o{i}")
    spec["sinks"] = {f"z{i}": {"from": name, **draw(st.sampled_from(SINKS))} for i, name in enumerate(names)}
    return msgspec.msgpack.decode(msgspec.msgpack.encode(spec))  # type: ignore[no-any-return]


def counts_rows(kind: dict[str, Any]) -> bool:
    """Tell whether a node counts the ids of a table: what comes to it must come in one order, without a key."""
    return any("table" in kind.get(name, {}) for name in ("number", "group"))


def parts(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [where] if where else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [part for key, one in inner for part in parts(one, (*where, key))]


def spoilt(spec: dict[str, Any], chance: random.Random, times: int) -> dict[str, Any]:
    """Put hostile leaves, names and gaps into a spec."""
    for _ in range(times):
        places = parts(spec)
        if not places:
            break
        where = chance.choice(places)
        holder: Any = spec
        for step in where[:-1]:
            holder = holder[step]
        what = chance.random()
        if what < 0.6:
            holder[where[-1]] = chance.choice(LEAVES)
        elif what < 0.8 and isinstance(holder, dict):
            holder[chance.choice(NAMES)] = holder.pop(where[-1])
        elif isinstance(holder, dict):
            del holder[where[-1]]
        else:
            holder.append(chance.choice(LEAVES))
    return spec


def text_of(spec: dict[str, Any]) -> str:
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)


def read(text: str) -> Flow:
    begin = time.monotonic()
    flow = load_text(text, around=Surroundings(environment={"KEY": "s"}))
    assert time.monotonic() - begin < 10
    told = [*flow.document.findings, *slow_shapes(flow)]
    assert all(type(f) is Finding and f.code and f.message and f.line > 0 and f.column > 0 for f in told)
    return flow


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.sampled_from(
        ["led", "OK", "DEFECT", 2**64, 2**90, -(2**80), [1, [2]], {"a": {}}, [], "2023-11-14T22:13:20Z", 1.7e9, 1e300]
    ),
)
events = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from(["n", "device", "result", "list", "at", "ünï"]), values, max_size=6).map(
            msgspec.json.encode
        ),
        st.sampled_from(
            [b"", b"{", b"[]", b"\xff", b"null", b'{"n":' + b"[" * 400 + b"]" * 400 + b"}", b'{"n": 1, "n": 2}']
        ),
    ),
    min_size=1,
    max_size=8,
)


def run(flow: Flow, payloads: list[bytes], chance: random.Random) -> None:
    """Send random events with restarts; nothing may raise, and a clean test of the flow's own may only differ."""
    harness = Harness(flow)
    sources = [node.name for node in flow.section("sources")]
    for number, payload in enumerate(payloads):
        meta = {"account": "kim", "room": "r"} if chance.random() < 0.3 else None
        harness.send([Sent(START + number * 700_000, chance.choice(sources), payload, "a/b", meta)])
        if chance.random() < 0.3:
            harness.restart()
    harness.tick(START + 86_400_000_000)
    harness.restart()
    for letter in harness.dead:
        assert letter.reason
    run_tests(flow)


@settings(max_examples=120)
@given(spec=specs(), payloads=events, seed=st.integers(0, 1 << 32))
def test_a_valid_flow_lints_clean_and_runs(spec: dict[str, Any], payloads: list[bytes], seed: int) -> None:
    """Kinds in any order may name fields that the one before does not give, or make them of another type."""
    flow = read(text_of(spec))
    drawn = ("no key, so that each row has a number of its own", "a path of its own")
    found = [finding for finding in flow.document.findings if finding.code not in TYPES]
    assert [str(finding) for finding in found if not finding.message.startswith(drawn)] == []
    if not found:
        run(flow, payloads, random.Random(seed))


@settings(max_examples=400)
@given(spec=specs(), payloads=events, seed=st.integers(0, 1 << 32), times=st.sampled_from([1, 1, 1, 2, 4]))
def test_a_spoilt_flow_is_told_or_runs(spec: dict[str, Any], payloads: list[bytes], seed: int, times: int) -> None:
    chance = random.Random(seed)
    flow = read(text_of(spoilt(spec, chance, times)))
    if not flow.document.findings:
        run(flow, payloads, chance)


@settings(max_examples=200)
@given(spec=specs(), seed=st.integers(0, 1 << 32), times=st.integers(1, 5))
def test_a_spoilt_text_is_told_or_read(spec: dict[str, Any], seed: int, times: int) -> None:
    chance, text = random.Random(seed), text_of(spec)
    for _ in range(times):
        at = chance.randrange(len(text))
        text = (
            text[:at]
            + chance.choice(["", "\t", ": ", "- ", "&a ", "*a", "{", "]", "!!int ", "\x00", '"', "\n", "#", "? "])
            + text[at + chance.randrange(3) :]
        )
    read(text)


@given(
    st.recursive(
        st.sampled_from(LEAVES),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "flow",
                        "settings",
                        "tables",
                        "sources",
                        "operators",
                        "sinks",
                        "channels",
                        "queries",
                        "pages",
                        "tests",
                        "mqtt",
                        "from",
                        "a",
                        "steps",
                        "where",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@example({"flow": "f", "pages": {"/a": "a" * 3000}})
@example(
    {"flow": "f", "sources": {"a": {"mqtt": {"topics": ["t"]}}}, "sinks": {"z": {"from": "a", "log": {"message": {}}}}}
)
def test_anything_at_all_is_told(tree: Any) -> None:
    flow = read(text_of(tree))
    assert flow.document.findings or flow.nodes
