"""The capacity page shows what its commands print."""

from service.profiling.capacity.values import Assumptions
from tests.support.capacity_page import PAGE, commands, page

LOADS = ("1,000", "10,000", "100,000", "1,000,000", "10,000,000")


def test_the_tables_are_what_the_commands_print():
    assert page() == PAGE.read_text("utf-8"), "run `make reference`"


def test_it_shows_the_five_loads_on_cpus_on_gpus_and_in_between():
    text = PAGE.read_text("utf-8")

    assert "capacity" in commands()
    for load in LOADS:
        assert {
            scoring for scoring in ("CPUs", "half on GPUs", "GPUs")
            if f"| {load} | {scoring} |" in " ".join(text.split())
        } == {"CPUs", "half on GPUs", "GPUs"}  # fmt: skip


def test_it_says_where_the_bytes_of_a_slate_are_from():
    assert f"{Assumptions().slate_bytes}, `python -m tests.bench cache-pages`" in PAGE.read_text()
