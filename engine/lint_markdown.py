"""Flows in Markdown: each block of YAML that has a line `flow:`, read with the line numbers of its page."""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from engine.flow import Flow
from engine.load import find_flows, load_all, load_text
from engine.substitution import Surroundings

SUFFIX = ".md"
_BLOCK = re.compile(r"^( *)(`{3,}|~{3,})ya?ml\b([^\n]*)\n(.*?)^\1\2`*~*[ ]*$", re.MULTILINE | re.DOTALL)
_FLOW = re.compile(r"^ *flow\s*:", re.MULTILINE)
UNLINTED = frozenset({"wrong", "elsewhere"})
"""What stands behind `yaml` at a block that is not linted: it shows a mistake, or needs an environment of its own."""


def find_pages_and_flows(paths: Iterable[Path]) -> list[Path]:
    """Return flow files, and pages of Markdown with flows in them, of files and folders, in order."""
    found: list[Path] = []
    for path in paths:
        pages = [page for page in path.glob(f"**/*{SUFFIX}") if _has_flows(page)] if path.is_dir() else []
        given = path.suffix != SUFFIX or _has_flows(path)
        found += sorted({*find_flows([path], below=True), *pages}) if given else []
    return found


def _has_flows(page: Path) -> bool:
    try:
        return bool(flow_blocks(page.read_text()))
    except (OSError, UnicodeDecodeError):
        return True  # loading it tells why


def flow_blocks(text: str) -> list[str]:
    """Return the text of each flow in a page, behind as many empty lines as stand before it there."""
    return [
        "\n" * text.count("\n", 0, found.start(4)) + found[4]
        for found in _BLOCK.finditer(text)
        if _FLOW.search(found[4]) and UNLINTED.isdisjoint(found[3].split())
    ]


def load_each(path: Path, around: Surroundings) -> list[list[Flow]]:
    """Return the instances of each flow of a file: a flow file has one flow, a page any number."""
    try:
        texts = flow_blocks(path.read_text()) if path.suffix == SUFFIX else []
    except (OSError, UnicodeDecodeError):
        texts = []
    return [_instances(text, path, around) for text in texts] or [load_all(path, around)]


def _instances(text: str, path: Path, around: Surroundings) -> list[Flow]:
    first = load_text(text, path, around)
    rest = [msgspec.structs.replace(around, overrides={**around.overrides, **key}) for key in first.instances[1:]]
    return [first, *(load_text(text, path, other) for other in rest)]
