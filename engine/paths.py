"""The paths that a flow may serve on the gateway's port."""

import re
from collections.abc import Iterator

RESERVED = ("auth", "console", "docs", "health", "media", "metrics", "openapi.json", "socket.io", "static")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+|\{[a-z_][a-z0-9_]*\}")
_PARAMETER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def path_parameters(path: str) -> list[str]:
    """Return the names in braces: `/cars/{id}` has `id`."""
    return _PARAMETER.findall(path)


def path_order(path: str) -> list[tuple[bool, str]]:
    """Return what to sort paths by, so that a literal path comes before one with a parameter in that place."""
    return [(part.startswith("{"), part) for part in path.split("/")]


def check_path(path: str) -> Iterator[str]:
    """Yield what is wrong with a path, each as what is expected."""
    parts = path.removeprefix("/").split("/")
    if not path.startswith("/") or any(not _SEGMENT.fullmatch(part) or set(part) == {"."} for part in parts):
        yield f"a path like /cars/{{id}}; got '{path}'"
        return
    if parts[0] in RESERVED:
        yield f"a path of the flow's own; /{parts[0]} is the gateway's"
    names = path_parameters(path)
    if len(set(names)) != len(names):
        yield f"each parameter once; got '{path}'"
