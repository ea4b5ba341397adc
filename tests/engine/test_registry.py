"""Adding a component is adding one file: it lints, shows its page, runs with and without Bytewax; a broken one is told."""

from pathlib import Path

import msgspec
import pytest

from engine.errors import EnvironmentFault
from engine.flow import Flow
from engine.harness import Harness, Sent
from engine.load import load
from engine.reference import markdown, summary
from engine.registry import components, kinds
from engine.testing import START
from tests.compliance import check_example, check_options, check_words, same_on_bytewax

TWICE = '''
"""`twice`: each event once more."""

from engine.api import Emit, Event, Example, Stateless, component, derived_id


@component("twice")
class Twice(Stateless):
    """Let each event through, and once more with a number. It is an example."""

    as_field: str = "again"
    """The field that gets the number."""
    most: int = 2
    """How often."""

    shorthand = "as_field"
    examples = (
        Example(about="Two of one.", config="twice: copy", given=[{"n": 1}], expect=[{"n": 1}, {"n": 1, "copy": 2}]),
    )

    def apply(self, event: Event, emit: Emit) -> None:
        """Emit both."""
        emit(event)
        again = event.derive({**event.data, self.as_field: 2})
        again.id = derived_id(emit.node, event.id.hex(), 2)
        emit(again)
'''
LATEST = '''
"""`newest`: counts what it saw."""

from engine.api import Emit, Event, Example, Stateful, component


@component("newest")
class Latest(Stateful[int]):
    """Number the events of a key. It is an example."""

    state_type = int
    examples = (Example(about="One.", config="newest:", given=[{"n": 5}], expect=[{"n": 5, "seen": 1}]),)

    def on_event(self, state: int | None, event: Event, emit: Emit) -> int:
        """Count."""
        emit(event.derive({**event.data, "seen": (state or 0) + 1}))
        return (state or 0) + 1
'''
FLOW = """
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators: {o: {from: given, twice: copy}, p: {from: o, key: n, newest: }}
sinks: {z: {from: p, log: x}}
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "operators").mkdir()
    (tmp_path / "operators/twice.py").write_text(TWICE)
    (tmp_path / "operators/newest.py").write_text(LATEST)
    (tmp_path / "operators/_own.py").write_text("raise RuntimeError('never imported')")
    (tmp_path / "flow.yaml").write_text(FLOW)
    return tmp_path


def flow_of(pack: Path) -> Flow:
    return load(pack / "flow.yaml").raise_findings()


def test_a_component_of_a_pack_runs_with_and_without_bytewax(pack: Path) -> None:
    flow = flow_of(pack)
    messages = [Sent(START + n, "given", msgspec.json.encode({"n": n % 2})) for n in range(4)]
    harness = Harness(flow)
    for message in messages:
        harness.send([message])
    assert [(e.data["n"], e.data.get("copy"), e.data["seen"]) for e in harness.out["z"] if e.key == "1"] == [
        (1, None, 1), (1, 2, 2), (1, None, 3), (1, 2, 4),
    ]  # fmt: skip
    same_on_bytewax(flow, messages, harness, {})


def test_it_is_listed_beside_the_installed_ones_and_has_a_page(pack: Path) -> None:
    found = components("operators", pack)
    assert found.keys() - components("operators").keys() == {"twice", "newest"}
    assert summary(found["twice"]) == "Let each event through, and once more with a number"
    assert '| `as_field` | text | `"again"` | The field that gets the number. |' in markdown(found["twice"])


def test_it_complies(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (components("operators", pack)[kind] for kind in ("twice", "newest")):
        check_words(cls)
        check_options(cls)


def test_an_example_of_it_can_fail(pack: Path) -> None:
    cls = components("operators", pack)["twice"]
    with pytest.raises(AssertionError):
        check_example(cls, cls.examples[0])  # its flow is no pack's, so there its kind is unknown


def test_its_options_are_linted(pack: Path) -> None:
    (pack / "flow.yaml").write_text(FLOW.replace("twice: copy", "twice: {as_field: x, of: y}"))
    assert [str(finding).partition(": ")[2] for finding in load(pack / "flow.yaml").document.findings] == [
        "node 'o': of: one of as_field, most; got 'of' [unknown-option]"
    ]


def test_a_changed_file_is_read_anew(pack: Path) -> None:
    assert "again" in markdown(components("operators", pack)["twice"])
    (pack / "operators/twice.py").write_text(TWICE.replace('"again"', '"another"'))
    assert "another" in markdown(components("operators", pack)["twice"])


BROKEN = {
    "that is no Python": ("def :", ":1: SyntaxError: invalid syntax"),
    "that fails": ("\nimport json\njson.loads('')", ":3: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
    "that imports what is not there": ("import nowhere", ":1: ModuleNotFoundError: No module named 'nowhere'"),
    "without a class": ("x = 1", ": a class (Stateless or Stateful) with @component('broken'); found none"),
    "with another name": (TWICE, ": a class (Stateless or Stateful) with @component('broken'); found none"),
    "of another section": (
        "from engine.api import Sink, component\n@component('broken')\nclass Broken(Sink):\n    '''X.'''\n",
        ": a Stateless or Stateful, as it lies in operators; got Broken",
    ),
    "whose option has no type": (
        "from engine.api import Stateless, component\n@component('broken')\nclass Broken(Stateless):\n    x = 1\n",
        ":3: PydanticUserError: A non-annotated attribute was detected: `x = 1`. All model fields require a type annotation; "
        "if `x` is not meant to be a field, you may be able to resolve this error by annotating it as a `ClassVar` or "
        "updating `model_config['ignored_types']`.",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_and_stops_nobody_else(name: str, pack: Path) -> None:
    text, expected = BROKEN[name]
    file = pack / "operators/broken.py"
    file.write_text(text)
    (pack / "flow.yaml").write_text(
        FLOW.replace("from: p, log", "from: [p, q], log").replace("p: {", "q: {from: o, broken: x}, p: {")
    )
    for _ in range(2):
        (finding,) = load(pack / "flow.yaml").document.findings
        assert finding.code == "component"
        assert finding.option == "broken"
        assert finding.message == f"components that can be used; {file}{expected}"
    with pytest.raises(EnvironmentFault, match="broken"):
        components("operators", pack)
    assert kinds("operators", pack)[0].keys() >= {"twice", "newest", "window"}


def test_a_name_that_is_taken_is_told(pack: Path) -> None:
    (pack / "operators/window.py").write_text(TWICE.replace("twice", "window"))
    (finding,) = load(pack / "flow.yaml").document.findings
    assert finding.message.endswith("window.py: a kind of its own; 'window' is there already")
