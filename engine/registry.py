"""Find components by name: one file, one class, one kind; also in a pack's own folders and in installed packages."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from engine.component import Component, Sink, Source, Stateful, Stateless
from engine.errors import EnvironmentFault

C = TypeVar("C", bound=Component)
SECTIONS = ("sources", "operators", "sinks")
_BASES: dict[str, tuple[type[Component], ...]] = {
    "sources": (Source,), "operators": (Stateless, Stateful), "sinks": (Sink,),
}  # fmt: skip


Import = Callable[[], type[Component]]


class Kinds(Mapping[str, type[Component]]):
    """The kinds of a section by name. A class is imported when it is asked for: a worker needs few of them."""

    def __init__(self, imports: Mapping[str, Import]) -> None:
        self._imports = imports

    def __getitem__(self, kind: str) -> type[Component]:
        return self._imports[kind]()

    def __contains__(self, kind: object) -> bool:
        return kind in self._imports

    def __iter__(self) -> Iterator[str]:
        return iter(self._imports)

    def __len__(self) -> int:
        return len(self._imports)


def component(kind: str) -> Callable[[type[C]], type[C]]:
    """Name a component class; the name is that of its file and of its key in a flow."""

    def name(cls: type[C]) -> type[C]:
        cls.kind = kind
        return cls

    return name


def component_class(module: ModuleType, kind: str, section: str) -> type[Component]:
    """Return the class of a module that carries `kind`; raises EnvironmentFault when there is none."""
    bases = _BASES[section]
    names = " or ".join(base.__name__ for base in bases)
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Component) and found.kind == kind and found.__module__ == module.__name__:
            if not issubclass(found, bases):
                raise EnvironmentFault(f"{module.__file__}: a {names}, as it lies in {section}; got {found.__name__}")
            return found
    raise EnvironmentFault(f"{module.__file__}: a class ({names}) with @component('{kind}'); found none")


def _from_file(section: str, file: Path) -> type[Component]:
    """Import a component of a pack; a file that was changed is imported anew."""
    name = f"pack_{section}_{file.stem}_{abs(hash((str(file.resolve()), file.stat().st_mtime_ns)))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise EnvironmentFault(f"{file}: cannot be imported")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as fault:
            del sys.modules[name]
            raise EnvironmentFault(_why(file, fault)) from fault
    return component_class(sys.modules[name], file.stem, section)


def _why(file: Path, fault: Exception) -> str:
    """Return what keeps a file from being imported, with its line."""
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == str(file)]
    line = fault.lineno if isinstance(fault, SyntaxError) else lines[-1] if lines else 1
    message = fault.msg if isinstance(fault, SyntaxError) else str(fault).split("\n")[0]
    return f"{file}:{line}: {type(fault).__name__}: {message}"


@cache
def _from_package(section: str, name: str) -> type[Component]:
    return component_class(importlib.import_module(f"{section}.{name}"), name, section)


@cache
def _installed(section: str) -> dict[str, Import]:
    package = importlib.import_module(section)
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    found: dict[str, Import] = {name: partial(_from_package, section, name) for name in names}
    for point in entry_points(group="millstream.components"):
        try:
            loaded = point.load()
        except Exception as fault:
            raise EnvironmentFault(f"the installed component {point.value}: {type(fault).__name__}: {fault}") from fault
        if loaded.section == section:
            found.setdefault(loaded.kind, partial(_same, loaded))
    return found


def _same(cls: type[Component]) -> type[Component]:
    return cls


def kinds(section: str, pack: Path | None = None) -> tuple[Kinds, dict[str, str]]:
    """Return all kinds of a section by name, those in the pack's own folder last, and why some cannot be used."""
    found, faults = dict(_installed(section)), {}
    for file in sorted((pack / section).glob("[!_]*.py")) if pack is not None else ():
        there = found.get(file.stem)
        if there is not None and Path(inspect.getfile(there())) == file.resolve():
            continue
        try:
            if there is not None:
                raise EnvironmentFault(f"{file}: a kind of its own; '{file.stem}' is there already")
            found[file.stem] = partial(_same, _from_file(section, file))
        except EnvironmentFault as fault:
            faults[file.stem] = str(fault)
    return Kinds(found), faults


def components(section: str, pack: Path | None = None) -> Kinds:
    """Return all kinds of a section by name; raises EnvironmentFault for one that cannot be used."""
    found, faults = kinds(section, pack)
    if faults:
        raise EnvironmentFault("\n".join(faults.values()))
    return found
