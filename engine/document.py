"""Read a flow's YAML: plain values, the position of each, and no YAML surprises."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from engine.errors import Finding

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
_BOOL = {"true": True, "false": False, "True": True, "False": False}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Where = tuple[str | int, ...]


class Document:
    """A parsed file: `value` is plain Python, `at(path)` gives (line, column) of any part, `findings` what is wrong."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.value: Any = None
        self.findings: list[Finding] = []
        self._marks: dict[Where, tuple[int, int]] = {}

    def at(self, where: Where) -> tuple[int, int]:
        """Return line and column (from 1) of a part, or of the nearest part around it."""
        while where and where not in self._marks:
            where = where[:-1]
        return self._marks.get(where, (1, 1))

    def mark(self, where: Where, node: yaml.Node) -> None:
        """Remember where a part stands."""
        self._marks[where] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def find(self, code: str, where: Where, message: str, *, node: str = "", option: str = "", hint: str = "") -> None:
        """Add a finding at a part of the file."""
        line, column = self.at(where)
        self.findings.append(
            Finding(
                code=code,
                message=message,
                path=self.path,
                line=line,
                column=column,
                node=node,
                option=option,
                hint=hint,
            )
        )


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
    if len(blob) > MAX_BYTES:
        document.find("file-size", (), f"a flow file of at most {MAX_BYTES} bytes; got {len(blob)}")
        return document
    try:
        root = yaml.compose(blob.decode(), Loader=_LOADER)
    except UnicodeDecodeError as fault:
        line = blob.count(b"\n", 0, fault.start) + 1
        document.findings.append(
            Finding(
                code="encoding",
                message=f"UTF-8 text; got byte 0x{blob[fault.start]:02x}",
                path=document.path,
                line=line,
                column=1,
            )
        )
    except RecursionError:
        document.find("depth", (), f"at most {MAX_DEPTH} levels of nesting")
    except yaml.YAMLError as fault:
        _syntax(document, fault)
    else:
        if root is not None:
            document.value = _build(document, root, (), set())
    return document


def _syntax(document: Document, fault: yaml.YAMLError) -> None:
    mark = getattr(fault, "problem_mark", None)
    problem = getattr(fault, "problem", None) or getattr(fault, "reason", None) or "cannot be read"
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    document.findings.append(
        Finding(code="yaml", message=f"YAML; {problem}", path=document.path, line=line, column=column)
    )


def _build(document: Document, node: yaml.Node, where: Where, above: set[int]) -> Any:
    document.mark(where, node)
    if len(where) > MAX_DEPTH:
        document.find("depth", where, f"at most {MAX_DEPTH} levels of nesting")
        return None
    if id(node) in above:
        document.find("alias", where, "no anchors and aliases; write the part out")
        return None
    if isinstance(node, yaml.MappingNode):
        above.add(id(node))
        return dict(_pairs(document, node, where, above))
    if isinstance(node, yaml.SequenceNode):
        above.add(id(node))
        return [_build(document, item, (*where, i), above) for i, item in enumerate(node.value)]
    return _scalar(document, node, where)


def _pairs(document: Document, node: yaml.MappingNode, where: Where, above: set[int]) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = _key(document, key_node, where)
        if key is None:
            continue
        inner = (*where, key)
        document.mark(inner, key_node)
        if key in seen:
            document.find("duplicate-key", inner, f"each key once; got '{key}' again")
            continue
        seen.add(key)
        value = _build(document, value_node, inner, above)
        document.mark(inner, key_node)
        yield key, value


def _key(document: Document, node: yaml.Node, where: Where) -> str | None:
    document.mark((*where, "\0key"), node)
    if not isinstance(node, yaml.ScalarNode):
        document.find("key", (*where, "\0key"), "a key that is plain text")
        return None
    if node.style not in ("'", '"') and node.tag.rpartition(":")[2] not in ("str", "int"):
        document.find(
            "yaml-surprise",
            (*where, "\0key"),
            f"a key that YAML reads as text; got {node.value}",
            hint=f'write "{node.value}"',
        )
        return None
    return str(node.value)


def _scalar(document: Document, node: yaml.Node, where: Where) -> Any:
    text, kind = node.value, node.tag.rpartition(":")[2]
    if kind == "str":
        return text
    if not node.tag.startswith("tag:yaml.org,2002:") or kind not in ("bool", "int", "float", "null"):
        document.find(
            "yaml-surprise", where, f"plain text or a number; YAML reads {text} as {kind}", hint=f'write "{text}"'
        )
        return None
    if kind == "null":
        return None
    if kind == "bool" and text not in _BOOL:
        document.find(
            "yaml-surprise",
            where,
            f"true or false; YAML reads {text} as a truth value",
            hint=f'write "{text}" if text is meant',
        )
        return None
    return _BOOL[text] if kind == "bool" else _number(document, text, kind, where)


def _number(document: Document, text: str, kind: str, where: Where) -> int | float | None:
    digits = text.lstrip("+-")
    if ":" in text or (kind == "int" and len(digits) > 1 and digits[0] == "0") or "_" in text:
        document.find(
            "yaml-surprise",
            where,
            f"a decimal number; YAML reads {text} in another base",
            hint=f'write "{text}" if text is meant',
        )
        return None
    return int(text) if kind == "int" else float(text.replace(".inf", "inf").replace(".nan", "nan"))
