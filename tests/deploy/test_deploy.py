"""Deploys as an integrator meets them: plan, deploy, refusals, failures and the way back, on real processes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.site import FLOW, Site
from tests.process import wait_until
from tests.services import Millstream

CRASHES = """\
from engine.api import Emit, Event, Place, Stateless, component


@component("crashes")
class Crashes(Stateless):
    \"\"\"Crash when the worker has brought it to its place so often: it does so when it loads, and when it runs.\"\"\"

    times: int
    \"\"\"How often.\"\"\"
    _so_far = [0]

    def deployed(self, place: Place) -> "Crashes":
        import sys

        self._so_far[0] += 1
        if "worker" in sys.argv and self._so_far[0] >= self.times:
            raise RuntimeError("this version cannot run")
        return self

    def apply(self, event: Event, emit: Emit) -> None:
        emit(event)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "line.yaml").write_text(FLOW)
    with Millstream(folder, folder / "line.yaml") as process:
        yield Site(process, folder)


@pytest.fixture(autouse=True)
def fresh(site: Site) -> None:
    """Begin each test with the first version, whatever the one before has done."""
    site.file.write_text(FLOW)
    if site.call("deploy", site.file, "--destructive").returncode:
        plan = site.json("plan", site.file, code=1)
        named = [node["node"] for node in plan[0]["nodes"] if node["effect"] == "reset"]
        resets = [option for name in named for option in ("--reset-state", name)]
        done = site.call("deploy", site.file, "--destructive", *resets)
        assert done.returncode == 0, done.stderr


def effects(site: Site, code: int = 0) -> dict[str, str]:
    plan = site.json("plan", site.file, code=code)[0]
    return {node["node"]: node["effect"] for node in plan["nodes"]}


def test_a_version_that_changes_nothing_is_left_alone(site: Site) -> None:
    pid = site.pid()
    assert site.json("deploy", site.file)[0]["outcome"] == "unchanged"
    assert site.pid() == pid
    assert set(effects(site).values()) == {"unchanged", "state kept"}


def test_a_restart_keeps_the_state_and_takes_another_process(site: Site) -> None:
    before, pid = site.counted(), site.pid()
    site.post("/waited", {"device": "a", "n": 1})
    site.until_counted(before + 1)
    assert site.json("deploy", site.file, "--restart")[0]["outcome"] == "restarted"
    assert site.pid() != pid
    site.post("/waited", {"device": "a", "n": 2})
    site.until_counted(before + 2)


def test_a_change_takes_effect_and_the_plan_had_announced_it(site: Site) -> None:
    before = site.counted()
    site.post("/waited", {"device": "a", "n": 1})
    site.change(("n: {type: int}", "n: {type: int, max: 10}"))
    announced = site.json("plan", site.file)[0]
    assert effects(site)["checked"] == "restarts"
    assert effects(site)["tallied"] == "state kept"
    done = site.json("deploy", site.file)[0]
    assert (done["outcome"], done["plan"]["nodes"]) == ("deployed", announced["nodes"])
    with pytest.raises(Exception, match="422"):
        site.post("/waited", {"device": "a", "n": 11})
    site.until_counted(before + 1)


def test_a_state_of_another_form_is_refused_with_the_three_choices(site: Site) -> None:
    site.post("/waited", {"device": "a", "n": 1})
    before, pid = site.counted(), site.pid()
    site.change(("tally: {of: result, ", "tally: {of: result, by: [device], "))
    assert effects(site, code=1)["tallied"] == "reset"
    done = site.call("deploy", site.file)
    assert done.returncode == 1
    for choice in ("old form back", "`was:`", "--reset-state tallied"):
        assert choice in done.stderr
    assert (site.pid(), site.counted()) == (pid, before)
    assert site.call("deploy", site.file, "--reset-state", "tallied").returncode == 0
    site.post("/waited", {"device": "a", "n": 2})
    site.until_counted(1)


def test_a_node_that_is_renamed_keeps_its_state(site: Site) -> None:
    site.post("/waited", {"device": "a", "n": 1})
    wait_until(lambda: site.counted() > 0, "it is counted", within=10)
    before = site.counted()
    site.change(("tallied:", "counts:"), ("from: tallied", "from: counts"))
    assert effects(site, code=1)["tallied"] == "reset"
    site.change(("counts: {from: judged,", "counts: {from: judged, was: tallied,"))
    assert effects(site)["counts"] == "state migrated"
    assert site.call("deploy", site.file).returncode == 0
    site.post("/waited", {"device": "a", "n": 2})
    site.until_counted(before + 1)
    again = site.call("deploy", site.file)
    assert "unchanged" in again.stdout, again.stdout + again.stderr
    site.change(("counts: {from: judged, was: tallied,", "tallied: {from: judged, was: counts,"))
    site.change(("from: counts", "from: tallied"))
    assert site.call("deploy", site.file).returncode == 0
    site.post("/waited", {"device": "a", "n": 3})
    site.until_counted(before + 2)


