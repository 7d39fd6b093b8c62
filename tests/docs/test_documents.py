"""What looks at the pages sees what it should: blocks, marks, links, and wrong commands."""

import pytest

from tests.support.documents import ROOT, anchors, blocks, commands_of, links
from tests.support.shown_commands import Broken, look_at, run_block, split_commands

FENCE = "```"
PAGE = f"""# A page

<!-- run: tests/verify_docs.py -->
{FENCE}sh
podium bench
{FENCE}

<!-- not run here: needs
     a GPU -->

    podium compile --bundle b

Text, and a list:

- item

  {FENCE}console
  $ podium doctor
  ok  all
  {FENCE}

    AUC 0.8 is no command
"""


@pytest.fixture
def page(monkeypatch, tmp_path):
    monkeypatch.setattr("tests.support.documents.ROOT", tmp_path)

    def write(text):
        (tmp_path / "p.md").write_text(text)
        return blocks(tmp_path / "p.md")

    return write


def shell(page, command):
    (block,) = page(f"{FENCE}sh\n{command}\n{FENCE}\n")
    return block


def test_blocks_are_found_with_their_place_and_mark(page):
    found = [(b.line, b.language, b.run_by, b.not_run_for, commands_of(b)) for b in page(PAGE)]

    assert found == [
        (4, "sh", "tests/verify_docs.py", None, "podium bench\n"),
        (11, "sh", None, "needs a GPU", "podium compile --bundle b\n"),
        (17, "console", None, None, "podium doctor"),
    ]


def test_a_mark_is_of_the_block_right_below_it_alone(page):
    text = f"<!-- not run here: a reason -->\n\nText.\n\n{FENCE}sh\npodium bench\n{FENCE}\n"

    assert [block.not_run_for for block in page(text)] == [None]


def test_commands_are_split_as_a_shell_splits_them():
    text = "curl -d '{\n \"k\": 1}' x  # said\n# nothing\npodium bench \\\n  --seconds 1\n"

    assert list(split_commands(text)) == [
        "curl -d '{\n \"k\": 1}' x  # said",
        "podium bench   --seconds 1",
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("podium bench --secnds 1", "secnds"),
        ("podium bensh", "no command podium bensh"),
        ("podium experiment stat key", "no command"),
        ("podium simulate --out d && podium train --dat d", "dat"),
        ("make srve", "make has no srve"),
        ("make ARG=x serve", "make has no ARG"),
        ("python -m tests.bensh", "no module tests.bensh"),
        ("docker build --file deploy/docker/Dockerfile.cup .", "no deploy/docker/Dockerfile.cup"),
    ],
)
def test_what_is_not_there_is_seen_without_running_it(page, command, reason):
    with pytest.raises(Broken, match=reason):
        look_at(shell(page, command))


@pytest.mark.parametrize("command", ["podium bundle verify nothing", "test 1 = 2", "curl no://x"])
def test_a_command_that_fails_breaks_its_block(page, command, tmp_path):
    with pytest.raises(Broken, match="ended with"):
        run_block(shell(page, command), tmp_path, "http://127.0.0.1:1")


def test_links_and_headings_are_as_github_has_them():
    text = "# Why is `x` so?\n\n## A, b & c\n\n## A, b & c\n\n[one](a.md#b) `[no](c)` ![p](d.png)\n"

    assert links(text) == ["a.md#b", "d.png"]
    assert anchors(text) == {"why-is-x-so", "a-b--c", "a-b--c-1"}


def test_the_repository_is_the_one_of_these_tests():
    assert (ROOT / "tests" / "docs").is_dir()
