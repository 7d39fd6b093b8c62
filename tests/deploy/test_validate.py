"""`make validate` on machines that have little: what cannot be judged is said, the rest is."""

import pytest

from tests import validate


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder for programs, on a machine that has no others."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("tests.support.debian_tools.FOLDER", tmp_path / "debian")
    return tmp_path


def program(folder, name, words, code):
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{words}'\nexit {code}\n")
    file.chmod(0o755)


def test_a_machine_without_any_tool_is_told_what_was_not_checked(tools, capsys):
    assert validate.main(str(tools)) == 0

    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert len(lines) == len(validate.CHECKS)
    assert all(": not checked, " in line for line in lines), lines
    assert f"containers: not checked, hadolint is not in {tools}" in lines
    assert "systemd: not checked, systemd-analyze is not on the PATH" in lines
    assert told.err.startswith("promtool is not on the PATH, nor to be had from Debian: ")


def test_what_one_tool_finds_fails_all_and_keeps_none_from_its_work(tools, capsys):
    program(tools, "yamllint", "a space too many", 1)
    program(tools, "hadolint", "", 0)

    assert validate.main(str(tools)) == 1

    told = capsys.readouterr()
    assert "yaml_files: yamllint: a space too many" in told.err
    assert "hadolint: 2 Dockerfiles" in told.out


def test_a_program_for_another_machine_is_missing(tools, capsys):
    (tools / "hadolint").write_bytes(b"\x7fELF for somebody else")
    (tools / "hadolint").chmod(0o755)

    assert validate.main(str(tools)) == 0

    assert "containers: not checked, hadolint does not run here" in capsys.readouterr().out
