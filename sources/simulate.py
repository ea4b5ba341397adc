"""`simulate`: devices that are not there."""

import base64
import random
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.api import Arrival, Duration, Example, Pull, PulledSource, Reader, component

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.float32]


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
    picture: str | None = None
    """A JPEG of 320 x 240 pixels as base64 text: a car's door with a scratch or a dent, this text and a number."""
    digits: int = 3
    """How many digits after the point `uniform` and `normal` have."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "Distribution":
        if len(self.model_fields_set - {"digits"}) != 1:
            raise ValueError("exactly one of choice, weighted, uniform, normal, integer, count, picture")
        if self.choice == []:
            raise ValueError("choice: at least one value")
        if self.weighted is not None and (min(weights := [*self.weighted.values(), 0]) < 0 or not sum(weights)):
            raise ValueError("weighted: weights of at least 0, one of them greater")
        if self.integer is not None and self.integer[0] > self.integer[1]:
            raise ValueError(f"integer: the lower bound first; got {self.integer}")
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
        if self.picture is not None:
            return _picture(self.picture, number, chance)
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

    @field_validator("data")
    @classmethod
    def _can_be_drawn(cls, data: dict[str, Any]) -> dict[str, Any]:
        for where, value in _distributions(data, ""):
            try:
                Distribution.model_validate(value)
            except ValidationError as fault:
                [first, *_] = fault.errors()
                inside = ".".join(map(str, (where, *first["loc"])))
                raise ValueError(f"{inside}: {first['msg'].removeprefix('Value error, ')}") from None
        return data


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
            config=(
                "simulate: {seed: 7, repeat: 1, script: "
                "[{after: 1s, data: {machine: {choice: [A, B]}, t: {normal: [20, 2]}}}]}"
            ),
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
        """Return what is due, up to a message that does not happen: each has a number, which no other one gets."""
        start, number = position or (now, 0)
        skipped = 0
        if not self.options.catch_up and self.last is None:
            skipped = max(0, self._skipped(start, now) - number)
        number += skipped
        found: list[tuple[int, Arrival]] = []
        for at, arrival in self._arrivals(start, number, now, limit):
            if arrival is not None:
                found.append((at, arrival))
            elif found:
                break
            else:
                skipped += 1
            number += 1
        done = self.last is not None and number >= self.last
        return Pull(found, [start, number], None if done else self.due(start, number), done, skipped)

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
            yield self.due(start, n), self.options.message(n)

    def close(self) -> None:
        """Nothing is open."""


def _is_distribution(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and value.keys() <= Distribution.model_fields.keys()


def _drawn(data: dict[str, Any], chance: random.Random, number: int) -> dict[str, Any]:
    return {name: _value(value, chance, number) for name, value in data.items()}


def _value(value: Any, chance: random.Random, number: int) -> Any:
    if isinstance(value, list):
        return [_value(item, chance, number) for item in value]
    if _is_distribution(value):
        return Distribution.model_validate(value).draw(chance, number)
    return _drawn(value, chance, number) if isinstance(value, dict) else value


def _distributions(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        here = f"{where}.{name}" if where else str(name)
        if _is_distribution(part):
            yield here, part
        else:
            yield from _distributions(part, here)


WIDTH, HEIGHT = 320, 240
_PAINTS = ((150, 60, 30), (45, 40, 165), (70, 90, 60), (170, 170, 165), (60, 55, 52), (40, 120, 190))


@cache
def _grid() -> "tuple[Pixels, Pixels]":
    import numpy as np

    across, down = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    return across, down


def _picture(text: str, number: int, chance: random.Random) -> str:
    """Draw what an inspection camera would send; blue, green, red.

    OpenCV is imported where it draws: few flows have pictures, and it takes a quarter of a second and 30 MB.
    """
    import cv2
    import numpy as np

    panel = _door(number)
    x, y = chance.randint(90, 230), chance.randint(105, 175)
    half = _scratch(panel, x, y, chance) if chance.random() < 0.6 else _dent(panel, x, y, chance)
    panel += np.random.default_rng(chance.getrandbits(32)).normal(0, 2.2, panel.shape)
    pixels = np.clip(panel, 0, 255).astype(np.uint8)
    cv2.rectangle(pixels, (x - half, y - half // 2 - 8), (x + half, y + half // 2 + 8), (60, 70, 250), 1, cv2.LINE_AA)
    cv2.rectangle(pixels, (0, HEIGHT - 24), (WIDTH, HEIGHT), (24, 20, 18), -1)
    label = f"{text} {number}".encode("ascii", "replace").decode()
    cv2.putText(pixels, label, (10, HEIGHT - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return base64.b64encode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()).decode()


def _door(number: int) -> "Pixels":
    """Return the door of car `number` in its paint, lit from above, with its window's edge, seam and handle."""
    import cv2
    import numpy as np

    across, down = _grid()
    paint = _PAINTS[(number * number + number // 3) % len(_PAINTS)]
    bend = down + across * 0.05
    light = 0.72 + 0.75 * np.exp(-(((bend - 88) / 26) ** 2)) - 0.2 * np.clip((bend - 150) / 90, 0, 1)
    door: Pixels = (np.array(paint, np.float32) * light[..., None]).astype(np.float32)
    cv2.fillPoly(door, [np.array([(0, 0), (WIDTH, 0), (WIDTH, 34), (0, 48)])], (44, 38, 34), cv2.LINE_AA)
    cv2.line(door, (0, 50), (WIDTH, 36), (205, 205, 205), 2, cv2.LINE_AA)
    seam = np.array([(38, 50), (34, 110), (42, 180), (58, HEIGHT)])
    cv2.polylines(door, [seam], False, (22, 20, 18), 2, cv2.LINE_AA)
    cv2.polylines(door, [seam + np.array((2, 0))], False, (150, 150, 150), 1, cv2.LINE_AA)
    cv2.ellipse(door, (78, 80), (26, 7), -3, 0, 360, (26, 24, 22), -1, cv2.LINE_AA)
    cv2.line(door, (56, 80), (100, 77), (190, 190, 190), 5, cv2.LINE_AA)
    return door


def _scratch(panel: "Pixels", x: int, y: int, chance: random.Random) -> int:
    """Scratch the paint down to its primer; return half the width of what was hit."""
    import cv2
    import numpy as np

    half = chance.randint(28, 48)
    for _ in range(chance.randint(1, 3)):
        top, fall = chance.uniform(-6, 6), chance.uniform(-0.35, 0.35)
        line = [(x + d, y + top + fall * d + chance.gauss(0, 1)) for d in range(-half + 6, half - 5, 4)]
        points = np.round(line).astype(np.int32)
        cv2.polylines(panel, [points + np.array((0, 1))], False, (20, 20, 20), 1, cv2.LINE_AA)
        cv2.polylines(panel, [points], False, (205, 212, 215), 1, cv2.LINE_AA)
    return half


def _dent(panel: "Pixels", x: int, y: int, chance: random.Random) -> int:
    """Press a dent in: dark where it falls away from the light, bright where it rises; return half its width."""
    import numpy as np

    size = chance.uniform(13, 20)
    across, down = (_grid()[0] - x) / size, (_grid()[1] - y) / size
    slope = (0.3 * across + down) * np.exp(-(across**2 + down**2))
    panel *= (1 + 0.85 * slope)[..., None]
    panel += (np.clip(slope, 0, None) * 70)[..., None]
    return int(size * 2)
