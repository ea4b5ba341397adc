"""The events of one node that wait for answers from outside, in the order of arrival, with the time behind them.

    chunks, marks ─▶ line: question, question, mark, question ─▶ out, as far as the head of the line is answered

The line is the node's state: whatever waits is in the snapshot, and is asked for again after a restart. Its order is
that of arrival, and a mark waits behind the events that came before it. So what comes out is what would come out if
each answer were there at once, except that it comes later.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from engine.asking import Asking, NoAnswer, Question
from engine.errors import EventFault
from engine.event import Event
from engine.keyed import Mark, Shard
from engine.outstanding import Asker, Outstanding, Ready
from engine.snapshot import encoded

ALL = ""
WAITS_BEYOND = {"wait": 1, "fallback": 2}


class Desk(Shard):
    """The one shard of a node that asks; `behind` are the nodes whose time depends on it."""

    operator: Asking

    def __init__(self, *of_shard: Any, outstanding: Outstanding, behind: frozenset[str]) -> None:
        super().__init__(*of_shard)
        self._terms = self.operator.terms()
        self._outstanding, self._behind = outstanding, behind
        self._line: deque[Question | int] = deque()
        self._waiting = self._fallbacks = 0
        self._last_mark: int | None = None
        self._asker: Asker | None = None
        self._restored: list[Event] = []

    def restore(self, snapshot: bytes) -> None:
        """Take the events of a snapshot; they are asked for again with the first item, when all else is there too."""
        super().restore(snapshot)
        self._restored = self.states.get(ALL, [])

    def snapshot(self) -> bytes:
        """Return the events that wait, as bytes."""
        if self._bytes is None:
            waiting = [entry.event for entry in self._line if isinstance(entry, Question)]
            self.states = {ALL: waiting} if waiting else {}
            self._bytes = encoded(self.now, self.states)
        return self._bytes

    def on_items(self, items: Iterable[list[Event] | Mark | Ready]) -> list[tuple[str, list[Any]] | Mark]:
        """Take events and marks; return what has come to its turn."""
        self._ask_again()
        for item in items:
            if isinstance(item, Mark):
                self._hold(item)
            elif not isinstance(item, Ready):
                self._came += len(item)
                self._take(item)
        return self._served()

    def counts(self) -> dict[str, int]:
        """Return how many wait, went on without an answer, how often was asked again, and if nobody is asked."""
        asker = self._asker
        asks = {"retries": asker.retries, "away": int(asker.open)} if asker else {"retries": 0, "away": 0}
        return {"waiting": self._waiting, "fallbacks": self._fallbacks, **asks}

    def _ask_again(self) -> None:
        if self._restored:
            events, self._restored = self._restored, []
            self._take(events)

    def _take(self, events: list[Event]) -> None:
        questions = [self._question(event) for part in self.live.events(events) for event in part]
        self._line += questions
        self._bytes = None
        self._ask(self._with_room([question for question in questions if not question.done]))
        self._waiting += len(questions)
        self._tell_room()

    def _question(self, event: Event) -> Question:
        """Return what is asked for an event, by what is known at its arrival."""
        question = Question(event)
        try:
            question.request = self.operator.request(event)
        except Exception as fault:
            question.settle(fault=fault)
        return question

    def _with_room(self, questions: list[Question]) -> list[Question]:
        """Return those that are asked; settle the others."""
        if self.operator.muted:
            room, reason = 0, NoAnswer("an answer; a replay asks nobody", "open")
        elif self._terms.when_full == "fallback":
            room, reason = max(0, self._terms.most - self._waiting), NoAnswer("an answer; too many wait", "full")
        else:
            return questions
        for question in questions[room:]:
            question.settle(fault=reason)
        return questions[:room]

    def _ask(self, questions: list[Question]) -> None:
        if not questions:
            return
        if self._asker is None:
            self._asker = self._outstanding.asker(self.node, self.operator)
            self._outstanding.counting[self.node] = self.counts
        self._asker.put(questions)

    def _hold(self, mark: Mark) -> None:
        """Put a mark behind what waits; two in a row are one."""
        self._marks[mark.stage] = mark.time
        time = min(self._marks.values())
        if time <= self._through:
            return
        self._through = self._last_mark = time
        if self._line and isinstance(self._line[-1], int):
            self._line[-1] = time
        else:
            self._line.append(time)

    def _served(self) -> list[tuple[str, list[Any]] | Mark]:
        """Return what is at the head of the line as far as it is answered."""
        found: list[tuple[str, list[Any]] | Mark] = []
        line, before = self._line, self._waiting
        while line:
            head = line[0]
            if isinstance(head, int):
                found += self.outputs.take()
                found.append(Mark(self.node, head))
                self._last_mark = None if head == self._last_mark else self._last_mark
            elif head.done:
                self._serve(head)
                self._waiting -= 1
            else:
                break
            line.popleft()
        if self._waiting != before:
            self._bytes = None
            self._tell_room()
        self.clock.promise(self.node, self._behind, self._last_mark)
        return found + self.outputs.take()

    def _serve(self, question: Question) -> None:
        event = question.event
        self.now = max(self.now, event.arrival)
        try:
            if question.fault is None:
                self.outputs(self.operator.merge(event, question.answer))
            else:
                self.outputs(self._without_answer(question))
        except Exception as fault:
            self._fault(event, fault)

    def _without_answer(self, question: Question) -> Event:
        if not isinstance(question.fault, NoAnswer):
            raise question.fault or EventFault("an answer")
        self.live.at(question.event.arrival)
        event = self.operator.fall_back(question.event)
        if event is None and not self.operator.muted:
            raise EventFault(str(question.fault), {"cause": question.fault.cause})
        self._fallbacks += 1
        return event or question.event

    def _tell_room(self) -> None:
        beyond = self._terms.most * WAITS_BEYOND[self._terms.when_full]
        self._outstanding.room(self.node, self._waiting < beyond)
