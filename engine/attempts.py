"""What is done for a batch of questions: asked, asked again, asked in halves, given up. No I/O of its own."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from engine.asking import Asked, Asking, Indivisible, NoAnswer, Question
from engine.circuit import Circuit


class Attempts:
    """Settles questions, with the breaker that they share. `now` gives seconds of any clock, `sleep` waits seconds."""

    def __init__(
        self, operator: Asking, asked: Asked, now: Callable[[], float], sleep: Callable[[float], Awaitable[Any]]
    ) -> None:
        self.terms = operator.terms()
        self.circuit = Circuit(self.terms.breaker)
        self.retries = 0
        self._asked, self._now, self._sleep = asked, now, sleep

    async def settle(self, questions: Sequence[Question]) -> None:
        """Settle each, whatever happens."""
        try:
            answers = await self._patiently(questions)
        except Exception as fault:
            if len(questions) == 1 or isinstance(fault, NoAnswer | Indivisible):
                for question in questions:
                    question.settle(fault=fault)
                return
        else:
            for question, answer in zip(questions, answers, strict=True):
                question.settle(answer)
            return
        middle = len(questions) // 2
        await self.settle(questions[:middle])
        await self.settle(questions[middle:])

    async def _patiently(self, questions: Sequence[Question]) -> list[Any]:
        """Ask, and again where that may help; raises what the last attempt did."""
        attempt = 0
        while True:
            if not self.circuit.lets(self._now()):
                raise NoAnswer("an answer; the circuit is open after failures in a row", "open")
            try:
                answers = await self._once(questions)
            except NoAnswer as fault:
                self.circuit.failed(self._now())
                retry = self.terms.retry
                if attempt >= retry.times or fault.cause not in retry.causes or self.circuit.open:
                    raise
                await self._sleep(retry.pause(attempt, fault.after))
            except Exception:
                self.circuit.answered()
                raise
            else:
                self.circuit.answered()
                return answers
            attempt += 1
            self.retries += 1

    async def _once(self, questions: Sequence[Question]) -> list[Any]:
        answers = await self._asked.ask(questions)
        if len(answers) != len(questions):
            raise Indivisible(f"{len(questions)} answers, one for each event; got {len(answers)}")
        return answers
