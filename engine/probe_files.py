"""Files, tried without effect: whether they can be read or written."""

import os
from pathlib import Path

from engine.problem import Problem


def readable(path: Path) -> list[Problem]:
    """Return why a file cannot be read; that it is not there yet is a warning."""
    if not path.exists():
        return [Problem("no-file", "", f"a file that is there; '{path}' is not, and is waited for", severity="warning")]
    if not path.is_file():
        return [Problem("permission", "", f"a file that can be read; '{path}' is none")]
    return [] if os.access(path, os.R_OK) else [Problem("permission", "", f"a file that can be read; '{path}' may not")]


def writable(path: Path) -> list[Problem]:
    """Return why a file cannot be written, or made where it is not there."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if there == path and not path.is_file():
        return [Problem("permission", "", f"a file to write to; '{path}' is none")]
    if there != path and not there.is_dir():
        return [Problem("permission", "", f"a file to write to; '{there}' is no folder")]
    may = os.access(there, os.W_OK if there == path else os.W_OK | os.X_OK)
    return [] if may else [Problem("permission", "", f"a file to write to; '{there}' may not be written")]
