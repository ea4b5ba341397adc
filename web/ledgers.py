"""The ledgers of the flows as the gateway sees them: the latest that each worker told, and the alarm."""

import time
from collections.abc import Callable

import msgspec
import structlog

from engine.frames import Report
from engine.ledger import moved

PATIENCE = 10.0
log = structlog.get_logger()


class _Told(msgspec.Struct):
    terms: dict[str, int]
    where: dict[str, int]
    head: int
    since: float | None = None
    alarmed: bool = False


class Ledgers:
    """Keeps the latest ledger of each flow, also while its worker is away; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def take(self, flow: str, report: Report) -> None:
        """Take a worker's report; a remainder that stays for ten seconds is an error that is logged once."""
        if not report.ledger:
            return
        told = _Told(report.ledger, report.unbalanced, report.head)
        before = self._told.get(flow)
        if told.where:
            told.since = before.since if before and before.since is not None else self._clock()
            told.alarmed = bool(before and before.alarmed)
        self._told[flow] = told

    def forget(self, flow: str) -> None:
        """Forget a flow that is not deployed any more."""
        self._told.pop(flow, None)

    def terms(self, flow: str, head: int) -> dict[str, int]:
        """Return the terms when the flow's inbox is committed up to `head`; empty where no worker has told any."""
        told = self._told.get(flow)
        return moved(told.terms, max(0, head - told.head)) if told else {}

    def where(self, flow: str) -> dict[str, int]:
        """Return what is lost (above 0) or doubled at which node, once it has stayed so."""
        self.watch()
        told = self._told.get(flow)
        return told.where if told and told.alarmed else {}

    def watch(self) -> None:
        """Sound the alarm for what has not balanced for ten seconds."""
        for flow, told in self._told.items():
            if told.since is not None and not told.alarmed and self._clock() - told.since >= PATIENCE:
                told.alarmed = True
                log.error("the ledger does not balance", flow=flow, where=told.where, **told.terms)
