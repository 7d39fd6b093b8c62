"""The pages of the repository: their blocks, the marks above them, and their links.

A mark is a comment right above a block, and says why `make test` does not run it:

    <!-- run: tests/verify_docs.py -->             a heavier proof runs it, or what it says
    <!-- not run here: needs a Docker engine -->   nothing here can
"""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
FOLDERS = (".github", "deploy", "experiments", "ranking_models", "service")
SHELL = {"sh", "bash", "shell", "console"}
PROGRAMS = (
    "podium", "make", "python", "pip", "curl", "npm", "docker", "kubectl", "envoy", "prometheus",
    "uvicorn",
)  # fmt: skip
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
_MARK = re.compile(r"<!--\s*(run|not run here):\s*((?:(?!-->).)*?)\s*-->\s*\Z", re.S)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:(?: {4}|\t)[^\n]*(?:\n|\Z))+)")


class Block(Struct, frozen=True, kw_only=True):
    """A fenced block, or an indented one that begins with a command."""

    page: str
    """Relative to the repository."""
    line: int
    language: str
    text: str
    """As it is, without the indent."""
    run_by: str | None
    """The proof that runs it instead of `make test`."""
    not_run_for: str | None
    """Why nothing runs it."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that a reader may meet."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    for folder in FOLDERS:
        found += sorted((ROOT / folder).rglob("*.md"))
    return [page for page in found if "node_modules" not in page.parts]


def name_of(page: Path) -> str:
    """How a page is called here."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """In the order of the page."""
    text = page.read_text("utf-8")
    fenced = list(_FENCE.finditer(text))
    found = [
        _block(
            page, text, match.start(), match["language"], _dedent(match["text"], match["indent"])
        )
        for match in fenced
    ]
    # Blanked and not cut out, so that places stay.
    prose = _FENCE.sub(lambda match: re.sub(r"[^\n]", "~", match[0]), text)
    for match in _INDENTED.finditer(prose):
        if match[1].split(maxsplit=1)[0] in PROGRAMS:
            found.append(_block(page, text, match.start(), "sh", _dedent(match[1], "    ")))
    return sorted(found, key=lambda block: block.line)


def commands_of(block: Block) -> str:
    """The block as a shell takes it: of a console's text the lines behind the prompt."""
    if block.language != "console":
        return block.text
    lines = block.text.splitlines()
    return "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))


def is_shell(block: Block) -> bool:
    return block.language in SHELL


def all_blocks() -> Iterator[Block]:
    for page in pages():
        yield from blocks(page)


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures, those in code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    return re.findall(r"\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?\)", prose)


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    found: set[str] = set()
    for title in re.findall(r"^#+ +(.+?) *#*$", _FENCE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        name = slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def _block(page: Path, text: str, start: int, language: str, body: str) -> Block:
    mark = _MARK.search(text[:start])
    said = {mark[1]: " ".join(mark[2].split())} if mark else {}
    return Block(
        page=name_of(page),
        line=text.count("\n", 0, start) + 1,
        language=language,
        text=body,
        run_by=said.get("run"),
        not_run_for=said.get("not run here"),
    )


def _dedent(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
