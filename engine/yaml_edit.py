"""Change one part of a YAML text and leave the rest as it is, comments and all.

Parts are found by the marks of the parser. A block's own end mark lies behind the comments that follow it, so the end
of a block is that of its last scalar or bracket.
"""

from typing import Any

import yaml


def composed(text: str) -> Any:
    """Return the tree of nodes with marks; their indices count characters of the text."""
    return yaml.compose(text, Loader=yaml.SafeLoader)


def entry(mapping: Any, name: str) -> tuple[Any, Any] | None:
    """Return a mapping's key and value nodes; None where it has no such key."""
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next(((key, value) for key, value in pairs if key.value == name), None)


def end_of(text: str, node: Any, key: Any = None) -> int:
    """Return where a node ends; where it is empty, the end of its key's colon."""
    if isinstance(node, yaml.ScalarNode):
        if key is not None and node.start_mark.index == node.end_mark.index:
            return text.index(":", key.end_mark.index) + 1
        end: int = node.end_mark.index
        return len(text[:end].rstrip()) if node.style in ("|", ">") else end
    if node.flow_style:
        return int(node.end_mark.index)
    last = node.value[-1]
    return end_of(text, last[1], last[0]) if isinstance(node, yaml.MappingNode) else end_of(text, last)


def with_entry(text: str, mapping: Any, name: str, block: list[str], flow: str) -> str:
    """Return the text with `name` in a mapping as its last entry, or in place of the one that it has.

    `block` are the lines of its value where the mapping is a block, indented from the key on; `flow` is the value in
    brackets.
    """
    old, column = entry(mapping, name), int(mapping.value[0][0].start_mark.column) if mapping.value else 0
    if mapping.flow_style:
        value = f"{name}: {flow}"
    else:
        value = _ends(text).join([f"{name}:", *(" " * column + line for line in block)])
    if old is not None:
        begin: int = old[0].start_mark.index
        return text[:begin] + value + text[end_of(text, old[1], old[0]) :]
    if not mapping.value:
        at: int = mapping.start_mark.index + 1
        return text[:at] + value + text[at:]
    last = mapping.value[-1]
    end = end_of(text, last[1], last[0])
    if mapping.flow_style:
        return f"{text[:end]}, {value}{text[end:]}"
    end = len(text[: _line_end(text, end)].rstrip("\r"))
    return text[:end] + _ends(text) + " " * column + value + text[end:]


def _ends(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
