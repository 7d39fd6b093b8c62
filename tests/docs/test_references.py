"""The pages about all commands and settings are what the commands and settings say."""

import importlib

import pytest


@pytest.mark.parametrize("module", ["service.cli.reference", "service.settings.reference"])
def test_the_page_is_what_make_reference_writes(module):
    found = importlib.import_module(module)

    assert found.FILE.read_text() == found.reference(), "run `make reference`"
