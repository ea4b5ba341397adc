"""Flows in Markdown are linted where they stand, and our own pages hold none with a mistake."""

from pathlib import Path

import pytest

from engine.lint_markdown import find_pages_and_flows, flow_blocks, load_each
from engine.substitution import Surroundings
from tests.process import ROOT

PAGES = [
    page for page in find_pages_and_flows([ROOT / "README.md", ROOT / "docs", ROOT / "flows"]) if page.suffix == ".md"
]
PAGE = """\
# A page

```yaml
flow: first
sources: {a: {mqtt: {topics: [t]}}}
sinks: {z: {from: b, log: hello}}
```

A fragment is no flow:

```yaml
operators: {o: {from: nowhere, where: x >}}
```

```yaml wrong
flow: Wrong Name
```

- in a list:

  ~~~yml
  flow: second
  sources: {a: {mqtt: {topics: [t], qso: 1}}}
  sinks: {z: {from: a, log: hello}}
  ~~~

```
flow: Third
```
"""


def findings(page: Path) -> list[str]:
    groups = load_each(page, Surroundings())
    return [
        str(f).removeprefix(f"{page.parent}/") for flows in groups for flow in flows for f in flow.document.findings
    ]


def test_the_line_and_column_are_those_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second = findings(page)
    assert first == "page.md:6:13: node 'z': from: a node; got 'b' [unknown-node]"
    assert second.startswith("page.md:23:37: node 'a': qso: one of ")


def test_fragments_other_languages_and_mistakes_that_are_shown_are_left_alone() -> None:
    assert [text.lstrip("\n").split("\n")[0].strip() for text in flow_blocks(PAGE)] == ["flow: first", "flow: second"]


def test_each_instance_of_a_flow_in_a_page_is_linted(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml\nflow: l_${n}\nfor_each: {n: 1..3}\nsources: {a: {mqtt: {topics: [t]}}}\n"
        "sinks: {z: {from: a, log: '${n}'}}\n```\n"
    )
    (flows,) = load_each(page, Surroundings())
    assert [flow.name for flow in flows] == ["l_1", "l_2", "l_3"]


def test_a_page_that_is_no_text_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_bytes(b"caf\xe9")
    assert findings(page) == ["page.md:1:1: UTF-8; got byte 0xe9 [encoding]"]


def test_pages_without_flows_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "page.md").write_text(PAGE)
    (tmp_path / "none.md").write_text("# Nothing\n")
    (tmp_path / "flow.yaml").write_text("flow: f\n")
    assert find_pages_and_flows([tmp_path]) == [tmp_path / "flow.yaml", tmp_path / "more" / "page.md"]
    assert find_pages_and_flows([tmp_path / "none.md"]) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_flows_in_our_own_pages_lint_clean(page: Path) -> None:
    assert findings(page) == []


def test_our_own_pages_have_flows() -> None:
    assert {ROOT / "docs/concepts/language.md", ROOT / "docs/components/lint.md"} <= {*PAGES}
