"""Fixtures that tests of every room share."""

from hypothesis import settings

pytest_plugins = ["tests.support.valkey"]

# How long an example takes says how busy the machine is, and nothing of the promise it checks.
settings.register_profile("podium", deadline=None)
settings.load_profile("podium")
