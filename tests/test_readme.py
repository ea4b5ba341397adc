"""The README is followed word by word: its flows lint, its tutorial runs, its outputs are what comes out."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from engine.load import load_text
from engine.testing import run_tests
from tests.process import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TUTORIAL = README.split("## Ten minutes")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_flows_in_the_readme_lint_and_pass_their_tests() -> None:
    flows = [block for block in blocks(README, "yaml") if "flow:" in block]
    assert len(flows) == 2
    for text in flows:
        outcomes = run_tests(load_text(text).raise_findings())
        assert outcomes
        assert [outcome for outcome in outcomes if outcome.differences] == []


def test_the_addition_at_the_end_of_the_tutorial_lints() -> None:
    whole, addition = (yaml.safe_load(block) for block in blocks(TUTORIAL, "yaml"))
    merged = whole | {key: whole.get(key, {}) | value for key, value in addition.items()}
    assert load_text(yaml.safe_dump(merged, sort_keys=False)).document.findings == []


def test_lint_says_what_the_readme_says() -> None:
    text = blocks(TUTORIAL, "yaml")[0].replace("celsius: {type: number", "celsius: {type: nmber")
    findings = load_text(text, Path("greenhouse.yaml")).document.findings
    assert [str(finding) for finding in findings] == [blocks(TUTORIAL, "text")[1].strip()]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give an environment in which `millstream` is the one under test, on ports of its own; end what was left."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = tmp_path / ".venv/bin/millstream"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m millstream "$@"\n')
    command.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "MILLSTREAM_PORT": str(free_port()),
        "MILLSTREAM_BROKER_PORT": str(free_port()),
        "MILLSTREAM_DATA": str(tmp_path / "data"),
        "HERE": str(tmp_path),
    }
    yield environment
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MILLSTREAM_DATA") == environment["MILLSTREAM_DATA"]:
                process.kill()


def test_the_tutorial_runs(place: dict[str, str]) -> None:
    steps = blocks(TUTORIAL, "sh")
    flow = blocks(TUTORIAL, "yaml")[0]
    script = "set -e\n" + steps[0] + f"cat > greenhouse.yaml <<'EOF'\n{flow}EOF\n" + "\n".join(steps[1:])
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{place['MILLSTREAM_PORT']}")
    file = Path(place["HERE"]) / "tutorial.sh"
    file.write_text(script)
    done = subprocess.run(
        ["/bin/bash", str(file)], cwd=place["HERE"], env=place, capture_output=True, text=True, timeout=100, check=False
    )
    log = Path(place["HERE"]) / "greenhouse/millstream.log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    lint, _, answers, planned = blocks(TUTORIAL, "text")
    wanted = (lint + answers).splitlines()
    lines = done.stdout.splitlines()
    for line, expected in zip(lines, wanted, strict=False):
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        assert re.fullmatch(pattern, line), f"{expected}\n{line}"
    queried, *plan, refused, after_kill, both = lines[len(wanted) :]
    assert '"celsius":21.5' in queried
    assert plan == planned.splitlines()
    assert "max 60" in refused
    assert '"sensor":"bed2","celsius":19' in after_kill
    assert both.count('"id"') == 2
