"""The car inspection work side by side: Millstream, Node-RED twice, and a script written by hand as the limit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from bench.result import Curve, Figure, Section, at_least
from bench.rivals.arena import Match, Run, database, match
from bench.rivals.contestants import (
    CONTESTANTS,
    ByHand,
    Contestant,
    MillstreamRuns,
    NodeRedBatched,
    NodeRedOne,
)
from tests.services import MariaDB

COUNTS = {MillstreamRuns: 60_000, NodeRedOne: 12_000, NodeRedBatched: 40_000, ByHand: 60_000}
"""How many messages a part has; more than 65,535 in Mosquitto's queue would make it use packet ids again too early."""
RATES, SHORT_RATES = (500, 1_000, 2_000, 5_000, 10_000, 20_000), (1_000, 5_000)
SECONDS, ROUNDS, TIMES, WITHIN_REACH = 3.0, 3, 2, 0.8
TARGETS: dict[type[Contestant], float] = {NodeRedOne: 10, NodeRedBatched: 3, ByHand: 0.5}
Kind = type[Contestant]
LIVE, BACKLOG = "while it is published", "from a backlog"


class Score(msgspec.Struct):
    """What a contestant did: a run a round while it was published, one from a backlog, one at each rate."""

    live: list[Run] = []
    backlog: list[Run] = []
    steady: list[Run] = []

    def of(self, kind: str) -> list[Run]:
        """Return the runs of a kind."""
        return self.live if kind == LIVE else self.backlog


class Contest:
    """Runs everybody, one after the other."""

    def __init__(self, folder: Path, server: MariaDB, short: bool) -> None:
        self._folder, self._server, self._short, self._matches = folder, server, short, 0
        self.scores = {kind: Score() for kind in CONTESTANTS}

    def run(self) -> dict[Kind, Score]:
        """Return all scores; those who take part take turns."""
        for _ in range(1 if self._short else ROUNDS):
            for kind in CONTESTANTS:
                self._in_a_match(kind, self._flood)
        for kind in CONTESTANTS:
            self._in_a_match(kind, self._steady)
        return self.scores

    def _in_a_match(self, kind: Kind, play: Callable[[Kind, Match], None]) -> None:
        self._matches += 1
        with match(kind, self._folder / f"match{self._matches}", self._server) as found:
            play(kind, found)

    def _flood(self, kind: Kind, match: Match) -> None:
        count = COUNTS[kind] // (4 if self._short else 1)
        for _ in range(1 if self._short else TIMES):
            self.scores[kind].live.append(match.part(count))
            self.scores[kind].backlog.append(match.backlog(count))

    def _steady(self, kind: Kind, match: Match) -> None:
        reach = WITHIN_REACH * median(run.rate for run in self.scores[kind].live)
        for rate in SHORT_RATES if self._short else RATES:
            if rate <= reach:
                self.scores[kind].steady.append(match.part(int(rate * SECONDS), rate))


def measure(short: bool) -> Section:
    """Return rows/s, their ratios, what a message costs, and the curves of latency."""
    with database() as (folder, server):
        scores = Contest(folder, server, short).run()
    figures = [figure for kind in (LIVE, BACKLOG) for figure in _rates(scores, kind)]
    figures += [figure for kind, score in scores.items() for figure in _costs(kind, score)]
    return Section("Side by side: the car inspection work", figures, _curves(scores), _notes(scores))


def _rates(scores: dict[Kind, Score], kind: str) -> list[Figure]:
    figures = []
    for who, score in scores.items():
        rates = [run.rate for run in score.of(kind)]
        rounds = "runs: " + ", ".join(f"{rate:,.0f}" for rate in rates)
        figures.append(Figure(f"{who.title}, {kind}", round(median(rates)), "rows/s", note=rounds))
    ours = scores[MillstreamRuns].of(kind)
    for who, least in TARGETS.items():
        ratio = median(mine.rate / other.rate for mine, other in zip(ours, scores[who].of(kind), strict=True))
        figures.append(at_least(f"Millstream against {who.title}, {kind}", round(ratio, 2), "times", least))
    return figures


def _costs(kind: Kind, score: Score) -> list[Figure]:
    both = score.live + score.backlog
    live, late = (median(run.cpu for run in runs) for runs in (score.live, score.backlog))
    broker, server = (median(run.server_cpu[at] / run.order.count * 1e6 for run in score.live) for at in (0, 1))
    note = f"from a backlog {late:.1f} µs; besides, Mosquitto {broker:.1f} µs and MariaDB {server:.1f} µs"
    reached = 100 * sum(len(run.seen) for run in both) / sum(run.defects for run in both)
    return [
        Figure(f"{kind.title}: CPU a message", round(live, 1), "µs", note=note),
        Figure(f"{kind.title}: memory at most", round(max(run.cost.peak for run in both)), "MiB"),
        Figure(f"{kind.title}: defects that reached the dashboards", round(reached, 2), "%"),
    ]


def _curves(scores: dict[Kind, Score]) -> list[Curve]:
    return [
        _curve("From a publish to a visible row", scores, Run.to_row),
        _curve("From a publish to a dashboard", scores, Run.to_dashboard),
    ]


def _curve(title: str, scores: dict[Kind, Score], times: Callable[[Run], list[float]]) -> Curve:
    lines: dict[str, list[tuple[float, float]]] = {}
    for kind, score in scores.items():
        for run in score.steady:
            found = times(run)
            for name, share in (("median", 0.5), ("99th percentile", 0.99)):
                point = (run.order.rate, round(found[int(share * len(found))], 2))
                lines.setdefault(f"{kind.title}: {name}", []).append(point)
    return Curve(title, "offered messages/s", "ms", lines, log_x=True, log_y=True)


def _notes(scores: dict[Kind, Score]) -> list[str]:
    counts = ", ".join(f"{kind.title} {score.live[0].order.count:,}" for kind, score in scores.items())
    return [
        "Everybody gets the same stream from the same publisher (`bench/rivals/stream.py`: 60 bytes of JSON, QoS 1, "
        "a new car every 20 messages, 1 % defects for 10 dashboards, 1 % to be refused), on the same MariaDB and on "
        "a Mosquitto without old sessions, and is warmed up by 2,000 messages. So that a run lasts some seconds for "
        f"each, the parts differ in length: {counts}. Median of the rounds, in which all take turns; ratios are "
        "taken within a round.",
        "A run counts only when each row is in the table once and with the right car, and each car too. Rows/s are "
        "those from the first publish to the last visible row. From a backlog: the contestant is held (SIGSTOP) "
        "while the messages queue at the broker, and the time runs from when it may go on.",
        "Node-RED's flows (`bench/rivals/node_red`) acknowledge a message before its row is written, and keep the "
        "counts and the car's number in memory: a crash loses what is on the way. The script by hand "
        "(`bench/rivals/by_hand.py`) acknowledges when rows are committed, and has nothing else of what a flow "
        "needs. Millstream has each message in its durable inbox before it acknowledges it, snapshots its states, "
        "and keeps what is refused as dead letters.",
        "In the curves, the latency counts from when a message was due, and a rate is left out where it is above "
        f"{WITHIN_REACH:.0%} of what the contestant has managed while it was published.",
    ]


if __name__ == "__main__":
    found = measure("--short" in sys.argv)
    for figure in found.figures:
        print(f"{figure.name:70} {figure.value:>12,.2f} {figure.unit:8} {figure.target:14} {figure.note}")
    for curve in found.curves:
        print(curve.title, curve.lines)
