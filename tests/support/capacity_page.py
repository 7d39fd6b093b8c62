"""The tables of deploy/capacity.md, as the commands above them print them.

python -m tests.support.capacity_page     writes them into the page
"""

import contextlib
import io
import re
import shlex

from service.cli import run
from tests.support.documents import ROOT

PAGE = ROOT / "deploy" / "capacity.md"
_SHOWN = re.compile(
    r"```sh\npodium (?P<command>[^\n]*)\n```\n\n<!-- begin -->\n(?P<output>.*?)<!-- end -->", re.S
)


def commands() -> list[str]:
    """Whose output the page shows."""
    return [found["command"] for found in _SHOWN.finditer(PAGE.read_text("utf-8"))]


def page() -> str:
    """The page with what its commands print now."""
    return _SHOWN.sub(_with_output, PAGE.read_text("utf-8"))


def _with_output(found: "re.Match[str]") -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(shlex.split(found["command"]))
    assert code == 0, found["command"]
    command = found["command"]
    return f"```sh\npodium {command}\n```\n\n<!-- begin -->\n\n{out.getvalue()}\n<!-- end -->"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
