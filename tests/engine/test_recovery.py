"""Stored states: counted, renamed, given up in a copy, and never read by a node that they do not fit. On Bytewax."""

from pathlib import Path

import msgspec
import pytest

from engine.errors import EnvironmentFault
from engine.fingerprints import fingerprints
from engine.flow import Flow
from engine.harness import Sent, block_of
from engine.load import load_text
from engine.recovery import Edit, check_states, copy_edited, key_counts, next_folder, read_states, sweep, write_states
from tests.engine.bytewax_case import Batch, run_bytewax

FLOW = """\
flow: line
sources:
  in: {http: {post: /in, allow: anyone}}
operators:
  keyed: {from: in, where: n > 0, key: device}
  first: {from: keyed, group: {opens: n > 0, as: a}}
  second: {from: keyed, group: {opens: n > 0, as: b}}
sinks:
  out: {from: [first, second], log: {message: it came}}
"""


def flow(*pairs: tuple[str, str]) -> Flow:
    text = FLOW
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return load_text(text).raise_findings()


def batches(first: int, devices: str) -> list[Batch]:
    sent = [
        Sent(1_000_000 * (first + at), "in", msgspec.json.encode({"device": device, "n": 1}))
        for at, device in enumerate(devices)
    ]
    return [[block_of([message], first + at, message.at)] for at, message in enumerate(sent)]


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder in which three devices were counted, one of them twice."""
    run_bytewax(flow(), batches(1, "xyxz"), tmp_path)
    write_states(tmp_path / "recovery", fingerprints(flow()))
    return tmp_path


def counts(version: Flow, folder: Path) -> dict[str, list[int]]:
    """Return what each field counts to when device x comes once more; the batches before are skipped by position."""
    outcome = run_bytewax(version, batches(1, "xyxzx"), folder)
    found = outcome.out["out"]
    return {name: [e.data[name] for e in found if name in e.data] for name in ("a", "b")}


def test_keys_are_counted_by_node(left: Path) -> None:
    assert key_counts(left / "recovery", "line") == {"first": 3, "second": 3}
    assert key_counts(left / "no such folder", "line") == {}


def test_a_copy_goes_on_where_the_store_stood(left: Path) -> None:
    copy_edited(left / "recovery", left / "next" / "recovery", "line", Edit(), fingerprints(flow()))
    assert counts(flow(), left / "next") == {"a": [3], "b": [3]}
    assert counts(flow(), left) == {"a": [3], "b": [3]}


def test_names_may_swap_and_one_state_be_given_up(left: Path) -> None:
    pairs = [("  first:", "  third:"), ("  second:", "  first:"), ("[first, second]", "[third, first]")]
    version = flow(*pairs)
    edit = Edit({"second": "first", "first": "third"}, frozenset())
    copy_edited(left / "recovery", left / "swapped" / "recovery", "line", edit, fingerprints(version))
    assert counts(version, left / "swapped") == {"a": [3], "b": [3]}
    edit = Edit({}, frozenset({"second"}))
    copy_edited(left / "recovery", left / "reset" / "recovery", "line", edit, fingerprints(flow()))
    assert counts(flow(), left / "reset") == {"a": [3], "b": [1]}


def test_a_state_of_another_form_is_never_read(left: Path) -> None:
    other = fingerprints(flow(("key: device", "key: text(n)")))
    with pytest.raises(
        EnvironmentFault, match=r"node 'first': its state is of another form \(key: device → text\(n\)\)"
    ):
        check_states(left / "recovery", other)
    check_states(left / "recovery", fingerprints(flow()))


def test_a_store_without_fingerprints_gets_them(left: Path) -> None:
    (left / "recovery" / "states.json").unlink()
    check_states(left / "recovery", fingerprints(flow()))
    assert read_states(left / "recovery") == fingerprints(flow())


def test_what_no_record_names_is_removed(tmp_path: Path) -> None:
    for name in ("recovery", "recovery.1", "recovery.2"):
        (tmp_path / name).mkdir()
    assert next_folder(path.name for path in tmp_path.glob("recovery*")) == "recovery.3"
    sweep(tmp_path, "recovery.2")
    assert [path.name for path in tmp_path.iterdir()] == ["recovery.2"]
