"""Find components by name: one file, one class, one kind; also in a pack's own folders and in installed packages."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from engine.component import Component
from engine.errors import EnvironmentFault

C = TypeVar("C", bound=Component)
SECTIONS = ("sources", "operators", "sinks")


def component(kind: str) -> Callable[[type[C]], type[C]]:
    """Name a component class; the name is that of its file and of its key in a flow."""

    def name(cls: type[C]) -> type[C]:
        cls.kind = kind
        return cls

    return name


def component_class(module: ModuleType, kind: str) -> type[Component]:
    """Return the class of a module that carries `kind`; raises EnvironmentFault when there is none."""
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Component) and found.kind == kind and found.__module__ == module.__name__:
            return found
    raise EnvironmentFault(f"{module.__file__}: expected a class with @component('{kind}'); found none")


def _from_file(section: str, file: Path) -> type[Component]:
    name = f"pack_{section}_{file.stem}_{abs(hash(str(file.resolve())))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise EnvironmentFault(f"{file}: cannot be imported")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return component_class(sys.modules[name], file.stem)


@lru_cache
def _installed(section: str) -> dict[str, type[Component]]:
    package = importlib.import_module(section)
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    found = {name: component_class(importlib.import_module(f"{section}.{name}"), name) for name in names}
    for point in entry_points(group="millstream.components"):
        loaded = point.load()
        if loaded.section == section:
            found.setdefault(loaded.kind, loaded)
    return found


def components(section: str, pack: Path | None = None) -> dict[str, type[Component]]:
    """Return all kinds of a section by name; those in the pack's own folder of that name come last and add only."""
    found = dict(_installed(section))
    if pack is not None and (pack / section).is_dir():
        for file in sorted((pack / section).glob("[!_]*.py")):
            found.setdefault(file.stem, _from_file(section, file))
    return found
