"""What `make` promises, as far as it costs nothing to see."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make(*arguments):
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_failed_environment_is_made_anew_by_the_next_make(tmp_path):
    """As `python -m venv` does without ensurepip: it leaves an interpreter without pip."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\nmkdir -p "$3/bin" && touch "$3/bin/python" && echo half\nexit 1\n'
    )
    python.chmod(0o755)
    arguments = (f"PYTHON={python}", f"VENV={tmp_path}/venv", f"{tmp_path}/venv/bin/python")

    runs = [make(*arguments) for _ in range(2)]

    assert [run.returncode for run in runs] == [2, 2]
    assert all("half" in run.stdout for run in runs), "the second run must try again"


def test_the_change_check_is_the_developers_check_and_ends_with_the_tests():
    assert "exec make check" in (ROOT / ".ci" / "run").read_text()
    planned = make("--dry-run", "VENV=.venv", "check").stdout.splitlines()

    assert " -m pytest " in planned[-1], planned[-1]
