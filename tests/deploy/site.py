"""A gateway with one flow that is deployed again and again, and the command line beside it."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.millstream_process import Millstream
from tests.process import ROOT, wait_until

FLOW = """\
flow: line
settings: {factor: {default: 1}}
tables:
  reading: {id: serial, device: text(20), n: int, created_at: time}
sources:
  posted: {http: {post: /readings, allow: anyone}}
  waited: {http: {post: /waited, allow: anyone, reply: row}}
operators:
  checked: {from: [posted, waited], validate: {device: {type: text}, n: {type: int}}}
  judged: {from: checked, set: {result: "'OK'"}}
  tallied: {from: judged, tally: {of: result, every: 10ms}}
sinks:
  stored: {from: checked, sql: {table: reading}}
  push: {from: tallied, channel: {name: live, event: stats, keep: last}}
channels:
  live: {path: /ws/live, open: true, on_connect: {stats: stats}}
queries:
  readings: {get: /readings, allow: anyone, table: reading}
  load: {get: /load, allow: anyone, one: true, sql: "select count(*) as stored, count(distinct n) as different from reading where n >= 100000"}
  stats: {get: /stats, allow: anyone, channel: live.stats}
"""


class Site:
    """One gateway, and what a user does with it."""

    def __init__(self, process: Millstream, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.file = folder / "line.yaml"

    def call(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command; nothing that it prints may be a traceback."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
        done = subprocess.run(
            [sys.executable, "-m", "millstream", *map(str, arguments)],
            cwd=ROOT, env=env | {"MILLSTREAM_DATA": str(self.process.data)}, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Return the JSON that a command prints."""
        done = self.call(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def change(self, *pairs: tuple[str, str], file: Path | None = None) -> Path:
        """Write the flow with texts replaced, as an integrator edits it."""
        text = (file or self.file).read_text()
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        (file or self.file).write_text(text)
        return file or self.file

    def post(self, path: str, body: Any) -> Any:
        """Post JSON; return the answer."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            self.process.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            return json.loads(response.read())

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        with urllib.request.urlopen(self.process.url + path, timeout=20) as response:  # noqa: S310
            return json.loads(response.read())

    def rows(self) -> list[dict[str, Any]]:
        """Return the stored readings."""
        found: list[dict[str, Any]] = self.get("/readings")
        return found

    def counted(self) -> int:
        """Return how many readings were counted."""
        return int(self.get("/stats")["total"])

    def until_counted(self, count: int) -> None:
        """Wait until so many readings were counted."""
        wait_until(lambda: self.counted() == count, f"{count} are counted", within=30)

    def pid(self) -> int:
        """Return the worker's pid."""
        return int(self.json("status")["line"]["pid"])
