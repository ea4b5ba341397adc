"""What runs after a start: what is named, or all that is deployed; and files that are saved under `--watch`."""

import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.site import FLOW, Site
from tests.process import wait_until
from tests.services import Millstream


class Everything(Millstream):
    """`millstream gateway` on a data folder."""

    def command(self) -> list[str]:
        return [*super().command()[:3], "gateway"]


class Watched(Millstream):
    """`millstream run --watch`."""

    def command(self) -> list[str]:
        return [*super().command(), "--watch"]


def test_after_a_reboot_everything_that_is_deployed_runs_again(tmp_path: Path) -> None:
    file = tmp_path / "line.yaml"
    file.write_text(FLOW)
    with Everything(tmp_path) as process:
        site = Site(process, tmp_path)
        assert site.json("status") == {}
        assert site.call("deploy", file).returncode == 0
        site.post("/waited", {"device": "a", "n": 1})
        file.write_text("flow: line\n")  # what was deployed counts, not the file
        process.power_cut()
        process.start()
        assert site.post("/waited", {"device": "a", "n": 2})["n"] == 2
        site.until_counted(2)
        assert [version["outcome"] for version in site.json("versions", "line")] == ["deployed"]


def test_a_flow_that_cannot_be_read_any_more_is_parked_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = FLOW.replace("flow: line", "flow: other").replace("reading", "reading2")
    for old in ("/waited", "/stats", "/load", "/ws/"):
        other = other.replace(old, f"/other{old}")
    (tmp_path / "line.yaml").write_text(FLOW)
    (tmp_path / "other.yaml").write_text(other)
    with Everything(tmp_path) as process:
        site = Site(process, tmp_path)
        assert site.call("deploy", tmp_path / "line.yaml", tmp_path / "other.yaml").returncode == 0
        process.stop()
        record = process.data / "flows" / "other" / "deployed.json"
        record.write_text(record.read_text().replace("validate", "vaildate"))
        process.ready = lambda: process.health() is not None  # type: ignore[method-assign]
        process.start()
        wait_until(lambda: site.json("status", code=1)["line"]["state"] == "running", "the other runs", within=20)
        found = site.json("status", code=1)["other"]
        assert found["state"] == "parked"
        assert "did you mean 'validate'" in found["last_error"]
        assert site.post("/waited", {"device": "a", "n": 2})["n"] == 2


def test_a_start_with_a_changed_file_deploys_it_and_refuses_to_reset(tmp_path: Path) -> None:
    file = tmp_path / "line.yaml"
    file.write_text(FLOW)
    with Millstream(tmp_path, file) as process:
        site = Site(process, tmp_path)
        site.post("/waited", {"device": "a", "n": 1})
        site.until_counted(1)
        process.stop()
        site.change(("tally: {of: result, ", "tally: {of: result, by: [device], "))
        done = site.call("run", file)
        assert done.returncode == 1
        assert "--reset-state tallied" in done.stderr
        site.change(("by: [device], ", ""), ("n: {type: int}", "n: {type: int, max: 10}"))
        process.start()
        site.post("/waited", {"device": "a", "n": 2})
        site.until_counted(2)
        assert [version["number"] for version in site.json("versions", "line")] == [1, 2]


def test_a_file_that_is_saved_is_deployed(tmp_path: Path) -> None:
    file = tmp_path / "line.yaml"
    file.write_text(FLOW)
    with Watched(tmp_path, file) as process:
        site = Site(process, tmp_path)
        file.write_text(FLOW.replace("validate:", "vaildate:"))
        wait_until(lambda: "line.yaml: not deployed" in process.output(), "lint is told", within=20)
        file.write_text(FLOW.replace("n: {type: int}", "n: {type: int, max: 10}"))
        wait_until(lambda: "line: deployed, version 2" in process.output(), "it is deployed", within=30)
        with pytest.raises(Exception, match="422"):
            site.post("/waited", {"device": "a", "n": 11})


def test_a_gateway_that_is_killed_in_the_middle_of_a_deploy_runs_one_version_whole(tmp_path: Path) -> None:
    renamed = FLOW.replace("  tallied: {from: judged,", "  t: {from: judged, was: tallied,")
    renamed = renamed.replace("{from: tallied,", "{from: t,")
    file = tmp_path / "line.yaml"
    file.write_text(FLOW)
    with Everything(tmp_path) as process:
        site = Site(process, tmp_path)
        assert site.call("deploy", file).returncode == 0
        for count in range(1, 5):
            site.post("/waited", {"device": "a", "n": 1})
            site.until_counted(count)
            file.write_text(renamed)
            deploying = subprocess.Popen([*process.command()[:3], "deploy", str(file)], env=process.environment())
            time.sleep(random.SystemRandom().uniform(0.5, 2.5))
            process.power_cut()
            deploying.wait(30)
            process.start()
            file.write_text(FLOW.replace("  tallied: {from: judged,", "  tallied: {from: judged, was: t,"))
            done = site.call("deploy", file)
            assert done.returncode == 0, done.stderr
        site.post("/waited", {"device": "a", "n": 1})
        site.until_counted(5)
        assert "started" not in [version["outcome"] for version in site.json("versions", "line")]
