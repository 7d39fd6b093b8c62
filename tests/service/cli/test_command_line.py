"""What holds for every command: help, examples, --json, exit codes, failures in one line."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import command, run
from service.cli.drawing import drawn, draws
from service.cli.examples import arguments_of, leaves, split_help
from service.cli.exit_codes import EPILOG, MEANINGS, ExitCode

COMMANDS = dict(leaves(command()))
EXAMPLES = [
    (" ".join(path), arguments)
    for path, found in COMMANDS.items()
    for example in split_help(found.help or "")[1]
    for arguments in arguments_of(example)
]


def program(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments], stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_its_exit_codes(path, capsys):
    assert run([*path, "--help"]) == ExitCode.DONE

    printed = " ".join(capsys.readouterr().out.split())
    assert f"podium {' '.join(path)}" in printed.partition("Example")[2]
    assert EPILOG in printed
    assert "--json" in printed


@pytest.mark.parametrize(("path", "arguments"), EXAMPLES, ids=[" ".join(a) for _, a in EXAMPLES])
def test_every_example_is_a_command_line_that_is_taken(path, arguments):
    """Parsed against the options of the command that it names, which need not be its own."""
    words = tuple(arguments[:2]) if tuple(arguments[:2]) in COMMANDS else tuple(arguments[:1])

    COMMANDS[words].make_context("podium", arguments[len(words) :])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_with_json_wrong_usage_is_a_document_and_a_line(path, capsys):
    code = run([*path, "--no-such-option", "--json"])

    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert code == error["exit_code"] == ExitCode.USAGE
    assert printed.err == f"podium: {error['message']}\n"


def test_options_that_mean_json_are_the_same_everywhere():
    for found in COMMANDS.values():
        (option,) = (o for o in found.params if "--json" in o.opts)
        assert option.is_flag


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_are_finite(number, capsys):
    for arguments in (
        ["cache", "warm", "--rate", number],
        ["train", "--checkpoint-every", number],
        ["bench", "--price", number],
    ):
        assert run(arguments) == ExitCode.USAGE
        assert f"'{arguments[-2]}'" in capsys.readouterr().err


def test_podium_alone_shows_its_help_and_is_wrong_usage(capsys):
    assert run([]) == ExitCode.USAGE

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Commands:\n  serve" in printed.err
    assert printed.err.endswith("podium: name a command (see podium --help)\n")


def test_the_version_is_printed(capsys):
    assert run(["--version"]) == ExitCode.DONE

    assert re.fullmatch(r"podium [0-9]+\.[0-9]+\.[0-9]+\n", capsys.readouterr().out)


def test_the_exit_codes_are_all_explained():
    assert set(MEANINGS) == set(ExitCode)


def test_what_is_missing_or_does_not_answer_is_one_line(tmp_path, capsys):
    for arguments in (
        ["bundle", "inspect", str(tmp_path / "missing" / "x")],
        ["bundle", "verify", "/dev/null/x"],
        ["cache", "inspect", "--url", "http://127.0.0.1:1"],
    ):
        assert run(arguments) == ExitCode.FAILED
        error = capsys.readouterr().err
        assert error.startswith("podium: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("url", ["nonsense", "http://[::1", "ftp://host", "http://", "http://h:x"])
@pytest.mark.parametrize(
    "asked", ["experiment list", "cache flush", "doctor --ready", "simulate --sessions 1"]
)
def test_an_address_that_is_none_is_said_to_be(asked, url, capsys):
    assert run([*asked.split(), "--url", url]) == ExitCode.FAILED

    error = capsys.readouterr().err
    assert f"{url} is no address of a service; one looks like http://127.0.0.1:8080" in error


def test_a_name_that_is_no_text_is_shown_as_well_as_can_be(capsys):
    assert run(["config", "explain", "--config", "\udcff.toml", "--json"]) == ExitCode.USAGE

    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert message == "\\udcff.toml: there is no such settings file"


def test_ctrl_c_while_it_is_still_being_imported_is_one_line():
    interrupted = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from service.__main__ import main; main()"
    )

    found = subprocess.run(
        [sys.executable, "-c", interrupted], capture_output=True, text=True, check=False
    )

    assert (found.stderr, found.returncode) == ("podium: interrupted\n", ExitCode.INTERRUPTED)


def test_a_reader_that_goes_away_ends_it_without_a_word():
    """As `podium config explain | head -1` does; the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with program("--version", stdout=writer) as process:
        os.close(writer)
        error = process.stderr.read()

    assert error == b""
    assert process.returncode == ExitCode.PIPE_CLOSED


def test_a_full_disk_is_one_line_also_where_it_should_be_a_document():
    with (
        Path("/dev/full").open("wb") as full,
        program("config", "explain", "server.port", "--json", stdout=full) as process,
    ):
        error = process.stderr.read()

    assert error == b"podium: No space left on device\n"
    assert process.returncode == ExitCode.FAILED


def test_closed_streams_change_no_exit_code():
    """As a shell's ``>&-`` leaves them."""
    closed = f"{sys.executable} -m service $1 <&- >&- 2>&-"
    script = f"run() {{ {closed}; }}; run --version || exit 9; run missing"

    assert subprocess.run(["sh", "-c", script], check=False).returncode == ExitCode.USAGE


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_are_drawn_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert draws(Terminal())
    assert not draws(io.StringIO())

    monkeypatch.setenv("TERM", "dumb")
    assert not draws(Terminal())


def test_no_color_takes_the_colours_away(monkeypatch):
    from rich.progress import BarColumn

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    written = {}
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        stream = Terminal()
        with drawn(stream, BarColumn()) as progress:
            progress.add_task("x", total=2, completed=1)
        written[no_color] = re.findall(r"\x1b\[[0-9;]*3[0-9;]*m", stream.getvalue())

    assert written[""]
    assert not written["1"]


def test_the_command_line_starts_without_what_only_some_commands_need():
    heavy = "numpy, scipy, torch, litestar, redis, httpx, onnxruntime, rich, opentelemetry"
    code = (
        "import sys, service.cli; service.cli.run(['--version']); "
        f"print([m for m in {heavy.split(', ')!r} if m in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines()[-1] == "[]"


def test_shells_complete_commands():
    """What the script of `podium --install-completion` asks for."""
    environ = {
        **os.environ,
        "_PODIUM_COMPLETE": "complete_bash",
        "COMP_WORDS": "podium exp",
        "COMP_CWORD": "1",
    }

    found = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )

    assert "experiment" in found.stdout
    assert "serve" not in found.stdout
