"""What sinks make of events before they send them: values, bodies in JSON, texts from templates; and faults."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic import SecretStr, ValidationInfo

from engine.errors import EventFault
from engine.event import Event, moment
from engine.expressions import WRONG, Expression
from engine.problem import Problem
from engine.templating import Template, TemplateFault

Body = Expression | list[str] | dict[str, Expression] | None
LONGEST = 1 << 20
T = TypeVar("T")
_encoder = msgspec.json.Encoder(enc_hook=str)


def as_json_bytes(value: Any) -> bytes:
    """Return a value as JSON; raises EventFault for what cannot be written."""
    try:
        return _encoder.encode(value)
    except (ValueError, TypeError, RecursionError, OverflowError) as fault:
        reason = f"a value that can be written as JSON; {fault}"
    raise EventFault(reason)


def evaluated(option: str, expression: Expression) -> Callable[[Event], Any]:
    """Return the expression as what faults with its option, its part and the values that it looked at."""

    def evaluate(event: Event) -> Any:
        try:
            return expression(event)
        except WRONG:
            reason = f"{option}: {expression.explain(event)}"
        raise EventFault(reason, {field: event.data.get(field) for field in sorted(expression.fields)})

    return evaluate


def body_of(option: str, body: Body) -> Callable[[Event], Any]:
    """Return what gives the body of an event: an expression's value, some fields, named values, or all its data."""
    if body is None:
        return lambda event: event.data
    if isinstance(body, list):
        return lambda event: {name: event.data.get(name) for name in body}
    if isinstance(body, dict):
        columns = {name: evaluated(f"{option}.{name}", expression) for name, expression in body.items()}
        return lambda event: {name: evaluate(event) for name, evaluate in columns.items()}
    return evaluated(option, body)


def sound(
    events: Iterable[Event], make: Callable[[Event], T], dead: Callable[[Event, EventFault], None]
) -> Iterator[tuple[Event, T]]:
    """Yield each event with what is made of it; one at fault goes to `dead`."""
    for event in events:
        try:
            made = make(event)
        except EventFault as fault:
            dead(event, fault)
        else:
            yield event, made


def opened(value: SecretStr | str) -> str:
    """Return a text, or what a secret holds."""
    return value if isinstance(value, str) else value.get_secret_value()


class Surroundings:
    """Where a template is read: the folder of its flow, and the settings that are no secrets."""

    def __init__(self, info: ValidationInfo | None = None) -> None:
        context = None if info is None else info.context
        settings = getattr(context, "settings", {})
        self.folder: Path = getattr(context, "pack", Path())
        self.settings = {k: v for k, v in settings.items() if isinstance(v, str | int | float | list | dict)}


class Text:
    """A Jinja template of an option, over the event's fields, `meta` and `settings`; raises TemplateFault."""

    def __init__(self, option: str, text: str, around: Surroundings, *, html: bool = False) -> None:
        self._option, self._settings = option, around.settings
        self.template = Template(text, around.folder, html=html, largest=LONGEST)

    def __call__(self, event: Event, extra: Mapping[str, Any] | None = None) -> str:
        """Return the text for an event; raises EventFault."""
        known = {"settings": self._settings, "meta": meta_of(event), **(extra or {})}
        try:
            return self.template.render(event.data, known)
        except TemplateFault as fault:
            reason = f"{self._option}: {fault}"
        raise EventFault(reason)


def meta_of(event: Event) -> dict[str, Any]:
    """Return what a template sees as `meta`."""
    own = {"topic": event.topic, "key": event.key, "source": event.source, "time": moment(event.time)}
    return {**(event.meta or {}), **own, "id": event.id.hex()}


def template_fields(option: str, text: str | None, around: Surroundings) -> Iterator[tuple[str, str]]:
    """Yield the option with each field that a template names; of one that cannot be read there are none."""
    try:
        names = Text(option, text or "", around).template.names
    except TemplateFault:
        return
    yield from ((option, name) for name in sorted(names.difference(("meta", "settings"))))


def check_template(option: str, text: str, around: Surroundings) -> Iterator[Problem]:
    """Yield what is wrong with the syntax of a template."""
    try:
        Text(option, text, around)
    except TemplateFault as fault:
        line = f" in line {fault.line}" if fault.line else ""
        yield Problem("template", option, f"a Jinja template; {fault}{line}")
