"""How long nothing is processed: at a start, after a crash, at a deploy; and what an idle system costs."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import psutil

from bench.dashboard import Dashboard
from bench.plant import FLOW, Listening, Plant, plant
from bench.result import Curve, Figure, Section, at_most
from tests.process import ROOT

START_TARGET, DEPLOY_TARGET, IDLE_TARGET = 3.0, 1.5, 1.0
RUNS, SHORT_RUNS = 3, 1
IDLE, SHORT_IDLE, SETTLE = 20.0, 4.0, 4.0
FLOWS, SHORT_FLOWS = (1, 5), (1, 2)


def started(site: Plant) -> float:
    """Return the seconds from the start of the gateway's process to the first event at a dashboard."""
    publishing, arrived = site.publish(100, 8), []
    begun = time.monotonic()
    watching = threading.Thread(target=lambda: arrived.append(_first(site.channel)), daemon=True)
    watching.start()
    site.start()
    watching.join(30)
    publishing.end()
    return float(arrived[0] - begun)


def _first(channel: str) -> float:
    """Return when a dashboard that connects as soon as it can has received its first event."""
    while True:
        try:
            dashboard = Dashboard(channel)
        except OSError:
            time.sleep(0.005)
            continue
        dashboard.run(lambda count: count > 0)
        dashboard.close()
        return time.monotonic()


def gap(site: Plant, disturb: Callable[[], None], seconds: float) -> float:
    """Return the longest time in seconds without an event at the dashboard, at 1,000 events/s while something happens.

    Raises AssertionError when an event is lost.
    """
    listening, publishing = Listening(site.channel), site.publish(1_000, seconds)
    listening.until(1_000)
    disturb()
    listening.until(publishing.end().sent)
    arrivals = [received for _, received in listening.end()]
    return max(after - before for before, after in pairwise(arrivals)) / 1e9


def deploy(site: Plant) -> None:
    """Deploy the flow with another bound in its validation."""
    widest = site.file.read_text().count("max: 20}")
    text = site.file.read_text()
    site.file.write_text(text.replace("max: 20}", "max: 30}") if widest else text.replace("max: 30}", "max: 20}"))
    command = [sys.executable, "-m", "millstream", "deploy", str(site.file)]
    env = site.process.environment()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def kill(site: Plant) -> None:
    """Kill the worker."""
    for pid in site.process.worker_pids():
        psutil.Process(pid).kill()


def idle(count: int, seconds: float) -> tuple[float, float]:
    """Return the shares of a core, in percent, that the gateway and a worker use while nothing arrives."""
    with plant() as site:
        for number in range(2, count + 1):
            text = FLOW.replace("flow: bench", f"flow: bench{number}").replace("reading", f"reading{number}")
            text = text.replace("bench/+", f"bench{number}/+").replace("/ws/live", f"/ws/live{number}")
            file = site.folder / f"bench{number}.yaml"
            file.write_text(text)
            site.process.paths.append(str(file))
        site.start()
        time.sleep(SETTLE)
        gateway, *workers = site.processes()
        before = _cpu([gateway]), _cpu(workers)
        time.sleep(seconds)
        after = _cpu([gateway]), _cpu(workers)
    shares = [100 * (last - first) / seconds for first, last in zip(before, after, strict=True)]
    return shares[0], shares[1] / len(workers)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(short: bool) -> Section:
    """Return the gaps as medians, and the cost of idling."""
    runs = SHORT_RUNS if short else RUNS
    figures = [*_starts(runs), *_gaps(runs)]
    shares = {count: idle(count, SHORT_IDLE if short else IDLE) for count in (SHORT_FLOWS if short else FLOWS)}
    for count, (gateway, worker) in shares.items():
        note = f"gateway {gateway:.2f} %, a worker {worker:.2f} %"
        figures.append(
            at_most(f"idle, {count} flows, a flow", round(gateway / count + worker, 2), "%", IDLE_TARGET, note)
        )
    lines = {
        "gateway": [(float(count), gateway) for count, (gateway, _) in shares.items()],
        "a worker": [(float(count), worker) for count, (_, worker) in shares.items()],
    }
    return Section("Start, deploy, idle", figures, [Curve("CPU while idle", "flows", "% of a core", lines)])


def _starts(runs: int) -> list[Figure]:
    cold, warm = [], []
    for _ in range(runs):
        with plant() as site:
            cold.append(started(site))
            site.process.stop()
            warm.append(started(site))
    return [
        at_most("start to first event, empty data folder", _median(cold), "s", START_TARGET),
        at_most("start to first event, data folder in use", _median(warm), "s", START_TARGET),
    ]


def _gaps(runs: int) -> list[Figure]:
    with plant() as site:
        site.start()
        deploys = [gap(site, lambda: deploy(site), 6) for _ in range(runs)]
        kills = [gap(site, lambda: kill(site), 6) for _ in range(runs)]
    return [
        at_most("longest gap at a deploy, 1,000 events/s", _median(deploys), "s", DEPLOY_TARGET),
        Figure("longest gap when a worker is killed, 1,000 events/s", _median(kills), "s"),
    ]


def _median(values: list[float]) -> float:
    return round(sorted(values)[len(values) // 2], 2)


if __name__ == "__main__":
    for figure in measure("--short" in sys.argv).figures:
        print(f"{figure.name:55} {figure.value:>8,.2f} {figure.unit:3} {figure.target:10} {figure.note}")
