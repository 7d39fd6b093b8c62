"""Every command block of every page is run, here or by the proof that its mark names."""

import re
from itertools import groupby

import pytest

from tests.support.documents import ROOT, all_blocks, is_shell
from tests.support.shown_commands import Broken, look_at, programs_of, run_block

COMMANDS = "service/cli/README.md"
"""Written from the commands; tests/verify_commands.py runs each of them."""
SHOWN = [block for block in all_blocks() if is_shell(block) and block.page != COMMANDS]
RUN_HERE = [block for block in SHOWN if block.run_by is None and block.not_run_for is None]
PAGES = [(page, list(found)) for page, found in groupby(RUN_HERE, key=lambda block: block.page)]
SHORTEST_REASON = 12
HERE = ROOT / "tests" / "docs"
THE_BLOCKS_AS_THEY_ARE = "tests/verify_docs.py"


def test_there_are_blocks_to_run():
    assert {page for page, _ in PAGES} >= {"README.md", "service/api/README.md"}


@pytest.mark.parametrize(("page", "found"), PAGES, ids=[page for page, _ in PAGES])
def test_the_commands_of_a_page_work_one_after_another(page, found, home, url):
    for block in found:
        try:
            run_block(block, home, url)
        except Broken as broken:
            pytest.fail(f"{block.place}: {broken}")


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.place)
def test_what_a_command_names_is_there(block):
    try:
        look_at(block)
    except Broken as broken:
        pytest.fail(f"{block.place}: {broken}")


@pytest.mark.parametrize(
    "block", [b for b in SHOWN if b.run_by is not None], ids=lambda block: block.place
)
def test_a_mark_names_a_proof_that_something_runs(block):
    """`make verify` or `make validate`, or the default suite where it is a test."""
    proof = ROOT / block.run_by
    assert proof.is_file(), f"{block.place}: there is no {block.run_by}"
    by_make = re.search(rf"-m tests\.{proof.stem}\b", (ROOT / "Makefile").read_text("utf-8"))
    assert by_make or proof.name.startswith("test_")
    if block.run_by != THE_BLOCKS_AS_THEY_ARE and proof.parent != HERE:
        said = proof.read_text("utf-8")
        assert any(re.search(rf"\b{name}\b", said) for name in programs_of(block)), (
            "not its program"
        )


@pytest.mark.parametrize(
    "block", [b for b in SHOWN if b.not_run_for is not None], ids=lambda block: block.place
)
def test_a_block_that_nothing_runs_says_what_is_missing(block):
    assert len(block.not_run_for) >= SHORTEST_REASON
