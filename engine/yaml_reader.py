"""Build plain values from YAML's events, with the position of each; what YAML would guess is refused.

Events are read one by one, so that no nesting and no alias of a hostile file takes more than its size.
"""

from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from engine.document import Document, Where

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
LARGEST = 1 << 63
_BOOL = {"true": True, "false": False, "True": True, "False": False}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = "tag:yaml.org,2002:"
_ENDS = (yaml.SequenceEndEvent, yaml.MappingEndEvent)
_SAID = {
    "mapping values are not allowed in this context": 'quote a text that has ": " in it',
    "found character that cannot start any token": "quote a text that begins with this character",
}


class _TooDeep(Exception):
    """The file is nested so deep that reading it further makes no sense."""


def read(path: Path) -> Document:
    """Read a flow file; whatever is wrong with it as YAML stands in `findings`."""
    document = Document(str(path))
    try:
        blob = path.read_bytes()
    except OSError as fault:
        document.find("file", (), f"a readable file; {fault.strerror or fault}")
        return document
    return parse(blob, document)


def parse(blob: bytes, document: Document) -> Document:
    """Fill a document from bytes."""
    return YamlReader(document).read(blob)


class YamlReader:
    """Reads one file into a document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._resolver = yaml.resolver.Resolver()
        self._text = ""
        self._events: Iterator[Any] = iter(())

    def read(self, blob: bytes) -> Document:
        """Return the document, filled."""
        document = self.document
        if len(blob) > MAX_BYTES:
            document.find("file-size", (), f"a flow file of at most {MAX_BYTES} bytes; got {len(blob)}")
            return document
        try:
            self._text = blob.decode()
        except UnicodeDecodeError as fault:
            self._find("encoding", blob.count(b"\n", 0, fault.start), 0, f"UTF-8; got byte 0x{blob[fault.start]:02x}")
            return document
        try:
            self._events = iter(yaml.parse(self._text, Loader=_LOADER))
            self._document()
        except yaml.YAMLError as fault:
            self._syntax(fault)
        except _TooDeep:
            pass
        return document

    def _document(self) -> None:
        """Read the one document of the stream."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if self.document.has(()):
                    line = getattr(event.start_mark, "line", 0)
                    self._find("yaml", line, 0, "one document a file; got a second one after '---'")
                    self.document.value = None
                    return
                self.document.value = self._value(next(self._events), ())

    def _find(self, code: str, line: int, column: int, message: str, hint: str = "") -> None:
        self.document.mark(("\0",), line, column)
        self.document.find(code, ("\0",), message, hint=hint)

    def _syntax(self, fault: yaml.YAMLError) -> None:
        mark = getattr(fault, "problem_mark", None)
        problem = getattr(fault, "problem", None) or getattr(fault, "reason", None) or "cannot be read"
        position = getattr(fault, "position", 0)
        before = self._text[:position] if mark is None else ""
        line, column = (mark.line, mark.column) if mark else (before.count("\n"), len(before.rpartition("\n")[2]))
        here = self._text[mark.index : mark.index + 1] if mark else ""
        if here == "\t":
            self._find("yaml", line, column, "spaces to indent; got a tab")
        else:
            self._find("yaml", line, column, f"YAML; {problem}", _SAID.get(problem, ""))

    def _value(self, event: Any, where: Where) -> Any:
        """Return the value that begins with an event."""
        start = event.start_mark
        if not self.document.has(where):
            self.document.mark(where, start.line, start.column)
        if len(where) > MAX_DEPTH:
            self.document.find("depth", where, f"at most {MAX_DEPTH} levels of nesting")
            raise _TooDeep
        self.document.mark_text(where, start.line, start.column, None)
        if isinstance(event, yaml.AliasEvent):
            return self._lost("alias", where, f"no anchors and aliases; got *{event.anchor}", "write the part out")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, where)
        value = self._mapping(where) if isinstance(event, yaml.MappingStartEvent) else self._list(where)
        if event.tag is not None and event.tag not in (f"{_PLAIN}map", f"{_PLAIN}seq"):
            return self._lost("yaml-surprise", where, f"no tag; got {_tag(event.tag)}")
        return value

    def _lost(self, code: str, where: Where, message: str, hint: str = "") -> Any:
        """Tell what is wrong with a value and give None in its place."""
        self.document.find(code, where, message, hint=hint, offset=0)
        self.document.lose(where)
        return None

    def _list(self, where: Where) -> list[Any]:
        found: list[Any] = []
        for event in self._events:
            if isinstance(event, _ENDS):
                break
            found.append(self._value(event, (*where, len(found))))
        return found

    def _mapping(self, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, _ENDS):
                break
            key = self._key(event, where)
            inner = (*where, key if key is not None and key not in found else "\0")
            self.document.mark(inner, event.start_mark.line, event.start_mark.column)
            if key is not None and key in found:
                self.document.find("duplicate-key", inner, f"each key once; got '{key}' again")
            skipped = inner[-1] == "\0"
            if skipped:
                self.document.lose(inner)
            value = self._value(next(self._events), inner)
            if not skipped:
                found[str(key)] = value
        return found

    def _key(self, event: Any, where: Where) -> str | None:
        """Return the text of a key; None where it is none."""
        at = (*where, "\0key")
        self.document.mark(at, event.start_mark.line, event.start_mark.column)
        if not isinstance(event, yaml.ScalarEvent):
            self.document.find("key", at, "a key that is plain text")
            self.document.lose((*where, "\0"))
            self._value(event, (*where, "\0"))
            return None
        kind = self._kind(event)
        if kind == "merge":
            self.document.find("alias", at, "no merge keys; got <<", hint="write the part out")
            self.document.lose(where)
        elif kind not in ("str", "int"):
            hint, message = f'write "{event.value}"', f"a key that YAML reads as text; got {event.value or 'none'}"
            self.document.find("yaml-surprise", at, message, hint=hint if event.value else "")
        else:
            return str(event.value)
        return None

    def _kind(self, event: Any) -> str:
        """Return what YAML takes a scalar for: str, int, bool, … or a tag."""
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        return str(tag).removeprefix(_PLAIN)

    def _scalar(self, event: Any, where: Where) -> Any:
        start, text = event.start_mark, event.value
        written = self._text[start.index : event.end_mark.index]
        quote = 1 if event.style in ("'", '"') else 0
        exact = written[quote : len(written) - quote] == text
        self.document.mark_text(where, start.line, start.column + quote * exact, text if exact else None)
        kind = self._kind(event)
        if event.tag not in (None, "!", f"{_PLAIN}str"):
            return self._lost("yaml-surprise", where, f"no tag; got {_tag(event.tag)}")
        if kind in ("str", "null"):
            return text if kind == "str" else None
        if kind == "bool" and text in _BOOL:
            return _BOOL[text]
        if kind == "bool":
            message, hint = f"true or false; YAML reads {text} as a truth value", f'write "{text}" if text is meant'
            return self._lost("yaml-surprise", where, message, hint)
        if kind not in ("int", "float"):
            message = f"plain text or a number; YAML reads {text} as a {kind}"
            return self._lost("yaml-surprise", where, message, f'write "{text}"')
        return self._number(text, kind, where)

    def _number(self, text: str, kind: str, where: Where) -> Any:
        digits = text.lstrip("+-")
        hint = f'write "{text}" if text is meant'
        if digits.lstrip("0123456789.eE+-") or (kind == "int" and len(digits) > 1 and digits[0] == "0"):
            return self._lost("yaml-surprise", where, f"a decimal number in digits; got {text[:40]}", hint)
        if kind == "int" and (len(digits) > 19 or not -LARGEST <= int(text) < LARGEST):
            return self._lost("yaml-surprise", where, f"a number of at most 64 bits; got {text[:40]}", hint)
        if kind == "float" and not isfinite(float(text)):
            return self._lost("yaml-surprise", where, f"a finite number; got {text[:40]}", hint)
        return int(text) if kind == "int" else float(text)


def _tag(tag: str) -> str:
    return tag.replace(_PLAIN, "!!")[:60]
