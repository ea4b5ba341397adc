"""From an MQTT publish to a dashboard: milliseconds at steady rates, with a row stored for each event on the way."""

import sys

from bench.plant import Listening, Plant, plant
from bench.result import Curve, Section, at_least, at_most

TARGETS = {1_000: (10, 50), 10_000: (25, 150)}
RATES, SHORT_RATES = (100, 1_000, 2_000, 5_000, 10_000), (1_000, 10_000)
SECONDS, SHORT, WARM = 20.0, 4.0, 2.0


class Run:
    """What one steady rate gave: milliseconds from the publish to the dashboard, sorted."""

    def __init__(self, published: int, seconds: float, times: list[tuple[int, int]], rows: int) -> None:
        self.published, self.received, self.rows = published, len(times), rows
        self.rate = published / seconds
        begun = times[0][0] + WARM * 1e9
        self.latencies = sorted((got - sent) / 1e6 for sent, got in times if sent > begun)

    def percentile(self, share: float) -> float:
        """Return milliseconds that so many do not pass."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


def run(site: Plant, rate: int, seconds: float, dashboards: int = 1) -> Run:
    """Publish at a rate and listen."""
    before, listening = site.rows(), Listening(site.channel, dashboards)
    published = site.publish(rate, seconds + WARM).end()
    listening.until(published.sent)
    found = listening.end()
    return Run(published.sent, published.seconds, found, site.rows() - before)


def measure(short: bool) -> Section:
    """Return the percentiles at each rate; those that have targets are figures."""
    with plant() as site:
        site.start()
        run(site, 1_000, 1.0)
        found = {rate: run(site, rate, SHORT if short else SECONDS) for rate in (SHORT_RATES if short else RATES)}
    section = Section("Latency: MQTT publish to dashboard", [])
    for rate, (half, most) in TARGETS.items():
        one, note = found[rate], f"{found[rate].rate:,.0f} events/s reached"
        section.figures += [
            at_most(f"median at {rate:,} events/s", round(one.percentile(0.5), 2), "ms", half, note),
            at_most(f"99th percentile at {rate:,} events/s", round(one.percentile(0.99), 2), "ms", most, note),
            at_least(f"received at {rate:,} events/s", 100 * one.received / one.published, "%", 100),
        ]
    lines = {
        name: [(float(rate), one.percentile(share)) for rate, one in found.items()]
        for name, share in (("median", 0.5), ("99th percentile", 0.99))
    }
    section.curves.append(Curve("Latency against rate", "events/s", "ms", lines, log_x=True))
    section.notes.append("Mosquitto, QoS 1; validate, a keyed node, a MariaDB row each, every event to a WebSocket.")
    return section


if __name__ == "__main__":
    for figure in measure("--short" in sys.argv).figures:
        print(f"{figure.name:40} {figure.value:>12,.2f} {figure.unit:4} {figure.target:14} {figure.note}")
