"""The life of an alert: how long conditions hold, when it fires, changes, is quiet and ends. Pure: time is given.

A key has one alert at a time. Each level has a hold; the alert is at the highest level whose hold is raised:

    condition ─▶ held ── for ──▶ raised ─▶ fired ─▶ escalated, eased, repeated, acknowledged, muted … ─▶ cleared
                                   │ ◀── clear_for ── its end holds
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from engine.alert_watch import Act, Hold, Judged, Watch

__all__ = ["Act", "Hold", "Judged", "Machine", "Rule", "Watch"]


class Rule(msgspec.Struct, frozen=True):
    """One level: how long its condition must hold; `silence`: the condition is that nothing comes.

    Where it `varies`, readings say how long; `wait` is for those that do not.
    """

    level: str
    wait: int
    silence: bool = False
    varies: bool = False

    def waits(self, hold: Hold) -> int:
        """Return how long the condition must hold."""
        return hold.wait if self.varies and hold.wait >= 0 else self.wait


class Machine(msgspec.Struct, frozen=True):
    """The rules of a node, the lowest level first; durations in microseconds, 0: none."""

    rules: Sequence[Rule]
    clear_for: int = 0
    again_after: int = 0
    repeat: int = 0
    forget: int = 0

    def rank(self, level: str) -> int:
        """Return how severe a level is; one that is no level any more is the least."""
        for rank, rule in enumerate(self.rules):
            if rule.level == level:
                return rank
        return -1

    def top(self, watch: Watch) -> Rule | None:
        """Return the highest level that is raised."""
        found, holds = None, watch.holds
        for rule in self.rules:
            if (hold := holds.get(rule.level)) is not None and hold.raised:
                found = rule
        return found

    def observe(self, watch: Watch, rule: Rule, judged: Judged, now: int, wait: int = -1) -> None:
        """Take what a reading says of a level, and how long its condition must hold (-1: nothing)."""
        holds, ends = judged
        hold = watch.holds.get(rule.level)
        if hold is None:
            hold = watch.holds[rule.level] = Hold()
        if wait >= 0:
            hold.wait = wait
        if rule.silence:
            hold.since, hold.base, holds, ends = now, now, None, True
            hold.lost = hold.lost if hold.raised else 0
        if hold.raised and ends is not None:
            hold.fading = (hold.fading - hold.lost if hold.fading else now) if ends else 0
            hold.lost = 0
        elif not hold.raised and holds is not None:
            begun = holds and hold.since
            hold.since, hold.base = (hold.since, hold.base - hold.lost) if begun else (now, now) if holds else (0, 0)
            hold.lost = 0

    def settle(self, watch: Watch, now: int) -> Iterator[str]:
        """Let time be `now`, and yield each change when the watch shows it."""
        for rule in self.rules:
            self._advance(watch.holds.get(rule.level), rule, now)
        top = self.top(watch)
        watch.latched = watch.latched and top is not None
        if watch.level:
            yield from self._go_on(watch, top, now)
        elif top is not None and not watch.latched and now >= self._again(watch):
            yield from self._begin(watch, top, now)
        if watch.muted and watch.muted <= now:
            watch.muted = 0
            if watch.level:
                watch.reminded = now
                yield "unmuted"

    def _go_on(self, watch: Watch, top: Rule | None, now: int) -> Iterator[str]:
        if top is None:
            yield from self.end(watch)
        elif top.level != watch.level:
            yield from self._move(watch, top, now)
        elif self._reminds(watch) and watch.reminded + self.repeat <= now:
            watch.reminded = now
            yield "repeated"

    def _advance(self, hold: Hold | None, rule: Rule, now: int) -> None:
        if hold is None or not (hold.since or hold.raised):
            return
        if not hold.raised:
            hold.raised = hold.base + rule.waits(hold) <= now
        elif hold.fading and rule.silence and hold.base + rule.wait <= now:
            hold.fading = 0
        elif hold.fading and hold.fading + self.clear_for <= now:
            hold.raised, hold.fading, hold.lost = False, 0, 0
            if not rule.silence:
                hold.since = hold.base = 0

    def _begin(self, watch: Watch, top: Rule, now: int) -> Iterator[str]:
        watch.level, watch.since = top.level, watch.holds[top.level].since
        watch.start = watch.fired = watch.reminded = now
        watch.episode += 1
        watch.number = 0
        yield "fired"

    def _move(self, watch: Watch, top: Rule, now: int) -> Iterator[str]:
        worse = self.rank(top.level) > self.rank(watch.level)
        watch.level, watch.reminded = top.level, now
        if worse:
            watch.acknowledged, watch.by = 0, ""
        yield "escalated" if worse else "eased"

    def end(self, watch: Watch) -> Iterator[str]:
        """End the alert that is open."""
        yield "cleared"
        watch.level, watch.acknowledged, watch.by, watch.count = "", 0, "", 0

    def act(self, watch: Watch, act: Act) -> Iterable[str]:
        """Do what somebody asks for, and yield the changes."""
        if act.do == "mute":
            return self.mute(watch, act.length, act.at)
        return self.clear(watch, act.by) if act.do == "clear" else self.acknowledge(watch, act.by, act.at)

    def acknowledge(self, watch: Watch, by: str, now: int) -> Iterator[str]:
        """Take note that somebody sees to it: no reminder comes any more."""
        if watch.level and not watch.acknowledged:
            watch.acknowledged, watch.by = now, by
            yield "acknowledged"

    def clear(self, watch: Watch, by: str) -> Iterator[str]:
        """End it by hand: the next one begins when the condition has ended and holds again."""
        if not watch.level:
            return
        watch.by = by
        yield from self.end(watch)
        for rule in self.rules:
            if rule.silence:
                watch.holds.pop(rule.level, None)
        watch.latched = self.top(watch) is not None

    def mute(self, watch: Watch, length: int, now: int) -> Iterator[str]:
        """Let it be quiet for a time; 0 ends that."""
        watch.heard = max(watch.heard, now)
        if length:
            watch.muted = now + length
            if watch.level:
                yield "muted"
        elif watch.muted:
            watch.muted = now
            yield from self.settle(watch, now)

    def is_due(self, watch: Watch, now: int) -> bool:
        """Tell whether `settle` or `is_over` may have something to say."""
        if watch.level and self.rank(watch.level) < 0:
            return True
        due = self.due(watch)
        return (due is not None and due <= now) or not (watch.level or watch.episode)

    def due(self, watch: Watch) -> int | None:
        """Return when something happens if nothing comes."""
        times = [act.at for act in watch.acts]
        for rule in self.rules:
            if (hold := watch.holds.get(rule.level)) is not None:
                self._ends(hold, rule, times)
        if watch.muted:
            times.append(watch.muted)
        if watch.level:
            if self._reminds(watch):
                times.append(watch.reminded + self.repeat)
        elif not watch.latched and self.top(watch) is not None:
            times.append(self._again(watch))
        elif not times:
            times.append(watch.heard + self.forget)
        return min(times, default=None)

    def _ends(self, hold: Hold, rule: Rule, times: list[int]) -> None:
        if hold.raised and hold.fading:
            times.append(hold.fading + self.clear_for)
        if hold.since and (not hold.raised or (hold.fading and rule.silence)):
            times.append(hold.base + rule.waits(hold))

    def _again(self, watch: Watch) -> int:
        return watch.fired + self.again_after if watch.fired else 0

    def _reminds(self, watch: Watch) -> bool:
        return bool(self.repeat and not watch.acknowledged and not watch.muted)

    def is_over(self, watch: Watch, now: int) -> bool:
        """Tell whether there is nothing to remember of the key."""
        if (
            watch.level
            or watch.muted
            or watch.acts
            or any(hold.since and not hold.raised for hold in watch.holds.values())
        ):
            return False
        if watch.latched or self.top(watch) is not None:
            return watch.latched and watch.heard + self.forget <= now
        return not watch.episode or watch.heard + self.forget <= now

    def shift(self, watch: Watch, length: int) -> None:
        """Let all holds begin later by a time in which nothing could come."""
        for hold in watch.holds.values():
            if hold.since:
                hold.base += length
                hold.fading += length if hold.fading else 0
                hold.lost += length
