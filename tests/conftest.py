"""What every test has: the fixtures of tests/services.py, and Hypothesis without a deadline."""

from hypothesis import settings

pytest_plugins = ["tests.services", "tests.disk"]

settings.register_profile("millstream", deadline=None, print_blob=True)
settings.load_profile("millstream")
