"""Settings: from the flow, the environment or `--set`, put in where an option says `${name}`."""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

import msgspec
from pydantic import SecretStr

from engine.document import Document, Where
from engine.model_faults import shown

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_OPEN = re.compile(r"\$\{[^}]*$")
STAND_IN = "a-secret-that-is-not-there"
_KEYS = ("env", "default", "secret", "about")
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", list: "a JSON list", dict: "a JSON object"}


class Surroundings(msgspec.Struct, frozen=True):
    """What a flow is read in: environment variables, `--set` values, and facts such as `local`.

    What runs already is not `judged` by its types: a check that is new must not stop it. Where nothing is to run
    (`lint`, `test`), secrets that are not there have a stand-in: `trying`.
    """

    environment: Mapping[str, str] = {}
    overrides: Mapping[str, str] = {}
    facts: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"local": True})
    judged: bool = True
    trying: bool = False


def read_settings(document: Document, spec: Any, around: Surroundings) -> dict[str, Any]:
    """Return the flow's settings by name; facts (`local`: the gateway listens on this host only) are there too."""
    settings: dict[str, Any] = dict(around.facts)
    if spec is not None and not isinstance(spec, dict):
        document.find("section", ("settings",), f"a mapping of names; got {shown(spec)}", option="settings")
        return settings
    for name, entry in (spec or {}).items():
        settings[name] = _setting(document, name, entry, around, settings)
    for name in around.overrides:
        if name not in settings:
            hint = document.guess(name, settings)
            document.find("unknown-setting", ("settings",), f"--set {name}: a setting of this flow", hint=hint)
    return settings


def _setting(document: Document, name: str, entry: Any, around: Surroundings, known: dict[str, Any]) -> Any:
    where: Where = ("settings", name)
    if not isinstance(entry, dict):
        entry = {"default": entry}
    _check(document, name, entry, where)
    variable = entry.get("env") if isinstance(entry.get("env"), str) else None
    default, secret = substitute(document, entry.get("default"), known, where), entry.get("secret") is True
    given = around.overrides.get(name, around.environment.get(variable) if variable else None)
    if given is None and secret and around.trying and variable and "default" not in entry:
        return SecretStr(STAND_IN)
    if given is None:
        if variable and "default" not in entry:
            message = f"the environment variable {variable}, which has no default; got nothing"
            document.find("setting-missing", where, message, option=name)
        if "default" not in entry:
            document.broken.setdefault("settings", set()).add(name)
        return default
    return SecretStr(given) if secret else _typed(document, given, default, where)


def _check(document: Document, name: str, entry: dict[str, Any], where: Where) -> None:
    """Find options that are none, that miss or that are of the wrong type."""
    for key in entry:
        if key not in _KEYS:
            message = f"one of {', '.join(_KEYS)}; got '{key}'"
            hint = document.guess(key, _KEYS)
            document.find("unknown-option", (*where, key), message, option=f"{name}.{key}", hint=hint)
    for key, kind, expected in (("env", str, "the name of a variable"), ("secret", bool, "true or false")):
        if key in entry and not isinstance(entry[key], kind):
            message = f"{expected}; got {shown(entry[key])}"
            document.find("option-value", (*where, key), message, option=f"{name}.{key}")
    if "env" not in entry and "default" not in entry:
        document.find("setting", where, "an env, a default or both; got neither", option=name)
    if entry.get("secret") is True and entry.get("default") is not None:
        message = "a secret from the environment only; got a default in the file"
        document.find("secret", (*where, "default"), message, option=name)


def _typed(document: Document, text: str, default: Any, where: Where) -> Any:
    """Read a text from outside as the type of the default."""
    try:
        if isinstance(default, bool):
            return _TRUTH[text.strip().lower()]
        if isinstance(default, list | dict):
            return msgspec.json.decode(text, type=type(default))
        if isinstance(default, float) and not isfinite(float(text)):
            raise ValueError(text)
        return type(default)(text) if isinstance(default, int | float) else text
    except (KeyError, ValueError):
        message = f"{_NAMES[type(default)]}, as the default is; got '{text}' from outside"
        document.find("setting-type", where, message, option=str(where[-1]))
        return default


def substitute(document: Document, value: Any, settings: Mapping[str, Any], where: Where) -> Any:
    """Return `value` with every `${name}` replaced; a value that is one reference alone keeps the setting's type."""
    if isinstance(value, dict):
        return {key: substitute(document, inner, settings, (*where, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [substitute(document, inner, settings, (*where, i)) for i, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    problems = list(_problems(document, value, settings))
    for message, hint, offset in problems:
        document.find("unknown-setting", where, message, hint=hint, text=value, offset=offset)
    whole = _REFERENCE.fullmatch(value)
    if problems or (whole and whole[1] in document.broken.get("settings", ())):
        document.lose(where)
        return None
    return settings[whole[1]] if whole else _REFERENCE.sub(lambda found: str(settings[found[1]]), value)


def _problems(document: Document, text: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield what is wrong with the references in a text: message, hint and where."""
    for found in _REFERENCE.finditer(text):
        name = found[1]
        if name not in settings:
            yield f"a setting's name in ${{…}}; got '{name}'", document.guess(name, settings), found.start(1)
        elif isinstance(settings[name], SecretStr) and found[0] != text:
            yield f"a secret alone in its option; got ${{{name}}} in a longer text", "", found.start()
    if cut := _OPEN.search(text):
        yield f"a setting's name in ${{…}}; got '{cut[0][:40]}' without its end", "", cut.start()
