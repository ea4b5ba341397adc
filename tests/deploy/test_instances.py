"""A flow with `for_each` and a part, on a real gateway: each instance is deployed, runs, and outlives its files."""

from pathlib import Path

from tests.deploy.site import Site
from tests.deploy.test_start import Everything, Watched
from tests.process import wait_until

LINE = """\
flow: line_${line}
for_each: {line: [1, 2]}
include: [{file: parts/in.yaml, with: {path: "/lines/${line}"}}]
sinks:
  stored: {from: made, sql: {table: reading}}
  answer: {from: made, reply: {}}
"""
PART = """\
params: {path: , factor: 10}
tables:
  reading: {id: serial, line: int, n: int}
sources:
  posted: {http: {post: "${path}", allow: anyone, reply: flow}}
operators:
  made: {from: posted, set: {n: "n * ${factor}", line: settings.line}}
"""


def written(folder: Path) -> Path:
    (folder / "parts").mkdir()
    (folder / "parts/in.yaml").write_text(PART)
    file = folder / "line.yaml"
    file.write_text(LINE)
    return file


def test_every_instance_runs_and_outlives_its_files(tmp_path: Path) -> None:
    file = written(tmp_path)
    with Everything(tmp_path) as process:
        site = Site(process, tmp_path)
        done = site.call("deploy", file)
        assert done.returncode == 0, done.stderr
        assert site.post("/lines/1", {"n": 4}) == {"line": 1, "n": 40}
        assert site.post("/lines/2", {"n": 5}) == {"line": 2, "n": 50}
        (tmp_path / "parts/in.yaml").unlink()
        process.power_cut()
        process.start()
        assert sorted(site.json("status")) == ["line_1", "line_2"]
        assert site.post("/lines/2", {"n": 6}) == {"line": 2, "n": 60}
        (tmp_path / "parts/in.yaml").write_text(PART.replace("factor: 10", "factor: 100"))
        found = site.json("deploy", file)
        assert [(one["flow"], one["outcome"]) for one in found] == [("line_1", "deployed"), ("line_2", "deployed")]
        assert site.post("/lines/1", {"n": 4}) == {"line": 1, "n": 400}
        assert "+params: {path: , factor: 100}" in site.json("versions", "line_1", "2")["diff"]
        done = site.call("deploy", file, "--set", "line=2")
        assert done.stdout == "line_2: unchanged, version 2\n"


def test_a_part_that_is_saved_is_deployed(tmp_path: Path) -> None:
    file = written(tmp_path)
    with Watched(tmp_path, file) as process:
        site = Site(process, tmp_path)
        assert site.post("/lines/1", {"n": 4})["n"] == 40
        (tmp_path / "parts/in.yaml").write_text(PART.replace("factor: 10", "factor: 7"))
        wait_until(lambda: site.post("/lines/2", {"n": 1})["n"] == 7, "the part is deployed", within=20)
