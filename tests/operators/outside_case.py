"""A harness whose nodes ask a real server on a real I/O thread, and one in which a test answers by hand."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from engine.ask_lane import asking_on
from engine.asking import Asking, Question
from engine.flow import Flow
from engine.harness import Harness, Sent, block_of

WITHIN = 20.0


class Live(Harness):
    """Asks as a worker does; `settle` waits until nothing waits for an answer."""

    def __init__(self, flow: Flow, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._futures: list[Future[None]] = []
        self.woken = threading.Event()
        super().__init__(flow, **options)

    def _start(self, snapshots: dict[tuple[str, str], bytes]) -> None:
        self._end_lanes()
        self.asker = asking_on(self._loop, self._spawn)
        self._answers = self  # type: ignore[assignment]
        super()._start(snapshots)
        self.run.outstanding.wake = self.woken.set

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._futures.append(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def _end_lanes(self) -> None:
        for future in self._futures:
            future.cancel()
        self._futures.clear()

    def read_all(self, messages: Sequence[Sent]) -> None:
        """Read messages as one read of the inbox."""
        self.read([block_of([m], number, m.at) for number, m in enumerate(messages, self.head + 1)])

    def waiting(self) -> int:
        """Return how many events wait for an answer."""
        return sum(self.run.outstanding.counts(name).get("waiting", 0) for name in self.plan.asking)

    def settle(self, until: Callable[[], bool] | None = None) -> None:
        """Fetch answers as they come until nothing waits, or something holds."""
        end = time.monotonic() + WITHIN
        while not (until() if until else self.waiting() == 0):
            assert time.monotonic() < end, f"{self.waiting()} events still wait"
            self.woken.wait(0.05)
            self.woken.clear()
            self.fetch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_lanes()
        asyncio.run_coroutine_threadsafe(self._quiet(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _quiet(self) -> None:
        """Wait until every task has ended, with its connections closed."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


class ByHand(Harness):
    """Nobody answers but the test: `questions` are those that wait since the last start."""

    def _start(self, snapshots: dict[tuple[str, str], bytes]) -> None:
        self.questions: list[Question] = []
        self._answers = self  # type: ignore[assignment]
        super()._start(snapshots)

    def asker(self, node: str, operator: Asking, answered: Callable[[], None]) -> "_Hand":
        return _Hand(self.questions, answered)

    def answer(self, question: Question, answer: Any = None, fault: Exception | None = None) -> None:
        """Settle one question, whichever, and let the flow know."""
        self.questions.remove(question)
        question.settle(answer, fault)
        for name in self.plan.asking:
            self.run.outstanding.tell(name)
        self.fetch()


class _Hand:
    retries, open = 0, False

    async def close(self) -> None:
        return

    def __init__(self, questions: list[Question], answered: Callable[[], None]) -> None:
        self._questions = questions

    def put(self, questions: Sequence[Question]) -> None:
        self._questions += questions
