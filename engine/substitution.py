"""Settings: from the flow, the environment or `--set`, put in where an option says `${name}`."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import SecretStr

from engine.document import Document, Where
from engine.errors import did_you_mean

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_SQL = ("sql", "returns")  # SQL takes bound parameters only, and says so
_KEYS = {"env", "default", "secret", "about"}
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}


class Surroundings(msgspec.Struct, frozen=True):
    """What a flow is read in: environment variables, `--set` values, and facts such as `local`."""

    environment: Mapping[str, str] = {}
    overrides: Mapping[str, str] = {}
    facts: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"local": True})


def read_settings(document: Document, spec: Any, around: Surroundings) -> dict[str, Any]:
    """Return the flow's settings by name; facts (`local`: the gateway listens on this host only) are there too."""
    settings: dict[str, Any] = dict(around.facts)
    if spec is not None and not isinstance(spec, dict):
        document.find("section", ("settings",), f"a mapping of names to values; got {type(spec).__name__}")
        return settings
    for name, entry in (spec or {}).items():
        settings[name] = _setting(document, name, entry, around, settings)
    for name in around.overrides:
        if name not in settings:
            document.find(
                "unknown-setting",
                ("settings",),
                f"--set {name}: a setting of this flow",
                hint=did_you_mean(name, settings),
            )
    return settings


def _setting(document: Document, name: str, entry: Any, around: Surroundings, known: dict[str, Any]) -> Any:
    where: Where = ("settings", name)
    if not isinstance(entry, dict):
        default, secret, variable = entry, False, None
    else:
        for key in entry.keys() - _KEYS:
            document.find(
                "unknown-option",
                (*where, key),
                f"one of {', '.join(sorted(_KEYS))}; got '{key}'",
                hint=did_you_mean(key, _KEYS),
            )
        default, secret, variable = entry.get("default"), bool(entry.get("secret")), entry.get("env")
        if variable is None and "default" not in entry:
            document.find("setting", where, f"setting '{name}' to have an env or a default")
    default = substitute(document, default, known, where)
    given = around.overrides.get(name, around.environment.get(variable) if variable else None)
    if secret and default is not None:
        document.find("secret", where, f"secret '{name}' from the environment only, without a default in the file")
    if given is None:
        if default is None and variable and isinstance(entry, dict) and "default" not in entry:
            document.find("setting-missing", where, f"the environment variable {variable}, which has no default")
        return default
    return SecretStr(given) if secret else _typed(document, given, default, where)


def _typed(document: Document, text: str, default: Any, where: Where) -> Any:
    """Read a text from outside as the type of the default."""
    try:
        if isinstance(default, bool):
            return _TRUTH[text.strip().lower()]
        return type(default)(text) if isinstance(default, (int, float)) else text
    except (KeyError, ValueError):
        document.find(
            "setting-type", where, f"a value of type {type(default).__name__}, as the default is; got '{text}'"
        )
        return default


def substitute(document: Document, value: Any, settings: Mapping[str, Any], where: Where) -> Any:
    """Return `value` with every `${name}` replaced; a value that is one reference alone keeps the setting's type."""
    if isinstance(value, dict):
        return {key: substitute(document, inner, settings, (*where, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [substitute(document, inner, settings, (*where, i)) for i, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value or (where[0] == "queries" and where[-1] in _SQL):
        return value
    for name in _REFERENCE.findall(value):
        if name not in settings:
            document.find(
                "unknown-setting", where, f"a setting's name in ${{…}}; got '{name}'", hint=did_you_mean(name, settings)
            )
            return None
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return settings[whole[1]]
    return _REFERENCE.sub(lambda found: _plain(settings[found[1]]), value)


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
