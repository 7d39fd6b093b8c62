"""The commands of a page: split as a shell splits them, looked at, and run."""

import contextlib
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from service.cli import command, run
from service.cli.examples import leaves
from tests.support.documents import ROOT, Block, commands_of

ADDRESSES = ("127.0.0.1:8080", "localhost:8080")
"""Of the service that a page talks to."""
ASK_A_SERVICE = {"cache", "experiment"}
"""Commands that look for one at the usual address."""
LONGEST_S = 600
COMMANDS = dict(leaves(command()))
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")
_OWN = re.compile(r"(?:\./)?((?:deploy|service|tests|experiments|ranking_models)/[\w./-]+)\Z")
_WRITTEN = ("--out", "-o", "--plot", "--html", "--screenshot")


class Broken(Exception):
    """A command of a page that does not work, in one line."""


def split_commands(text: str) -> Iterator[str]:
    """One command at a time: lines joined while a quote or a backslash is open; no comments."""
    held = ""
    for line in text.splitlines():
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        try:
            words = shlex.split(held, comments=True)
        except ValueError:
            held += "\n"
            continue
        if words:
            yield held
        held = ""
    if held.strip():
        raise Broken(f"a quote is never closed: {held!r}")


def parts_of(line: str) -> Iterator[list[str]]:
    """The words of each program of a line; ``&&``, ``|`` and ``;`` stand between them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    part: list[str] = []
    for word in lexer:
        if word in {"&&", "|", ";", "&", "||"}:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def look_at(block: Block) -> None:
    """Whether what a block names is there, as far as that can be seen without running it.

    Raises:
        Broken: a command, an option, a target, a module or a file that does not exist.
    """
    for line in split_commands(commands_of(block)):
        for words in parts_of(line):
            _look_at_part(words)


def programs_of(block: Block) -> set[str]:
    """The names of what a block starts; what only a shell knows is left out."""
    lines = split_commands(commands_of(block))
    words = [part[0] for line in lines for part in parts_of(line) if part]
    return {Path(word).name for word in words if not _ASSIGNMENT.match(word)} - {"cd", "export"}


def _look_at_part(words: Sequence[str]) -> None:
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words:
        return
    program, arguments = Path(words[0]).name, list(words[1:])
    if program == "podium":
        _parse(arguments)
    elif program == "make":
        _check_targets(arguments)
    elif program.startswith("python") and arguments[:1] == ["-m"] and not find_spec(arguments[1]):
        raise Broken(f"there is no module {arguments[1]}")
    for before, word in itertools.pairwise(words):
        own = _OWN.match(word.partition("[")[0])
        if own and before not in _WRITTEN and not (ROOT / own[1]).exists():
            raise Broken(f"there is no {own[1]}")


def _parse(arguments: list[str]) -> None:
    """By the very options of the command."""
    if arguments[:1] in (["--version"], ["--help"], ["--install-completion"]):
        return
    words = leaf_of(arguments)
    try:
        COMMANDS[words].make_context("podium", arguments[len(words) :])
    except Exception as error:
        raise Broken(f"podium {shlex.join(arguments)}: {error}") from error


def leaf_of(arguments: Sequence[str]) -> tuple[str, ...]:
    """The words that name the command.

    Raises:
        Broken: there is none.
    """
    for length in (2, 1):
        if tuple(arguments[:length]) in COMMANDS:
            return tuple(arguments[:length])
    raise Broken(f"there is no command podium {shlex.join(arguments)}")


def _check_targets(arguments: Sequence[str]) -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) [?:]=", text, re.MULTILINE))
    named = {word for word in arguments if "=" not in word}
    given = {word.partition("=")[0] for word in arguments if "=" in word}
    if named - targets or given - variables:
        raise Broken(f"make has no {', '.join(sorted((named - targets) | (given - variables)))}")


def run_block(block: Block, home: Path, url: str) -> str:
    """Run all commands of a block in a folder, against a service.

    Returns:
        What they wrote to standard output.

    Raises:
        Broken: one of them ended with another exit code than 0.
    """
    text = commands_of(block)
    for address in ADDRESSES:
        text = text.replace(address, url.removeprefix("http://"))
    return "".join(run_line(line, home, url) for line in split_commands(text))


def run_line(line: str, home: Path, url: str) -> str:
    """Run one command; see `run_block`."""
    parts = list(parts_of(line))
    if len(parts) == 1 and parts[0][:1] == ["podium"]:
        return _run_podium(parts[0][1:], home, url)
    (home / ".curlrc").write_text("fail-with-body\nshow-error\nsilent\nmax-time = 30\n")
    done = subprocess.run(
        ["bash", "-ec", line],
        cwd=home,
        env={
            **os.environ,
            "CURL_HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode:
        raise Broken(f"{line}: ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


def _run_podium(arguments: list[str], home: Path, url: str) -> str:
    """In this process: starting another one takes longer than most commands do."""
    words = leaf_of(arguments)
    asks = words[0] in ASK_A_SERVICE and any("--url" in p.opts for p in COMMANDS[words].params)
    if asks and "--url" not in arguments and "--config" not in arguments:
        arguments = [*arguments, "--url", url]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(home),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(arguments)
    if code:
        raise Broken(f"podium {shlex.join(arguments)}: ended with {code}: {err.getvalue()}")
    return out.getvalue()
