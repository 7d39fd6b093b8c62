"""Tasks in any order, some of them twice: nothing is left out, nothing counts double."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bulk.chunks import Chunk, ChunkDone, Progress, chunks
from service.messages import ModelRef
from service.warming.values import WarmReply

MODEL = ModelRef(name="m", version="1", precision="fp32", engine="onnxruntime-cpu")


def beginning(first, top):
    return WarmReply(
        deployment="ranker",
        model=MODEL,
        epoch=3,
        top=top,
        first=first,
        next=first,
        computed=0,
        cached=0,
        empty=0,
        failed=0,
        waited_s=0.0,
    )


def done(chunk):
    return ChunkDone(
        chunk=chunk,
        epoch=3,
        last_epoch=3,
        model=MODEL,
        computed=chunk.end - chunk.first,
        cached=0,
        empty=0,
        failed=0,
        waited_s=0.0,
    )


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(0, 100), st.integers(1, 40))
def test_every_page_is_in_exactly_one_task(first, pages, size):
    cut = list(chunks(first, first + pages, size))

    places = [place for chunk in cut for place in range(chunk.first, chunk.end)]
    assert places == list(range(first, first + pages))
    assert all(0 < chunk.end - chunk.first <= size for chunk in cut)


def test_one_goes_on_only_from_where_nothing_before_is_missing():
    progress = Progress(beginning(10, 40))

    progress.add(done(Chunk(20, 30)))
    assert (progress.reply.next, progress.reply.computed) == (10, 10)

    progress.add(done(Chunk(10, 20)))
    assert (progress.reply.next, progress.reply.computed) == (30, 20)
    assert not progress.reply.is_done


@settings(max_examples=30)
@given(st.randoms(), st.integers(1, 60), st.integers(1, 30))
def test_tasks_count_once_whatever_their_order_and_however_often_they_ran(random, top, size):
    cut = list(chunks(0, top, size))
    twice = cut + random.sample(cut, k=len(cut) // 2)
    random.shuffle(twice)
    progress = Progress(beginning(0, top))

    for chunk in twice:
        progress.add(done(chunk))

    assert progress.reply == msgspec.structs.replace(beginning(0, top), next=top, computed=top)
