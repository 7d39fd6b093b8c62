"""Checking all of the settings and loading them must agree."""

import msgspec
import pytest

from service.errors import StartupError
from service.settings import load_settings
from service.settings.checking import check_settings
from service.settings.documentation import sections
from service.settings.places import line_of, lines_of
from service.settings.tree import Settings

BASE = '[deployments.a]\nmodel = "m"\n'
SECTIONS = [
    field.name
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
]
VALUES = ("-1", "0", "1", "0.5", "inf", "nan", '"x"', '""', "true", "[]", "[1]", "{}", "{a = 1}")


@pytest.mark.parametrize("section", SECTIONS)
def test_no_problem_is_found_exactly_where_the_settings_load(tmp_path, section):
    """Every setting of a table, with values of every kind."""
    file = tmp_path / "podium.toml"
    (struct,) = (f.type for f in msgspec.structs.fields(Settings) if f.name == section)
    for field in msgspec.structs.fields(struct):
        for value in VALUES:
            file.write_text(f"{BASE}[{section}]\n{field.name} = {value}\n")
            try:
                load_settings(file, environ={})
                loads = True
            except StartupError:
                loads = False

            problems = check_settings(file, file.read_text(), environ={}).problems

            assert loads == (not problems), (field.name, value, problems)
            assert all(p.where.startswith(f"{file}:") for p in problems if p.setting)


def test_each_setting_has_its_line_however_it_is_written():
    lines = lines_of(
        'a.b = 1\n# a = 2\n\nlist = [\n  1, # [x]\n  "]",\n]\ntext = """\n[no]\nkey = 1\n"""\n'
        "# one line\u2028of TOML\n"
        '[t]\n"quoted key" = 1\ninline = {x = 1, y = {z = 2}}\n'
        "[[many]]\nname = 1\n[many.sub]\nk = 1\n[[many]]\nname = 2\n"
    )

    wanted = {
        ("a", "b"): 1,
        ("list",): 4,
        ("list", 1): 4,
        ("text",): 8,
        ("t",): 13,
        ("t", "quoted key"): 14,
        ("t", "inline", "y", "z"): 15,
        ("many", 0, "name"): 17,
        ("many", 0, "sub", "k"): 19,
        ("many", 1): 20,
        ("many", 1, "name"): 21,
    }
    assert {path: lines.get(path) for path in wanted} == wanted
    assert ("no",) not in lines
    assert line_of(lines, ("many", 1, "missing")) == 20
    assert line_of(lines, ("missing",)) is None


def test_every_setting_is_documented():
    for section in sections():
        assert section.text
        for setting in section.settings:
            assert setting.text, setting.path
            assert setting.kind, setting.path
