"""`template`: what is written, what lint finds, and what a template may not do."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.harness import Harness
from engine.load import load_text
from engine.substitution import Surroundings
from tests.operators.replay import flow_of, sent


def filled(options: Any, *data: dict[str, Any]) -> list[Any]:
    """Return the texts, or the reasons why there is none."""
    harness = Harness(flow_of("template", {"as": "x", **options}, key="k"))
    harness.send([sent(0, k="key", **item) for item in data])
    return [event.data["x"] for event in harness.out["out"]] + [letter.reason for letter in harness.dead]


@pytest.mark.parametrize(
    ("text", "data", "found"),
    [
        ("{{ a }}|{{ none }}|{{ b.c.d }}|{{ no.such.field }}", {"a": None, "b": {"c": {"d": 1}}}, "||1|"),
        ("{{ yes }} {{ list }} {{ map }} {{ n }} {{ f }}", {"yes": True, "list": [1, None], "map": {"a": "é"}, "n": 1, "f": 2.5},
         'true [1,null] {"a":"é"} 1 2.5'),
        ("{{ meta.key }} {{ meta.topic }} {{ meta.source }} {{ meta.time | format_time('%H:%M') }} {{ meta.id | length }}", {},
         "key  given 22:13 32"),
        ("{{ '%.1f' | format(t) }} {{ t | round(1) }} {{ '%05.1f' % t }}", {"t": 3.14159}, "3.1 3.1 003.1"),
        ("{% for r in rows if r > 1 %}{{ loop.index }}:{{ r }} {% endfor %}", {"rows": [1, 2, 3]}, "1:2 2:3 "),
        ("{{ when | time | unix }} {{ missing | unix }}", {"when": "1970-01-01T00:01:00Z"}, "60.0 "),
        ("{{ map | tojson }} {{ '<' }} {{ s }}", {"map": {"a": 1}, "s": "<b>"}, '{"a":1} < <b>'),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) }}{% set v = 2 %}{{ v }}", {}, "[1]2"),
    ],
)  # fmt: skip
def test_a_template_is_filled_in(text: str, data: dict[str, Any], found: str) -> None:
    assert filled({"text": text}, data) == [found]


def test_what_comes_from_outside_is_escaped_for_html() -> None:
    text = "<p title='{{ s }}'>{{ s }} {{ s | safe }} {{ {'a': s} | tojson }}</p>"
    (found,) = filled({"text": text, "escape": "html"}, {"s": "<'\"&"})
    assert found.startswith("<p title='&lt;&#39;&#34;&amp;'>&lt;&#39;&#34;&amp; <'\"& ")
    assert "<" not in found.split(" ")[-1].removesuffix("</p>")


@pytest.mark.parametrize(
    ("text", "data", "reason"),
    [
        ("{{ a * n }}", {"a": "x", "n": 10**9}, "a text or list of at most 10000, repeated"),
        ("{{ 2 ** n }}", {"n": 10**9}, "powers of numbers up to 10000"),
        ("{% for i in range(n) %}x{% endfor %}", {"n": 10**9}, "Range too big"),
        ("{% for i in range(99000) %}xx{% endfor %}", {}, "a text of at most 65536 characters"),
        ("{{ '%9999d' | format(1) }}", {}, "a layout with widths of at most 999"),
        ("{{ '%*d' % (n, 1) }}", {"n": 10**9}, "a layout with widths of at most 999"),
        ("{{ a.ljust(n) }}", {"a": "x", "n": 10**9}, "unsafe"),
        ("{{ a | replace('x', a) }}", {"a": "x" * 60_000}, "a text of at most 1000000 characters"),
        ("{{ rows.append(1) }}", {"rows": []}, "unsafe"),
        ("{{ a + 1 }}", {"a": "x"}, "can only concatenate str"),
        ("{{ 1 / n }}", {"n": 0}, "division by zero"),
        ("{{ rows | sum }}", {"rows": ["x"]}, "unsupported operand"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {}, "a template that ends"),
        ("{% include file %}", {"file": "../../etc/passwd"}, "../../etc/passwd"),
    ],
)
def test_what_a_template_may_not_do_costs_its_event_only(text: str, data: dict[str, Any], reason: str) -> None:
    first, second = filled({"text": "{% if bad %}" + text + "{% else %}fine{% endif %}"}, {**data, "bad": 1}, {})
    assert first == "fine"
    assert second.startswith("template: ")
    assert reason in second
    assert len(second) < 300


def test_what_belongs_to_python_is_not_there() -> None:
    assert filled(
        {"text": "{{ a.__class__ }}{{ a.__class__.__mro__ }}{{ self._TemplateReference__context }}|"}, {"a": 1}
    ) == ["|"]


def test_largest_bounds_the_text() -> None:
    assert filled({"text": "{{ a }}", "largest": "4B"}, {"a": "1234"}, {"a": "12345"}) == [
        "1234", "template: a text of at most 4 characters"
    ]  # fmt: skip


FLOW = """
flow: f
settings: {{site: {{default: Busan}}}}
sources: {{given: {{mqtt: {{topics: [t]}}}}}}
operators:
  v: {{from: given, validate: {{temperature: number, device: text}}}}
  o: {{from: v, template: {{as: x, {options}}}}}
