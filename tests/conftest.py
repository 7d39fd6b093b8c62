"""Fixtures that tests of every room share."""

pytest_plugins = ["tests.support.valkey"]
