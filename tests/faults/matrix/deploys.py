"""The rows of deploying under load: unchanged, changed, and a version that cannot run."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.faults.matrix.check import Outcome, outcome
from tests.faults.matrix.load import Spec
from tests.faults.matrix.rig import Rig, Services
from tests.faults.matrix.scale import Scale

CHOSEN = "where: n % settings.every == 0"
OTHERWISE = "where: n % settings.every == 0 and n > 0"
REASON = "the camera of this version is not there"
SINK = f'''"""A sink that cannot be opened."""

from millstream import Event, Node, Outside, Sink, Writer, component


@component("crash")
class Crash(Sink):
    """Fail when the worker starts."""

    guarantee = "none"

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Fail."""
        raise RuntimeError("{REASON}")
'''


def redeploys(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Deploy the flow unchanged and changed in turn."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        surprises = []
        for _ in range(scale.redeploys):
            surprises += _deploy(rig, changed=False)
            rig.run_for(scale.pause / 3)
            surprises += _deploy(rig, changed=True)
            rig.run_for(scale.pause / 3)
        final = rig.finish()
        found = outcome("redeploy", rig, final, time.monotonic() - rig.began)
    found.fault = f"redeploy of an unchanged and of a changed flow, {scale.redeploys} times each"
    found.must(not surprises, f"not as the plan said: {surprises[:3]}")
    refused = found.http_errors + found.busy + final.status.cut
    found.must(not refused, f"{found.busy} requests told to come later, {final.status.cut} cut off")
    return found


def _deploy(rig: Rig, *, changed: bool) -> list[str]:
    """Deploy, and return what the deploy did otherwise than the plan before it had said."""
    text = rig.flow.read_text()
    if changed:
        new, old = (CHOSEN, OTHERWISE) if OTHERWISE in text else (OTHERWISE, CHOSEN)
        rig.flow.write_text(text.replace(old, new))
    planned = _json(rig.command("plan", rig.flow, "--json"))
    began = time.time()
    done = _json(rig.command("deploy", rig.flow, "--json", *([] if changed else ["--restart"])))
    rig.recovers(began, "the deploy had begun")
    wanted = "deployed" if changed else "restarted"
    surprises = [] if done["outcome"] == wanted else [f"{done['outcome']}, not {wanted}"]
    surprises += [] if planned["unchanged"] is not changed else [f"planned as unchanged: {planned['unchanged']}"]
    return surprises + _differences(planned, done["plan"])


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, f"{done.args[2:]} ended with {done.returncode}: {done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def _differences(planned: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """Compare the effect on each node, and the other sections; how many keys a state has may grow meanwhile."""
    effects = [{node["node"]: node["effect"] for node in plan["nodes"]} for plan in (planned, made)]
    found = [f"{name}: {was}, then {effects[1].get(name)}" for name, was in effects[0].items()]
    found = [text for text, (name, was) in zip(found, effects[0].items(), strict=True) if effects[1].get(name) != was]
    parts = ("sections", "tables", "destructive", "unchanged")
    return found + [f"{part}: {planned[part]}, then {made[part]}" for part in parts if planned[part] != made[part]]


def bad_version(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Deploy a version whose worker ends at its start."""
    with Rig(folder, services, Spec("", "", "", scale.rate)) as rig:
        rig.run_for(scale.pause)
        (rig.folder / "sinks").mkdir()
        (rig.folder / "sinks" / "crash.py").write_text(SINK)
        good = rig.flow.read_text()
        rig.flow.write_text(good.replace("sinks:\n", "sinks:\n  broken: {from: checked, crash: {}}\n"))
        began = time.time()
        tried = rig.command("deploy", rig.flow)
        rig.recovers(began, "the deploy had begun")
        rig.run_for(scale.pause)
        status = json.loads(rig.command("status", "--json").stdout)["matrix"]
        final = rig.finish()
        found = outcome("bad version", rig, final, time.monotonic() - rig.began)
    found.fault = "a bad version deployed"
    said = (tried.stderr.strip().splitlines() or ["nothing"])[-1]
    found.notes.append(f"it said: {said}")
    found.must(tried.returncode not in (0, None) and REASON in tried.stderr, f"deploy gave {tried.returncode}: {said}")
    found.must(status["state"] == "running" and status["version"] == 1, f"afterwards: {status['state']}")
    return found