sinks: {{s: {{from: o, log: x}}}}
"""


def findings(options: str, path: Path = Path("flow.yaml")) -> list[tuple[str, str, str]]:
    flow = load_text(FLOW.format(options=options), path)
    return [(finding.code, finding.message, finding.hint) for finding in flow.document.findings]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            "{{ device",
            "template",
            "a Jinja template; unexpected end of template, expected 'end of print statement'. in line 1",
        ),
        (
            "a\\n{% if %}",
            "template",
            "a Jinja template; Expected an expression, got 'end of statement block' in line 2",
        ),
        ("{{ device | uper }}", "template", "a Jinja template; No filter named 'uper'. in line 1"),
        ("{{ [1, 2] | random }}", "template", "a Jinja template; No filter named 'random'. in line 1"),
        ("{{ temprature }}", "unknown-field", "a field of what comes in here (temperature, device); got 'temprature'"),
        ("{{ lipsum() }}", "unknown-field", "a field of what comes in here (temperature, device); got 'lipsum'"),
    ],
)
def test_lint_finds_wrong_syntax_and_unknown_names(text: str, code: str, message: str) -> None:
    ((found, told, hint),) = findings(f'text: "{text}"')
    assert (found, told) == (code, message)
    assert ("temperature" in hint) == ("temprature" in text)


def test_names_of_a_template_that_are_known_are_no_findings() -> None:
    text = "{% for i in range(3) %}{{ i }}{% endfor %}{{ device }} {{ meta.topic }} {{ settings.site }}"
    assert findings(f'text: "{text}"') == []


def test_settings_without_secrets_are_seen() -> None:
    around = Surroundings(environment={"FLOW_TOKEN": "s3cret"})
    text = FLOW.format(options='text: "{{ settings.site }}{{ settings.token }}"')
    flow = load_text(
        text.replace("Busan}", "Busan}, token: {env: FLOW_TOKEN, secret: true}"), around=around
    ).raise_findings()
    harness = Harness(flow)
    harness.send([sent(0, temperature=1, device="a")])
    assert [event.data["x"] for event in harness.out["s"]] == ["Busan"]


def test_a_template_in_a_file_and_what_it_includes(tmp_path: Path) -> None:
    (tmp_path / "mail.txt").write_text("{% include 'head.txt' %}: {{ temperature }}\n")
    (tmp_path / "head.txt").write_text("Station {{ device }}")
    flow = load_text(FLOW.format(options="file: mail.txt"), tmp_path / "flow.yaml").raise_findings()
    harness = Harness(flow)
    harness.send([sent(0, temperature=1, device="a")])
    assert [event.data["x"] for event in harness.out["s"]] == ["Station a: 1"]


@pytest.mark.parametrize("options", ["file: none.txt", "", "text: a, file: b"])
def test_lint_finds_a_template_that_is_not_there(options: str, tmp_path: Path) -> None:
    ((code, message, _),) = findings(options, tmp_path / "flow.yaml")
    assert (code, message.partition(";")[0]) in (
        ("template", "a readable file"), ("option-value", "either text or file"),
    )  # fmt: skip


def test_the_same_event_gives_the_same_text() -> None:
    event = msgspec.json.decode(msgspec.json.encode({"a": {"z": 1, "b": [2]}, "c": 1.1}))
    assert len(set(filled({"text": "{{ a }} {{ c }} {{ meta.time }}"}, event, event))) == 1
