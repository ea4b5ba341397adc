"""The bench's own machinery: a part runs apart, a failing one costs itself only, and the results say what was found."""

import json
import textwrap
from pathlib import Path

import psutil
import pytest

from bench import plots, report
from bench.__main__ import UNKNOWN, main
from bench.record import Record, read_record, read_records
from bench.result import Curve, Figure, Section, at_least, at_most
from bench.rivals import stream
from bench.run import parts, run
from engine.load import load
from engine.mqtt_codec import Message, Packet
from engine.mqtt_codec_311 import Mqtt311
from tests.process import ROOT

CURVE = Curve("Cost against keys", "keys", "µs", {"tally": [(10, 1.5), (1_000, 1.75)]}, log_x=True)
WORKING = """
from bench.result import Curve, Section, at_least
def measure(short):
    curve = Curve("Cost against keys", "keys", "µs", {"tally": [(10, 1.5), (1000, 1.75)]}, log_x=True)
    return Section("Made up", [at_least("events", 5 if short else 50, "events/s", 10)], [curve], ["A note."])
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with parts that work, fail, hang, and one module that is no part."""
    package = tmp_path / "made_up"
    package.mkdir()
    modules = {
        "__init__": "",
        "works": WORKING,
        "fails": "def measure(short):\n    raise ValueError('nothing to measure')\n",
        "hangs": """
            import subprocess, sys, time
            def measure(short):
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "left-by-a-part"])
                time.sleep(600)
            """,
        "common": "def measured(short): ...\n",
    }
    for name, text in modules.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return package


def test_parts_are_the_modules_that_measure(made_up: Path) -> None:
    assert parts(made_up) == ["fails", "hangs", "works"]
    assert "side_by_side" in parts()


def test_a_part_runs_and_is_kept(made_up: Path, tmp_path: Path) -> None:
    record = run("works", short=False, out=tmp_path, package="made_up")
    assert record.fault == ""
    assert record.section is not None
    assert record.section.figures == [at_least("events", 50, "events/s", 10)]
    assert read_records(tmp_path, ["works", "unknown"]) == [record]


def test_a_short_run_is_kept_apart(made_up: Path, tmp_path: Path) -> None:
    whole = run("works", short=False, out=tmp_path, package="made_up")
    short = run("works", short=True, out=tmp_path, package="made_up")
    assert short.section is not None
    assert [figure.holds for figure in short.section.figures] == [False]
    assert read_record(tmp_path, "works") == whole


def test_a_part_that_fails_says_why_and_keeps_what_it_had(made_up: Path, tmp_path: Path) -> None:
    before = run("works", short=False, out=tmp_path, package="made_up")
    (made_up / "works.py").write_text((made_up / "fails.py").read_text())
    after = run("works", short=False, out=tmp_path, package="made_up")
    assert (after.section, after.at) == (before.section, before.at)
    assert after.fault == "ValueError: nothing to measure (exit code 1; works.log has it all)"
    assert f"**The last run failed**: {after.fault}" in report.markdown([after], {}, {})


def test_a_part_that_hangs_is_ended_with_all_it_has_started(made_up: Path, tmp_path: Path) -> None:
    record = run("hangs", short=True, out=tmp_path, longest=2, package="made_up")
    assert record.fault == "not done after 2 s"
    left = [
        process for process in psutil.process_iter(["cmdline"]) if "left-by-a-part" in (process.info["cmdline"] or [])
    ]
    assert left == []


def test_the_results_hold_figures_targets_plots_and_notes() -> None:
    figures = [
        at_least("rate", 1_234_567, "events/s", 600_000),
        at_most("late", 61.25, "ms", 50),
        Figure("size", 3, "B"),
    ]
    records = [
        Record("stages", "2026-01-02 03:04 UTC", 5.0, Section("Stages", figures, [CURVE], ["Why so."])),
        Record("broken", fault="OSError: no room"),
    ]
    text = report.markdown(records, {"Processor": "a fast | one"}, {"stages": [("Cost against keys", "stages-1.svg")]})
    assert "| Processor | a fast \\| one |" in text
    assert "| Stages | rate | 1,234,567 events/s | ≥ 600,000 events/s | holds |" in text
    assert "| late | 61.25 | ms | ≤ 50 ms | **does not hold** |  |" in text
    assert "| size | 3 | B |  |  |  |" in text
    assert "Measured 2026-01-02 03:04 UTC by `bench/stages.py` in 5 s." in text
    assert "![Cost against keys](plots/stages-1.svg)" in text
    assert "\n\nWhy so.\n\n## broken\n\n**The last run failed**: OSError: no room\n" in text


def test_plots_are_the_same_for_the_same_numbers_and_old_ones_go(tmp_path: Path) -> None:
    record = Record("stages", section=Section("Stages", [], [CURVE]))
    (tmp_path / "stages-9-gone.svg").write_text("")
    assert plots.draw(record, tmp_path) == [("Cost against keys", "stages-1-cost-against-keys.svg")]
    drawn = (tmp_path / "stages-1-cost-against-keys.svg").read_text()
    assert drawn == plots.svg(CURVE)
    assert "Cost against keys" in drawn
    assert [path.name for path in tmp_path.iterdir()] == ["stages-1-cost-against-keys.svg"]


@pytest.mark.parametrize("lines", [{}, {"a": []}, {"a": [(0.0, 0.0)]}, {"a": [(5.0, -1.0), (5.0, 2.0)]}])
@pytest.mark.parametrize("log", [True, False])
def test_odd_curves_are_drawn(lines: dict[str, list[tuple[float, float]]], log: bool) -> None:
    assert "<svg" in plots.svg(Curve("odd", "x", "y", lines, log_x=log, log_y=log))


def test_a_part_that_is_not_there_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["side_by_sied"]) == UNKNOWN
    assert "no part side_by_sied; there are " in capsys.readouterr().err


def test_the_stream_is_mqtt_and_its_sums_are_right() -> None:
    data, packets = b"".join(stream.packet(n) for n in range(400)), list[Packet]()
    assert Mqtt311().decode(data, packets) == len(data)
    messages = [packet for packet in packets if isinstance(packet, Message)]
    bodies = [json.loads(message.payload) for message in messages]
    assert [body["n"] for body in bodies] == list(range(400))
    kept = [
        b["n"] for m, b in zip(messages, bodies, strict=True) if m.topic != "sensor/ult01" and b["result"] != "TIMEOUT"
    ]
    assert stream.expected(400) == stream.Expected(len(kept), sum(kept), 4, 20, 399)
    assert {len(stream.payload(n)) for n in range(100_000, 101_000)} <= set(range(56, 65))


def test_the_flow_of_the_bench_lints() -> None:
    assert load(ROOT / "bench/rivals/car_line.yaml").document.findings == []


def test_the_rivals_locks_have_hashes_and_no_address() -> None:
    text = (ROOT / "bench/rivals/node_red/package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert '"resolved"' not in text
    apart = [package for path, package in packages.items() if path and not package.get("inBundle")]
    assert all(package["integrity"].startswith("sha512-") for package in apart)
    assert (
        packages[""]["dependencies"]
        == json.loads((ROOT / "bench/rivals/node_red/package.json").read_text())["dependencies"]
    )
    lock = (ROOT / "bench/rivals/requirements.lock").read_text()
    assert lock.startswith("mysqlclient==")
    assert "--hash=sha256:" in lock
    assert "://" not in lock
