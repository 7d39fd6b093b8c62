"""``make verify``: the command blocks that take too long for the tests, as the pages show them.

    python -m tests.verify_docs [PAGE ...]

Runs every block whose mark names this file, page by page, against the served demonstration; each
command has to end with 0. A page that writes a bundle names its version later on: where this
machine's is another one than the page's, it is put in its place. Needs the train extra and, for
MovieLens, the package index. Takes about ten minutes.
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from msgspec import structs

from service.loadgen.process import serving
from tests.support.documents import ROOT, Block, all_blocks
from tests.support.shown_commands import Broken, run_block, run_line

THIS = "tests/verify_docs.py"
START_S = 60.0
FOLDERS = {"service/cache/README.md": "ranking_models/README.md"}
"""A page to the one whose data and bundles it goes on with."""
FIRST = ("README.md", "ranking_models/README.md")
PREPARED = {
    "evaluate movielens": (
        "bundles/movielens",
        "podium export --run runs/movielens --precision fp32,fp16",
    ),
    "--bundle marketplace": (
        "bundles",
        f"mkdir bundles && cp -r {ROOT}/ranking_models/demo/marketplace bundles",
    ),
    "runs/deepfm": (
        "runs/deepfm",
        "podium train --data data/movielens-100k --architecture deepfm --out runs/deepfm",
        "podium export --run runs/deepfm --precision fp32",
    ),
}
"""What a block speaks of, to what it needs, and the commands that make it: the page shows them
further below, or not at all."""
_WROTE = re.compile(r"wrote bundles/([\w-]+)/([0-9a-f]{8})")


def main(pages: Sequence[str]) -> int:
    shown = [block for block in all_blocks() if block.run_by == THIS]
    by_page = {page: list(found) for page, found in groupby(shown, key=lambda block: block.page)}
    order = sorted(by_page, key=lambda page: (page not in FIRST, page))
    with tempfile.TemporaryDirectory(prefix="podium-docs-") as scratch:
        state = Path(scratch, "s")
        with serving(["--port", "0", "--workers", "1", "--state-directory", str(state)]) as service:
            url = service.url(longest_s=START_S)
            for page in order:
                if not pages or page in pages:
                    home = Path(scratch, FOLDERS.get(page, page).replace("/", "-"))
                    home.mkdir(exist_ok=True)
                    verify_page(by_page[page], home, url)
    return 0


def verify_page(found: Sequence[Block], home: Path, url: str) -> None:
    """Run the blocks of one page, one after another."""
    versions: dict[str, str] = {}
    for block in found:
        began = time.monotonic()
        text = block.text
        for on_the_page, here in versions.items():
            text = text.replace(on_the_page, here)
        try:
            prepare(text, home, url)
            printed = run_block(structs.replace(block, text=text), home, url)
        except Broken as broken:
            raise SystemExit(f"broken  {block.place}: {broken}") from None
        versions |= renamed(block, printed)
        sys.stdout.write(f"ok  {block.place}: {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()


def prepare(text: str, home: Path, url: str) -> None:
    """Make what a block needs and its page does not make."""
    for words, (needed, *commands) in PREPARED.items():
        if words in text and not (home / needed).exists() and "export --run" not in text:
            for command in commands:
                run_line(command, home, url)
    if "features.json" in text:
        manifest = next((home / "bundles" / "movielens").glob("*/manifest.json"))
        features = json.loads(manifest.read_text("utf-8"))["schema"]
        (home / "features.json").write_text(json.dumps(features), "utf-8")


def renamed(block: Block, printed: str) -> dict[str, str]:
    """The versions that the page shows below a block, to those that were really written."""
    below = "".join((ROOT / block.page).read_text("utf-8").splitlines(keepends=True)[block.line :])
    return {
        shown[2]: wrote[2]
        for wrote in _WROTE.finditer(printed)
        if (shown := re.search(rf"wrote bundles/({wrote[1]})/([0-9a-f]{{8}})", below))
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
