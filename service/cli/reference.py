"""The page about all commands, written from the commands themselves.

python -m service.cli.reference     writes service/cli/README.md
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from service.cli import command
from service.cli.examples import leaves, split_help
from service.cli.exit_codes import MEANINGS

FILE = Path(__file__).parent / "README.md"

_HEAD = """# Commands

`podium COMMAND --help` says the same as this page, which `make reference` writes from it.

- **For programs.** Every command takes `--json`: one JSON document on standard output and
  nothing else there. A failure is a document too, `{"error": {"exit_code": 2, "message": "..."}}`,
  besides its line on standard error. `podium serve --json` prints its address as soon as it takes
  requests, and goes on serving.
- **Failures** that a person can cause are one line on standard error, `podium: what, where, what
  to do`.
- **Progress** is drawn on standard error, on a terminal only. `NO_COLOR` takes the colours away,
  `TERM=dumb` the bars.
- **Settings** go flag, then environment (`PODIUM_SERVER__PORT`), then file, then default;
  `podium config explain` shows which it was. All of them: [service/settings](../settings).
- **Completion**: `podium --install-completion` for bash, zsh, fish and PowerShell.
- `podium --version` prints the version.

## Exit codes

| code | means |
|---|---|
"""


def reference() -> str:
    """The page."""
    codes = "\n".join(f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items())
    root = command()
    commands = "\n".join(
        "\n".join(_command(" ".join(("podium", *path)), found)) for path, found in leaves(root)
    )
    return f"{_HEAD}{codes}\n\nThey are the same for every command.\n\n{commands}"


def _command(name: str, found: Any) -> Iterator[str]:
    said, examples = split_help(found.help or "")
    context = typer.Context(found, info_name=name)
    yield f"## {name}\n"
    yield f"{said}\n"
    yield "```sh"
    yield from examples
    yield "```\n"
    yield "| | |"
    yield "|---|---|"
    for parameter in found.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            yield f"| `{record[0].strip()}` | {_cell(record[1])} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
    print(f"wrote {FILE}")
