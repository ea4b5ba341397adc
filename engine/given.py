"""The answers that a flow test gives in place of whoever would be asked outside."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.asking import Asking, Cause, NoAnswer, Question
from engine.attempts import Attempts
from engine.event import MICROSECONDS, Event
from engine.expressions import Expression
from engine.field_docs import wanted


class GivenAnswer(BaseModel):
    """One answer of a flow test. Those without `when` are given in order, each for one request of one event."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    when: Expression | None = None
    """For which events it is; it is then given again and again."""
    body: Any = None
    """What comes back for the event, as JSON."""
    status: int = Field(default=200, ge=200, le=599)
    """The HTTP status."""
    fails: Cause | None = None
    """What goes wrong in place of an answer: connection, timeout, busy or server."""
    times: int | None = Field(default=None, ge=1, le=10_000)
    """How often it is given: once, or with `when` without end."""


class Given:
    """The answers to one node, over all restarts of a test; each event is asked for by itself, without waiting."""

    def __init__(self, operator: Asking, answers: Sequence[GivenAnswer] = ()) -> None:
        self._operator = operator
        self._answers = list(answers)
        self._left = [answer.times or (None if answer.when else 1) for answer in answers]
        self.now = 0.0
        self.missed = 0

    async def ask(self, questions: Sequence[Question]) -> list[Any]:
        """Return the next answer for the event, or what goes wrong with it."""
        answer = self._next(questions[0].event)
        if answer.fails:
            raise NoAnswer(f"an answer; got none ({answer.fails})", answer.fails)
        return [self._operator.given(answer)]

    def _next(self, event: Event) -> GivenAnswer:
        for number, answer in enumerate(self._answers):
            left = self._left[number]
            if left != 0 and (answer.when is None or answer.when(event)):
                self._left[number] = None if left is None else left - 1
                return answer
        self.missed += 1
        raise NoAnswer("an answer; this test gives none (any more): see `answers`", "connection")

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    async def sleep(self, seconds: float) -> None:
        """Let the breaker's clock go on."""
        self.now += seconds

    def meet(self, event: Event) -> None:
        """Let the breaker's clock follow the events."""
        self.now = max(self.now, event.arrival / MICROSECONDS)


class AskNow:
    """An asker that has settled each question when `put` returns, without a loop: nothing in it waits."""

    def __init__(self, operator: Asking, given: Given) -> None:
        self._given = given
        self._attempts = Attempts(operator, given, lambda: given.now, given.sleep)

    @property
    def retries(self) -> int:
        """How often something was asked again."""
        return self._attempts.retries

    @property
    def open(self) -> bool:
        """Whether the circuit is open."""
        return self._attempts.circuit.open

    def put(self, questions: Sequence[Question]) -> None:
        """Settle the questions one by one."""
        for question in questions:
            self._given.meet(question.event)
            _run(self._attempts.settle([question]))

    async def close(self) -> None:
        """Do nothing: nothing is under way."""


class Answers:
    """The answers of a test to each node that asks; they go on over restarts."""

    def __init__(self, answers: Mapping[str, Sequence[GivenAnswer]] | None = None) -> None:
        self._answers = answers or {}
        self._given: dict[str, Given] = {}

    def asker(self, node: str, operator: Asking, _answered: Callable[[], None]) -> AskNow:
        """Return the asker of a node."""
        given = self._given.setdefault(node, Given(operator, self._answers.get(node, ())))
        return AskNow(operator, given)

    def missed(self) -> dict[str, int]:
        """Return how often each node asked for an answer that was not given."""
        return {node: given.missed for node, given in self._given.items() if given.missed}


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("a given answer was waited for")
