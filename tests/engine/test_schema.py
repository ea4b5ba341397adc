"""The JSON Schema that editors complete with: it takes what lint takes, and refuses what it refuses."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from engine.bundle import unbundle
from engine.lint_markdown import flow_blocks
from engine.load import load_text
from engine.schema import language_schema
from tests.engine.test_lint import TABLE
from tests.process import ROOT

SCHEMA = language_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FLOWS = [path for path in sorted(ROOT.glob("flows/**/*.yaml")) if re.search("^flow:", path.read_text(), re.MULTILINE)]
WHOLE = yaml.safe_load((ROOT / "flows/car_inspection/car_inspection.yaml").read_text())


def errors(spec: Any) -> list[str]:
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"[:200] for error in VALIDATOR.iter_errors(spec)
    ]


def test_the_schema_is_one_and_its_references_lead_somewhere() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    names = set(re.findall(r"'\$ref': '#/\$defs/([^']+)'", str(SCHEMA)))
    assert names <= SCHEMA["$defs"].keys()


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_the_packs_flows_fit(path: Path) -> None:
    assert errors(yaml.safe_load(path.read_text())) == []


PAGES = [page for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")) if flow_blocks(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_flows_in_pages_fit(page: Path) -> None:
    for text in flow_blocks(page.read_text()):
        assert errors(yaml.safe_load(unbundle(text)[0])) == []


def changed(*where: str, value: Any) -> Any:
    """Return the whole flow with one part put in."""
    spec = yaml.safe_load(yaml.safe_dump(WHOLE))
    part = spec
    for step in where[:-1]:
        part = part[step]
    part[where[-1]] = value
    return spec


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("sorces",), {}),
        (("flow",), "Two Words"),
        (("sources", "gate", "mqtt", "qso"), 1),
        (("sources", "gate", "mqtt", "qos"), 3),
        (("sources", "gate", "mqt"), {}),
        (("operators", "verdict", "validate", "device"), {"tpye": "text"}),
        (("operators", "verdict", "validate", "device"), "string"),
        (("operators", "verdict", "on_error"), "ignore"),
        (("operators", "statistics", "tally", "by"), "device"),
        (("sinks", "stats_push", "channel", "at_most"), "10"),
        (("sinks", "results", "key"), "device"),
        (("channels", "dashboard", "opne"), True),
        (("queries", "cars"), {"table": "car"}),
        (("queries", "cars"), {"get": "/car", "post": "/car", "table": "car"}),
        (("queries", "cars"), {"get": "/car", "table": "car", "filtres": []}),
        (("queries", "cars"), {"get": "/car", "sql": "select :x", "params": {"x": "whole"}}),
        (("settings", "x"), {"evn": "X"}),
        (("tables", "car", "id"), 7),
        (("tests",), [{"nmae": "x"}]),
        (("pages",), [1]),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else str(value)[:30],
)
def test_a_mistake_does_not_fit(where: tuple[str, ...], value: Any) -> None:
    assert errors(changed(*where, value=value)) != []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("sources", "gate", "mqtt", "qos"), "${topic_start}"),
        (("sources", "gate", "mqtt", "topics"), "${topics}"),
        (("operators", "verdict", "validate", "device"), "text"),
        (("operators", "throttled"), {"from": "gate", "throttle": {"every": "${every}"}}),
        (("sinks", "refused", "log"), None),
        (("sinks", "refused", "log"), "a text alone"),
        (("sinks", "refused", "where"), True),
        (
            ("operators", "row"),
            {"from": ["gate"], "steps": [{"set": {"a": 1}}, {"where": "a", "split": {"of": "b", "as": "c"}}]},
        ),
        (("settings", "x"), [1, 2]),
        (("settings", "x"), {"env": "X", "secret": True}),
    ],
)
def test_what_is_allowed_fits(where: tuple[str, ...], value: Any) -> None:
    assert errors(changed(*where, value=value)) == []


SHAPES = {"unknown-section", "unknown-option", "unknown-kind", "missing-option", "section", "duration", "rate", "size"}


def test_what_lint_says_of_shapes_the_schema_says_too() -> None:
    """Each case of the lint tables whose every finding is about shape must not fit; parts have no schema."""
    seen = 0
    for name, text, _ in TABLE:
        codes = {finding.code for finding in load_text(text).document.findings}
        if codes and codes <= SHAPES and "\n--- # file: " not in text:
            seen += 1
            assert errors(yaml.safe_load(text)) != [], name
    assert seen >= 7


def test_a_packs_own_component_is_in_its_schema(tmp_path: Path) -> None:
    (tmp_path / "operators").mkdir()
    (tmp_path / "operators/twice.py").write_text(
        "from engine.api import Stateless, component\n\n@component('twice')\nclass Twice(Stateless):\n"
        '    """Double."""\n\n    of: str\n    """The field."""\n'
    )
    spec = {"flow": "f", "operators": {"o": {"from": "a", "twice": {"of": "n"}}}}
    assert list(jsonschema.Draft202012Validator(language_schema(tmp_path)).iter_errors(spec)) == []
    assert errors(spec) != []
