"""The repository itself: what is locked, shipped and imported is what the pages and contracts say."""

import ast
import functools
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from importlinter.api import read_configuration
from importlinter.application.use_cases import SUCCESS, lint_imports
from pathspec import GitIgnoreSpec

from tests.process import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
BYTEWAX_MAY_BE_IMPORTED_BY = {"engine/compile.py", "engine/bytewax_source.py", "engine/bytewax_sink.py"}
# In pieces, so that this file passes its own test.
REGISTRY_HOSTS = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("yarnpkg", "com"), ("deb.debian", "org")]
SOMEBODYS_FOLDER = re.compile(r"(?<![\w.$})-])/(?:work|root|home)/\w")


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that .gitignore lets in: what a commit holds, found without git."""
    ignored = GitIgnoreSpec.from_lines((ROOT / ".gitignore").read_text().splitlines())
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [f for f in folders if f != ".git" and not ignored.match_file(f"{here / f}/")]
        found += [ROOT / here / name for name in names if not ignored.match_file(str(here / name))]
    return tuple(found)


def texts() -> Iterator[tuple[str, str]]:
    for path in files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text()
        except UnicodeDecodeError:
            continue


def shipped_modules() -> list[Path]:
    return [p for p in files() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in SHIPPED]


def imported(path: Path) -> set[str]:
    """Return the dotted names that a module imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
    return names


def requirements(lock: str) -> dict[str, str]:
    """Return each locked package's lines, by its name."""
    blocks = re.split(r"^(?=\w)", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return {re.split("[=<> ;[]", block)[0]: block for block in blocks if block.strip()}


def test_no_file_names_a_registry() -> None:
    hosts = re.compile("|".join(rf"\b{re.escape('.'.join(host))}\b" for host in REGISTRY_HOSTS))
    assert [name for name, text in texts() if hosts.search(text)] == []


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert [name for name, text in texts() if SOMEBODYS_FOLDER.search(text) or str(ROOT) in text] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_package_has_a_version_and_hashes_and_no_address(lock: str) -> None:
    packages = requirements(lock)
    assert len(packages) > 50
    for name, block in packages.items():
        assert re.match(rf"{re.escape(name)}==\S+ .*\\\n    --hash=sha256:[0-9a-f]{{64}}", block), block
        assert not re.search(r"://|^-", block, flags=re.MULTILINE), block


def test_everything_declared_is_locked() -> None:
    def name(requirement: str) -> str:
        return re.split(r"[\[=<>;~! ]", requirement)[0].lower().replace("_", "-")

    groups = PROJECT["dependency-groups"]
    runtime = {name(r) for r in PROJECT["project"]["dependencies"] + groups["build"]}
    assert runtime <= requirements("requirements.lock").keys()
    assert {name(r) for r in groups["dev"]} <= requirements("requirements-dev.lock").keys()


def test_what_is_tested_is_what_runs() -> None:
    development = requirements("requirements-dev.lock")
    for name, block in requirements("requirements.lock").items():
        assert development[name].split()[0] == block.split()[0]


def test_the_browser_lock_has_hashes_and_no_address() -> None:
    text = (ROOT / "tests/browser/package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert '"resolved"' not in text
    assert packages[""]["dependencies"] == json.loads((ROOT / "tests/browser/package.json").read_text())["dependencies"]
    assert all(package["integrity"].startswith("sha512-") for path, package in packages.items() if path)


def test_the_makefile_has_every_target_with_a_line_about_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ["run", "test", "check", "lock", "docs", "bench", "clean"]:
        assert re.search(rf"^{target}:.*## \w", makefile, flags=re.MULTILINE), target


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in script if line and not line.startswith(("#", "set ", "cd "))]
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    in_readme = {line.split("#")[0].strip().removeprefix("$ ") for block in blocks for line in block.splitlines()}
    assert commands == ["make test"]
    assert commands[0] in in_readme


def docker_copies() -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return {source for line in lines for source in shlex.split(line)[:-1]}


def test_the_image_copies_what_exists_and_all_that_is_shipped() -> None:
    sources = docker_copies()
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {*SHIPPED, "flows", "requirements.lock", "pyproject.toml", "LICENSE"} <= sources


def test_the_image_gets_all_it_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == docker_copies()


def test_the_containers_set_only_variables_that_the_code_reads() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    dockerfile = (ROOT / "Dockerfile").read_text()
    named = {*compose["services"]["millstream"]["environment"], *re.findall(r"(MILLSTREAM_\w+)=", dockerfile)}
    code = "".join(path.read_text() for path in shipped_modules())
    assert {"MILLSTREAM_MQTT", "MILLSTREAM_DATABASE", "MILLSTREAM_HOST"} <= named
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", code)] == []


def test_compose_has_no_password_of_its_own() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    given = re.findall(r"^\s+(\w*PASSWORD): (.*)$", compose, flags=re.MULTILINE)
    assert len(given) >= 3
    assert [name for name, value in given if not re.match(r"\$\{\w+:\?|\"yes\"$", value)] == []
    assert re.findall(r"://\w+:(?!\$\{\w+:\?\})", compose) == []


def test_the_containers_services_are_all_there() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"mosquitto", "mysql", "millstream"}
    assert set(services["millstream"]["depends_on"]) == {"mosquitto", "mysql"}
    mounted = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert mounted == set(compose["volumes"])


def test_only_the_adapters_import_bytewax() -> None:
    guilty = {
        str(path.relative_to(ROOT))
        for path in shipped_modules()
        if any(name.split(".")[0] == "bytewax" for name in imported(path))
    }
    assert guilty - BYTEWAX_MAY_BE_IMPORTED_BY == set()


def test_millstream_imports_no_component() -> None:
    folders = {name.split(".")[0] for name in imported(ROOT / "millstream.py")}
    assert not folders & {"sources", "operators", "sinks"}


def test_import_contracts_are_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert read_configuration()["contracts_options"], "the contracts are in pyproject.toml"
    assert lint_imports(cache_dir=None) == SUCCESS, capsys.readouterr().out
