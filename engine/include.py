"""`include`: parts of a flow that stand in other files, with parameters."""

import re
from collections.abc import Mapping
from typing import Any

from engine.bundle import Files
from engine.document import Document, Where
from engine.model_faults import shown
from engine.registry import SECTIONS
from engine.yaml_reader import parse

NAMED = ("settings", "tables", *SECTIONS, "channels", "queries", "pages")
PART_KEYS = ("params", "about", "include", *NAMED, "tests")
ENTRY_KEYS = ("file", "with")
PARAM_KEYS = ("default", "about")
DEEPEST, MOST = 5, 1_000
_REFERENCE = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")


class Includer:
    """Puts the parts that a flow includes into its sections; what is wrong with one stands at its place in its file."""

    def __init__(self, document: Document, files: Files) -> None:
        self.document, self.files, self._count = document, files, 0

    def included(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Return a flow's sections with those of its parts; `include` itself is gone."""
        if "include" not in spec:
            return spec
        found = {
            key: dict(value) if isinstance(value, dict) else value for key, value in spec.items() if key != "include"
        }
        found["tests"] = list(spec["tests"]) if isinstance(spec.get("tests"), list) else spec.get("tests")
        self._all(found, self.document, spec["include"], ("include",), ())
        if found["tests"] is None:
            del found["tests"]
        return found

    def _all(self, into: dict[str, Any], document: Document, entries: Any, where: Where, way: tuple[str, ...]) -> None:
        if not isinstance(entries, list):
            document.find(
                "include", where, f"a list of files: [{{file: parts/oven.yaml, with: {{…}}}}]; got {shown(entries)}"
            )
            return
        for number, entry in enumerate(entries):
            self._entry(into, document, entry, (*where, number), way)

    def _entry(self, into: dict[str, Any], document: Document, entry: Any, where: Where, way: tuple[str, ...]) -> None:
        entry = {"file": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("with", {}), dict):
            document.find("include", where, f"a file, or {{file: …, with: {{…}}}}; got {shown(entry)}")
            return
        for key in entry.keys() - set(ENTRY_KEYS):
            hint = document.guess(key, ENTRY_KEYS)
            document.find("unknown-option", (*where, key), f"file or with; got '{key}'", hint=hint)
        name, self._count = entry.get("file"), self._count + 1
        if name in way or len(way) >= DEEPEST or self._count > MOST:
            document.find(
                "include", where, f"parts that do not include themselves, at most {DEEPEST} deep and {MOST} in all"
            )
            return
        text = self.files.text(document, name, (*where, "file") if document.has((*where, "file")) else where)
        if text is not None:
            self._part(into, document, str(name), text, entry.get("with", {}), where, way)

    def _part(
        self, into: dict[str, Any], document: Document, name: str, text: str, given: dict[str, Any], where: Where,
        way: tuple[str, ...],
    ) -> None:  # fmt: skip
        part = parse(text.encode(errors="surrogatepass"), Document(str(self.files.folder / name)))
        if isinstance(part.value, dict):
            line = document.at(where)[0]
            filling = Filling(part, self._params(document, part, given, where), f"{document.path}:{line}")
            for key in part.value.keys() - set(PART_KEYS):
                part.find(
                    "unknown-section",
                    (key,),
                    f"one of {', '.join(PART_KEYS)}; got '{key}'",
                    hint=part.guess(key, PART_KEYS),
                )
            self._merge(into, part, filling)
            if "include" in part.value:
                self._all(into, part, filling.plain(part.value["include"]), ("include",), (*way, name))
        elif not part.findings:
            part.find("include", (), f"a mapping with the sections of a flow; got {shown(part.value)}")
        if part is not self.document:
            self.document.take(part.findings)

    def _params(self, document: Document, part: Document, given: dict[str, Any], where: Where) -> dict[str, Any]:
        """Return the value of each parameter."""
        declared = part.value.get("params") or {}
        if not isinstance(declared, dict):
            part.find("section", ("params",), f"a mapping of names; got {shown(declared)}")
            return given
        values = {}
        for name, entry in declared.items():
            options = entry if isinstance(entry, dict) else {} if entry is None else {"default": entry}
            for key in options.keys() - set(PARAM_KEYS):
                part.find("unknown-option", ("params", name, key), f"default or about; got '{key}'")
            if name not in given and "default" not in options:
                document.find("include", where, f"with: {name}, which {part.path} needs; got nothing")
            values[name] = given.get(name, options.get("default"))
        for name in given.keys() - declared.keys():
            hint = document.guess(name, declared)
            document.find("include", (*where, "with", name), f"a parameter of {part.path}; got '{name}'", hint=hint)
        return values

    def _merge(self, into: dict[str, Any], part: Document, filling: "Filling") -> None:
        for section in NAMED:
            theirs = part.value.get(section)
            if theirs is None:
                continue
            ours = into.get(section)
            ours = into[section] = {} if ours is None else ours
            if not isinstance(theirs, dict) or not isinstance(ours, dict):
                if not isinstance(theirs, dict):
                    part.find("section", (section,), f"a mapping of names; got {shown(theirs)}")
                continue
            for name, value in theirs.items():
                self._put(ours, section, str(filling.plain(name)), value, (section, name), filling)
        for number, test in enumerate(part.value.get("tests") or ()):
            tests = into["tests"] = into.get("tests") or []
            tests.append(filling.into(self.document, test, ("tests", number), ("tests", len(tests))))

    def _put(
        self, ours: dict[str, Any], section: str, name: str, value: Any, where: Where, filling: "Filling"
    ) -> None:  # fmt: skip
        if name not in ours:
            ours[name] = filling.into(self.document, value, where, (section, name))
        elif filling.plain(value) != ours[name]:
            line, _ = self.document.at((section, name))
            home = self.document.home((section, name))
            filling.part.find(
                "duplicate-key", where, f"a name of its own; '{name}' is in {home}:{line} too, and differs"
            )


class Filling:
    """The values of a part's parameters, put in where it says `${name}`; other names are left: they are settings."""

    def __init__(self, part: Document, values: Mapping[str, Any], by: str) -> None:
        self.part, self.values, self.by = part, values, by

    def plain(self, value: Any) -> Any:
        """Return a value with the parameters put in; one that is a reference alone keeps the parameter's type."""
        if isinstance(value, dict):
            return {str(self.plain(key)): self.plain(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.plain(inner) for inner in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        whole = _REFERENCE.fullmatch(value)
        if whole and whole[1] in self.values:
            return self.values[whole[1]]
        return _REFERENCE.sub(lambda found: str(self.values.get(found[1], found[0])), value)

    def into(self, document: Document, value: Any, where: Where, there: Where) -> Any:
        """Return a value as `plain`; the document knows where each of its parts comes from."""
        document.adopt(self.part, where, there, self.by)
        if isinstance(value, dict):
            names = {key: str(self.plain(key)) for key in value}
            return {
                names[key]: self.into(document, inner, (*where, key), (*there, names[key]))
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [
                self.into(document, inner, (*where, number), (*there, number)) for number, inner in enumerate(value)
            ]
        return self.plain(value)
