"""The command line in this process: as fast as it can be, with a data folder of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return what runs `millstream ARGUMENTS`; `given` is its standard input."""
    monkeypatch.setenv("MILLSTREAM_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("MILLSTREAM_DATABASE", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str | Path, given: str = "") -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run
