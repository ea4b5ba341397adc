"""`template`: a text from a Jinja template."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from engine.api import (
    Code,
    EventFault,
    Example,
    Flow,
    Node,
    Problem,
    Size,
    Stateless,
    Template,
    TemplateFault,
    Type,
    component,
    moment,
    unknown_fields,
)

ROOTS = ("meta", "settings")


@component("template")
class TemplateText(Stateless):
    """Fill in a Jinja template with an event's fields and put the text into a field.

    A template sees the fields by their names, `meta.topic`, `meta.key`, `meta.source`, `meta.time`, `meta.id`, and the
    `settings` that are no secrets. What is missing or none is written as nothing. It runs in a sandbox: no files but
    those of the pack (`include`), no randomness, at most `largest` characters. The functions of expressions are filters
    too, as in `{{ measured | format_time("%H:%M", "Europe/Berlin") }}`.
    """

    as_: str = Field(alias="as")
    """The field that gets the text."""
    text: str = ""
    """The template itself."""
    file: str = ""
    """A file that has the template, relative to the flow's folder, in place of `text`."""
    escape: Literal["none", "html"] = "none"
    """How values are written: as they are, or escaped for HTML."""
    largest: Size = 65_536
    """The most characters of a text; an event that gives more is a dead letter."""

    _folder: Path = PrivateAttr(default=Path())
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    examples = (
        Example(
            about="The text of a message.",
            config="template: {as: message, text: \"{{ device }} is at {{ '%.1f' | format(t) }} °C"
            '{% if t > 80 %}, too hot{% endif %}."}',
            given=[{"device": "press 3", "t": 81.25}, {"device": "press 4", "t": 20}],
            expect=[{"message": "press 3 is at 81.2 °C, too hot."}, {"message": "press 4 is at 20.0 °C."}],
        ),
        Example(
            about="A list for a page; what comes from outside is escaped.",
            config='template: {as: page, escape: html, text: "<ul>{% for r in rows %}<li>{{ r.name }}: {{ r.n }}</li>'
            '{% endfor %}</ul>"}',
            given=[{"rows": [{"name": "<b>A", "n": 1}, {"name": "B"}]}],
            expect=[{"page": "<ul><li>&lt;b&gt;A: 1</li><li>B: </li></ul>"}],
        ),
    )

    @model_validator(mode="after")
    def _one_of_both(self, info: ValidationInfo) -> "TemplateText":
        if bool(self.text) == bool(self.file):
            raise ValueError("either text or file")
        settings = getattr(info.context, "settings", {})
        plain = {name: value for name, value in settings.items() if isinstance(value, str | int | float | list | dict)}
        object.__setattr__(self, "_folder", getattr(info.context, "pack", Path()))
        object.__setattr__(self, "_settings", plain)
        return self

    @cached_property
    def _template(self) -> Template:
        text = self.text or (self._folder / self.file).read_text()
        return Template(text, self._folder, html=self.escape == "html", largest=self.largest)

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Read the template, which tells what is wrong with its syntax."""
        option = "file" if self.file else "text"
        try:
            self._template  # noqa: B018 - reading it is the check
        except OSError as fault:
            yield Problem("template", option, f"a readable file; {fault.strerror}: {self.file}")
        except UnicodeDecodeError:
            yield Problem("template", option, f"a text in UTF-8; got {self.file}")
        except TemplateFault as fault:
            line = f" in line {fault.line}" if fault.line else ""
            yield Problem("template", option, f"a Jinja template; {fault}{line}")

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find names in the template that are no fields."""
        option = "file" if self.file else "text"
        try:
            names = self._template.names.difference(ROOTS)
        except (OSError, ValueError):
            return ()
        return unknown_fields(flow, [(option, name) for name in sorted(names)], given)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in with the text."""
        return super().gives(given, output) if output or given is None else {**given, self.as_: Type("text")}

    def code(self, code: Code) -> bool:
        """Write one call, with what the template reads of `meta`."""
        scope = code.scope(code.record)
        event = f"{scope.topic}, {scope.key}, {scope.source}, {scope.time}, {scope.id}, {scope.meta}"
        meta = f"{code.bind(meta_of)}({event})" if "meta" in self._template.names else "None"
        code.go_on(code.with_value(self.as_, f"{code.bind(self._render)}({code.data}, {meta})", Type("text")))
        return True

    @cached_property
    def _render(self) -> Callable[[Mapping[str, Any], Mapping[str, Any] | None], str]:
        template, settings = self._template, {"settings": self._settings} if "settings" in self._template.names else {}

        def render(data: Mapping[str, Any], meta: Mapping[str, Any] | None) -> str:
            try:
                return template.render(data, settings if meta is None else settings | {"meta": meta})
            except TemplateFault as fault:
                reason = f"template: {fault}"
            raise EventFault(reason)

        return render


def meta_of(topic: str, key: str, source: str, time: int, id_: bytes, meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a template sees as `meta`."""
    return {**(meta or {}), "topic": topic, "key": key, "source": source, "time": moment(time), "id": id_.hex()}
