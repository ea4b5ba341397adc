"""The command line as a user calls it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.process import LOCALHOST, ROOT, free_port

TINY = """\
flow: tiny
sources:
  in: {http: {post: /in, allow: anyone}}
sinks:
  out: {from: in, log: {message: it came}}
"""


def write(path: Path, text: str = TINY) -> Path:
    """Write a flow file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def environment(data: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment with a data folder and ports of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    ours = {
        "MILLSTREAM_DATA": str(data), "MILLSTREAM_HOST": LOCALHOST,
        "MILLSTREAM_PORT": str(free_port()), "MILLSTREAM_BROKER_PORT": str(free_port()),
    }  # fmt: skip
    return inherited | ours | dict(env or {})


def millstream(
    data: Path, *arguments: str | Path, env: Mapping[str, str] | None = None, given: str = "", within: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run `millstream ARGUMENTS` to its end; nothing that it prints may be a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "millstream", *map(str, arguments)],
        cwd=ROOT, env=environment(data, env), input=given, capture_output=True, text=True, timeout=within,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done
