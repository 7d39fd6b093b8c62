"""The example shows every setting with its true default."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from service.settings import Settings, load_settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "settings.example.toml"
BY_HAND = {"deployments", "surfaces"}


def fields(struct):
    return {field.name: field for field in msgspec.structs.fields(struct)}


def sections():
    for name, field in fields(Settings).items():
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield name, field.type


def test_the_example_loads():
    assert load_settings(EXAMPLE, environ={}).settings.surfaces["default"] == "ranker"


@pytest.mark.parametrize(("section", "struct"), list(sections()))
def test_every_setting_stands_there_with_its_default(section, struct):
    text = EXAMPLE.read_text()
    start = text.index(f"[{section}]\n")
    end = text.find("\n[", start + 1)
    own = text[start : end if end > 0 else None]
    written = tomllib.loads(text).get(section, {})
    loaded = getattr(load_settings(EXAMPLE, environ={}).settings, section)

    for name in fields(struct):
        assert re.search(rf"^(# )?{name} = ", own, re.MULTILINE), f"{section}.{name} is missing"
        assert getattr(loaded, name) == getattr(struct(), name)
    assert set(written) <= set(fields(struct))


def test_top_level_settings_stand_there_too():
    text = EXAMPLE.read_text()
    single = set(fields(Settings)) - {name for name, _ in sections()} - BY_HAND

    for name in single:
        assert re.search(rf"^(# )?{name} = ", text, re.MULTILINE), name
