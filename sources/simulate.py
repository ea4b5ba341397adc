"""`simulate`: devices that are not there."""

import random
from bisect import bisect_right
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.api import Arrival, Duration, Example, Pull, PulledSource, Reader, component


class Distribution(BaseModel):
    """How a field's values are drawn; exactly one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    choice: list[Any] | None = None
    """One of these, each as likely as the others."""
    weighted: dict[str, float] | None = None
    """One of these texts, by weight."""
    uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """A number between two."""
    normal: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """A number around a mean with a standard deviation."""
    integer: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    """A whole number between two, both included."""
    count: int | None = None
    """A serial number that begins here."""
    digits: int = 3
    """How many digits after the point `uniform` and `normal` have."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "Distribution":
        if len(self.model_fields_set - {"digits"}) != 1:
            raise ValueError("exactly one of choice, weighted, uniform, normal, integer, count")
        return self

    def draw(self, chance: random.Random, number: int) -> Any:
        """Return the value of message `number`."""
        if self.choice is not None:
            return chance.choice(self.choice)
        if self.weighted is not None:
            return chance.choices(list(self.weighted), list(self.weighted.values()))[0]
        if self.integer is not None:
            return chance.randint(*self.integer)
        if self.count is not None:
            return self.count + number
        low, high = self.uniform or self.normal or (0.0, 0.0)
        return round(chance.uniform(low, high) if self.uniform else chance.gauss(low, high), self.digits)


class Step(BaseModel):
    """One message of a script."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    after: Duration = 0
    """How long after the step before."""
    topic: str = ""
    """The event's topic."""
    data: dict[str, Any] = {}
    """Its payload; a field may be a distribution: `{result: {weighted: {OK: 9, DEFECT: 1}}}`."""
    odds: float = Field(default=1.0, ge=0, le=1)
    """How likely the step happens at all."""


@component("simulate")
class Simulate(PulledSource):
    """Make messages by a script that is repeated: seeded, so the same seed makes the same messages at the same times.

    Message times are counted from the first start; after a restart it goes on where it stood, and what fell into the
    time away is skipped unless `catch_up` says so.
    """

    script: list[Step] = Field(min_length=1)
    """What happens, in order."""
    every: Duration | None = None
    """How long one run of the script takes at least; default: the sum of its steps."""
    repeat: int | Literal["forever"] = "forever"
    """How often the script is run."""
    seed: int = 1
    """What the random numbers begin with."""
    catch_up: bool = False
    """Whether messages of the time away are made too."""

    guarantee = "exactly once: a restart goes on where the last snapshot stood"
    examples = (
        Example(
            about="A reading a second from one of two machines.",
            config="simulate: {seed: 7, repeat: 1, script: [{after: 1s, data: {machine: {choice: [A, B]}, t: {normal: [20, 2]}}}]}",
            given=[{"machine": "A"}],
            expect=[{"machine": "A"}],
        ),
    )

    @model_validator(mode="after")
    def _takes_time(self) -> "Simulate":
        if self.length() <= 0:
            raise ValueError("a script that takes time: give a step `after`, or give `every`")
        return self

    def length(self) -> int:
        """Return how long one run of the script takes, in microseconds."""
        return max(sum(step.after for step in self.script), self.every or 0)

    def message(self, number: int) -> Arrival | None:
        """Return message `number` of the whole run, or None where the odds say it does not happen."""
        step = self.script[number % len(self.script)]
        chance = random.Random(f"{self.seed}/{number}")  # noqa: S311 - a simulation, not a secret
        if chance.random() >= step.odds and step.odds < 1:
            return None
        return Arrival(msgspec.json.encode(_drawn(step.data, chance, number // len(self.script))), step.topic)

    def open(self) -> Reader:
        """Return a reader whose position is [start time, next message]."""
        return Script(self)


class Script:
    """Reads a script by the clock."""

    def __init__(self, options: Simulate) -> None:
        self.options = options
        steps = [step.after for step in options.script]
        self.offsets = [sum(steps[: i + 1]) for i in range(len(steps))]
        self.last = None if options.repeat == "forever" else options.repeat * len(steps)

    def due(self, start: int, number: int) -> int:
        """Return when message `number` happens."""
        round_, step = divmod(number, len(self.offsets))
        return start + round_ * self.options.length() + self.offsets[step]

    def read(self, position: Any, now: int, limit: int) -> Pull:
        """Return what is due."""
        start, number = position or (now, 0)
        if not self.options.catch_up and self.last is None:
            number = max(number, self._skipped(start, now))
        arrivals = list(self._arrivals(start, number, now, limit))
        number = arrivals[-1][0] + 1 if arrivals else number
        done = self.last is not None and number >= self.last
        found = [(self.due(start, n), a) for n, a in arrivals if a is not None]
        return Pull(found, [start, number], None if done else self.due(start, number), done)

    def _skipped(self, start: int, now: int) -> int:
        """Return the first message of the last ten seconds: what was due before is not made up for."""
        since = now - 10_000_000 - start
        if since <= 0:
            return 0
        rounds, rest = divmod(since, self.options.length())
        return rounds * len(self.offsets) + bisect_right(self.offsets, rest)

    def _arrivals(self, start: int, number: int, now: int, limit: int) -> Iterator[tuple[int, Arrival | None]]:
        for n in range(number, number + limit):
            if self.due(start, n) > now or (self.last is not None and n >= self.last):
                return
            yield n, self.options.message(n)

    def close(self) -> None:
        """Nothing is open."""


def _drawn(data: Any, chance: random.Random, number: int) -> Any:
    if isinstance(data, list):
        return [_drawn(item, chance, number) for item in data]
    if not isinstance(data, dict):
        return data
    if data and data.keys() <= Distribution.model_fields.keys():
        return Distribution.model_validate(data).draw(chance, number)
    return {name: _drawn(value, chance, number) for name, value in data.items()}
