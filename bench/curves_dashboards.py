"""What one more dashboard costs: CPU of the gateway for each push, and memory."""

import sys

import msgspec

from bench.fanout import FLOW, FanOut
from bench.gateway import gateway
from bench.result import Curve, Figure, Section

COUNTS, SHORT_COUNTS, SECONDS, SHORT = (1, 10, 100, 1_000, 5_000), (1, 10, 100), 2.0, 1.0


def measure(short: bool) -> Section:
    """Return the cost of a push and of a client over the number of clients."""
    found = []
    for count in SHORT_COUNTS if short else COUNTS:
        with gateway(FLOW) as site:
            found.append(FanOut(site, count, SHORT if short else SECONDS))
    first, last = found[0], found[-1]
    push = [(float(one.count), one.cost * one.count) for one in found]
    memory = [(float(one.count), one.memory / 1024) for one in found if one.count >= 100]
    figures = [
        Figure("a push to 1 dashboard", first.cost, "µs of CPU"),
        Figure(f"a push to {last.count:,} dashboards", last.cost * last.count / 1e3, "ms of CPU"),
        Figure("one more dashboard", (push[-1][1] - push[0][1]) / (last.count - first.count), "µs of CPU a push"),
        Figure(f"memory of a client, {last.count:,} of them", last.memory / 1024, "KiB"),
    ]
    curves = [
        Curve("Dashboards: one push to all", "clients", "µs of CPU of the gateway", {"push": push}, True, True),
        Curve("Dashboards: memory of the gateway", "clients", "KiB a client", {"client": memory}, log_x=True),
    ]
    return Section("1 to 5,000 dashboards", figures, curves, NOTES)


NOTES = [
    "As fast as the audience hears, four events on their way. What a push costs besides its frames (the request, the "
    "commit, the way through the worker) is in the cost at one dashboard."
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