@pytest.mark.parametrize("times", [1, 2], ids=["when it loads", "when it runs"])
def test_a_version_whose_worker_crashes_is_given_up_and_nothing_is_lost(site: Site, times: int) -> None:
    (site.folder / "operators").mkdir(exist_ok=True)
    (site.folder / "operators" / "crashes.py").write_text(CRASHES)
    site.post("/waited", {"device": "a", "n": 1})
    before, pid = site.counted(), site.pid()
    broken = f"  broken: {{from: checked, crashes: {{times: {times}}}}}\n  judged: {{from: broken"
    site.change(("  judged: {from: checked", broken))
    done = site.call("deploy", site.file)
    assert done.returncode == 1
    assert "this version cannot run" in done.stderr
    assert (site.pid() == pid) == (times == 1)  # what cannot be loaded does not even stop the version that runs
    assert site.json("status")["line"]["state"] == "running"
    site.post("/waited", {"device": "a", "n": 2})
    site.until_counted(before + 1)
    last = site.json("versions", "line")[-1]
    assert (last["outcome"], last["deployed"]) == ("failed", False)
    assert "this version cannot run" in last["reason"]


def test_a_file_with_findings_is_not_deployed(site: Site) -> None:
    site.change(("validate:", "vaildate:"))
    done = site.call("deploy", site.file)
    assert done.returncode == 1
    assert f"{site.file}:9:" in done.stderr
    assert "did you mean 'validate'" in done.stderr


def test_a_rollback_goes_to_any_version_and_says_who_did_it(site: Site) -> None:
    number = next(version["number"] for version in site.json("versions", "line") if version["deployed"])
    site.change(
        ("max: 10}", "max: 10}") if "max: 10" in site.file.read_text() else ("type: int}", "type: int, max: 9}")
    )
    site.json("deploy", site.file, "--author", "maria")
    with pytest.raises(Exception, match="422"):
        site.post("/waited", {"device": "a", "n": 11})
    assert site.json("rollback", "line", "--author", "otto")["outcome"] == "deployed"
    assert site.post("/waited", {"device": "a", "n": 11})["n"] == 11
    last = site.json("versions", "line")[-1]
    assert (last["author"], last["rolled_back_to"], last["deployed"]) == ("otto", number, True)
    shown = site.call("versions", "line", last["number"]).stdout
    assert "-  checked:" in shown
    assert "+  checked:" in shown


def test_tables_grow_by_themselves_and_shrink_with_consent_only(site: Site) -> None:
    site.post("/waited", {"device": "a", "n": 1})
    site.change(("n: int, created_at", "n: int, place: text(9), created_at"))
    site.change(("n: {type: int}}", "n: {type: int}, place: {type: text, required: false}}"))
    plan = site.json("plan", site.file)[0]
    assert any("place" in line for line in plan["tables"]), plan["tables"]
    assert site.call("deploy", site.file).returncode == 0
    assert site.post("/waited", {"device": "a", "n": 1, "place": "hall"})["place"] == "hall"
    site.file.write_text(FLOW)
    assert any("it stays" in line for line in site.json("plan", site.file)[0]["tables"])
    assert site.call("deploy", site.file, "--destructive").returncode == 0
    assert "place" not in site.rows()[0]
    site.change(("device: text(20)", "device: text(3)"))
    site.post("/waited", {"device": "long", "n": 1})
    assert site.json("plan", site.file, code=1)[0]["destructive"]
    assert "--destructive" in site.call("deploy", site.file).stderr


def test_what_comes_while_it_is_deployed_waits_and_is_processed_once(site: Site) -> None:
    answers: list[int] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            n = 100_000 + len(answers)
            answers.append(site.post("/readings", {"device": "load", "n": n})["accepted"])

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    for factor in range(2, 5):
        site.change((f"factor: {{default: {factor - 1}}}", f"factor: {{default: {factor}}}"))
        assert site.json("deploy", site.file)[0]["outcome"] == "deployed"
    stop.set()
    sender.join(20)
    assert len(answers) > 10
    wait_until(lambda: site.get("/load")["stored"] >= len(answers), "all are stored", within=30)
    assert site.get("/load") == {"stored": len(answers), "different": len(answers)}


def test_another_flow_comes_and_goes_without_touching_the_first(site: Site) -> None:
    other = site.folder / "other.yaml"
    text = (
        FLOW.replace("flow: line", "flow: other")
        .replace("reading:", "reading2:")
        .replace("table: reading", "table: reading2")
    )
    other.write_text(text)
    assert "POST /readings is that of line.posted" in site.call("deploy", other).stderr
    other.write_text(
        text.replace("/readings", "/r2")
        .replace("/waited", "/w2")
        .replace("/stats", "/s2")
        .replace("/load", "/l2")
        .replace("/ws/", "/v/")
    )
    pid = site.pid()
    done = site.call("deploy", other)
    assert done.returncode == 0, done.stderr
    assert site.post("/w2", {"device": "a", "n": 5})["n"] == 5
    assert "line,other" in ",".join(site.json("status"))
    assert site.call("undeploy", "other").returncode == 0
    with pytest.raises(Exception, match="404"):
        site.post("/w2", {"device": "a", "n": 5})
    assert site.pid() == pid
    again = site.json("deploy", other)[0]["plan"]
    assert {node["effect"] for node in again["nodes"]} == {"unchanged", "state kept"}
    site.post("/w2", {"device": "a", "n": 6})
    wait_until(lambda: site.get("/s2")["total"] == 2, "its count goes on where it stood", within=20)
    assert site.call("undeploy", "other").returncode == 0


def test_commands_without_a_gateway_say_so(tmp_path: Path, site: Site) -> None:
    elsewhere = Site(Millstream(tmp_path), tmp_path)
    done = elsewhere.call("status")
    assert done.returncode == 3
    assert "no gateway runs on the data folder" in done.stderr
    assert site.call("rollback", "lime").returncode == 2
