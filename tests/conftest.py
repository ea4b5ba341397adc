"""What every test has: the fixtures of tests/services.py, a log of its own, and Hypothesis without a deadline."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

pytest_plugins = ["tests.services", "tests.disk"]

settings.register_profile("millstream", deadline=None, print_blob=True)
settings.load_profile("millstream")


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that ran in this process has set the log up for its own output, which is closed when it ends."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
