"""Every code of lint is explained, and what the explanation shows is so."""

from pathlib import Path

import pytest
import yaml

from engine.bundle import unbundle
from engine.errors import Finding
from engine.finding_codes import TIERS, FindingCode, codes_page, finding_codes
from engine.load import load, load_text
from engine.slow_shapes import slow_shapes
from engine.substitution import Surroundings
from tests.engine.test_lint import codes_in_sources
from tests.engine.test_schema import errors
from tests.process import ROOT

CODES = finding_codes()
SHOWN = [entry for entry in CODES.values() if entry.wrong]


def findings(text: str, entry: FindingCode) -> list[Finding]:
    flow = load_text(text, around=Surroundings(environment=entry.environment))
    return [*flow.document.findings, *slow_shapes(flow)]


def test_every_code_that_lint_gives_is_explained_and_no_other() -> None:
    assert codes_in_sources() == CODES.keys()


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: entry.code)
def test_the_wrong_example_has_the_finding_and_the_right_one_none(entry: FindingCode) -> None:
    assert {finding.code for finding in findings(entry.wrong, entry)} == {entry.code}
    assert findings(entry.right, entry) == []


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: entry.code)
def test_the_right_example_fits_the_schema(entry: FindingCode) -> None:
    assert errors(yaml.safe_load(unbundle(entry.right)[0])) == []


def test_what_has_no_example_is_no_text(tmp_path: Path) -> None:
    """A file that is not there, is not UTF-8, is too large, has a broken component beside it."""
    latin, large, own = tmp_path / "latin.yaml", tmp_path / "large.yaml", tmp_path / "own.yaml"
    latin.write_bytes(b"flow: caf\xe9\n")
    large.write_bytes(b"#" * (1 << 21))
    (tmp_path / "operators").mkdir()
    (tmp_path / "operators/twice.py").write_text("import nothing_of_this_name\n")
    own.write_text(CODES["flow-name"].right)
    given = {load(path).document.findings[0].code for path in (tmp_path / "missing.yaml", latin, large, own)}
    assert given == {entry.code for entry in CODES.values() if not entry.wrong and not entry.connects}


def test_what_is_found_at_a_place_is_shown_by_its_test() -> None:
    text = (ROOT / "tests/engine/test_probing.py").read_text()
    assert [entry.code for entry in CODES.values() if entry.connects and f"[{entry.code}]" not in text] == []


def test_each_entry_says_everything() -> None:
    for entry in CODES.values():
        assert entry.tier in TIERS
        assert not entry.title.endswith(".")
        assert all(text.strip().endswith((".", "?")) for text in (entry.means, entry.matters, entry.fix)), entry.code


def test_the_page_is_what_the_entries_say() -> None:
    page = (ROOT / "docs/components/lint.md").read_text()
    assert page == codes_page(), "run `make docs`"
    assert [entry.code for entry in CODES.values() if f"\n### {entry.code}\n" not in page] == []
