"""`python -m bench`: what the parts cost, one table; quote ratios of one run, since machines are noisy."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench import inbox, recovery
from engine.decode import Decoding
from engine.event import stream_prefix
from engine.harness import Sent, block_of
from engine.keyed import SHARDS
from engine.load import load_text
from engine.plan import Plan, Run

FLOW = """
flow: bench
sources: {station: {mqtt: {topics: [sensor/result]}}}
operators:
  verdict:
    from: station
    validate: {device: {type: text, case: upper, max: 50}, result: {type: text, case: upper, one_of: [OK, DEFECT]}}
  marked:  {from: verdict, set: {bad: result == "DEFECT", short: length(device) < 8, text: device + "/" + result}}
  stats:   {from: marked, key: device, tally: {of: result}}
  minutes: {from: marked, key: device, window: {every: 1m}}
sinks:
  out: {from: [stats, minutes], log: {}}
"""
EVENTS = 200_000
OUT = Path(__file__).parent / "out"


def best(call: Callable[[], object], runs: int = 3) -> float:
    """Return the shortest time of some runs, in seconds."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def stages(keys: int) -> dict[str, float]:
    """Return events a second of decoding, of the stateless stretch with it, and of each keyed node alone."""
    flow = load_text(FLOW).raise_findings()
    plan, decoding, prefix = Plan(flow), Decoding(flow), stream_prefix("bench")
    payloads = [
        b'{"device":"led%d","result":"%s"}' % (i % keys, b"DEFECT" if i % 9 == 0 else b"OK") for i in range(EVENTS)
    ]
    blocks = [
        block_of([Sent(i, "station", payload, "sensor/result") for payload in payloads[i : i + 2000]], i + 1, i * 1000)
        for i in range(0, EVENTS, 2000)
    ]
    found = {"decode": EVENTS / best(lambda: [decoding.runs([b], prefix) for b in blocks])}
    items = [plan.source.run(decoding.runs([block], prefix)) for block in blocks]
    found["decode, validate, three expressions"] = EVENTS / best(
        lambda: [plan.source.run(decoding.runs([b], prefix)) for b in blocks]
    )
    for keyed in plan.keyed:
        chosen = [[(s, chunk) for port, s, chunk in item if port == keyed.node.name] for item in items]

        def run(keyed=keyed, chosen=chosen) -> None:  # type: ignore[no-untyped-def]
            life = Run(plan)
            shards = {s: life.shard(keyed, s, None) for s in SHARDS}
            for batch in chosen:
                for s, chunk in batch:
                    shards[s].on_batch([chunk])

        found[f"{keyed.node.kind}, {keys} keys"] = EVENTS / best(run)
    return found


def main() -> None:
    """Measure and print."""
    found = stages(10) | {name: rate for name, rate in stages(1000).items() if "keys" in name}
    print(f"{platform.machine()}, Python {platform.python_version()}; events a second, best of three, one core")
    for name, rate in found.items():
        print(f"{name:40} {rate:12,.0f}")
    OUT.mkdir(exist_ok=True)
    (OUT / "stages.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    inbox.main()
    (OUT / "recovery.json").write_bytes(msgspec.json.format(msgspec.json.encode(recovery.main())))


if __name__ == "__main__":
    main()
