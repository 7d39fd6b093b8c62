"""What the driver makes of the tasks' ends: each chunk once, and no waiting for slower runs."""

from types import SimpleNamespace

import msgspec
import pytest

from ranking_models.errors import InputError
from service.bulk.chunks import Chunk, ChunkDone
from service.bulk.spread import connect, first_ends, reason_in
from service.errors import StartupError
from service.messages import ModelRef

MODEL = ModelRef(name="m", version="1", precision="fp32", engine="onnxruntime-cpu")
NOTHING = {"done": b"", "failed": ""}
ONE, OTHER = Chunk(0, 10), Chunk(10, 20)


class Rows:
    """As Ray Data's dataset: rows as they come, and then one that hangs."""

    def __init__(self, rows):
        self.rows = rows

    def iter_rows(self):
        yield from self.rows
        raise AssertionError("nobody waits for a run whose chunk is done")


def row(chunk, *, computed):
    done = ChunkDone(
        chunk=chunk,
        epoch=0,
        last_epoch=0,
        model=MODEL,
        computed=computed,
        cached=0,
        empty=0,
        failed=0,
        waited_s=0.0,
    )
    return {"done": msgspec.json.encode(done), "failed": ""}


def test_the_first_run_of_a_chunk_to_end_counts_and_the_other_is_not_waited_for():
    rows = [row(OTHER, computed=7), NOTHING, row(OTHER, computed=3), row(ONE, computed=10)]

    ends = list(first_ends(Rows(rows), [ONE, OTHER]))

    assert [(end.chunk, end.computed) for end in ends] == [(OTHER, 7), (ONE, 10)]


def test_what_a_task_says_when_it_fails_is_what_the_command_says():
    rows = Rows([row(ONE, computed=10), {"done": b"", "failed": "the cache server is away"}])

    with pytest.raises(InputError, match=r"^Ray: the cache server is away; .* with --resume$"):
        list(first_ends(rows, [ONE, OTHER]))


def test_of_a_process_that_cannot_load_its_models_our_own_words_are_given():
    words = (
        "ray::MapWorker.__init__()\n  File spread.py\n"
        "service.errors.StartupError: no bundle 'm' in /bundles: there is none\n"
        "To change retry attempts, see the docs.\n"
    )

    assert reason_in(words) == "no bundle 'm' in /bundles: there is none"
    assert reason_in("The actor died.\nIts node has gone.\n") == "Its node has gone."


def test_a_ray_that_does_not_start_is_one_line_whatever_it_raises():
    def init(**_):
        raise Exception("The current node timed out during startup. This could\nhappen because")

    with pytest.raises(StartupError, match=r"^Ray on this machine: .* startup\. This could$"):
        connect(SimpleNamespace(init=init), 2, None)
