"""A slot is the same memory for both of its processes, and room for exactly what was agreed."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking_models.schema import FeatureBatch
from service.engines.host.slot import Slot, SlotLayout, new_memory

widths = st.integers(0, 5)
layouts = st.builds(
    lambda rows, dense, ids, multi: SlotLayout(
        rows=rows, dense=dense, ids=ids, multi=tuple((f"m{n}", w) for n, w in enumerate(multi))
    ),
    st.integers(1, 40),
    widths,
    widths,
    st.lists(widths, max_size=3),
)


@contextmanager
def memory_for(layout):
    descriptor = new_memory(layout)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def filled(layout, count, seed=0):
    random = np.random.default_rng(seed)
    return FeatureBatch(
        dense=random.normal(size=(count, layout.dense)).astype(np.float32),
        ids=random.integers(0, 99, (count, layout.ids)).astype(np.int32),
        multi={n: random.integers(0, 99, (count, w)).astype(np.int32) for n, w in layout.multi},
    )


@given(layout=layouts, data=st.data())
def test_what_one_side_writes_the_other_reads(layout, data):
    count = data.draw(st.integers(1, layout.rows))
    batch = filled(layout, count)
    with memory_for(layout) as descriptor:
        worker, process = Slot(descriptor, layout), Slot(descriptor, layout)

    assert worker.takes(batch)
    worker.write(batch)
    process.scores[:count] = np.arange(count)
    told = process.explain("why: ü" * 400)

    for name, values in process.rows(count).inputs().items():
        np.testing.assert_array_equal(values, batch.inputs()[name])
        assert values.flags.c_contiguous
    assert worker.scores[:count].tolist() == list(range(count))
    assert ("why: ü" * 400).startswith(worker.reason(told).rstrip("\ufffd"))


@given(layout=layouts)
def test_a_full_slot_overlaps_nowhere(layout):
    with memory_for(layout) as descriptor:
        slot = Slot(descriptor, layout)
    batch = filled(layout, layout.rows)

    slot.write(batch)
    slot.scores[:] = 0.5
    slot.explain("x" * 5000)

    for name, values in slot.rows(layout.rows).inputs().items():
        np.testing.assert_array_equal(values, batch.inputs()[name])
    assert (slot.scores == 0.5).all()


LAYOUT = SlotLayout(rows=8, dense=2, ids=1, multi=(("tags", 3),))


@pytest.mark.parametrize(
    "other",
    [
        SlotLayout(rows=8, dense=1, ids=1, multi=(("tags", 3),)),
        SlotLayout(rows=8, dense=2, ids=1, multi=(("tags", 2),)),
        SlotLayout(rows=8, dense=2, ids=1, multi=(("other", 3),)),
        SlotLayout(rows=8, dense=2, ids=1, multi=()),
    ],
)
def test_rows_of_other_columns_are_not_taken(other):
    """A column of width one would silently be spread over all of the slot's."""
    with memory_for(LAYOUT) as descriptor:
        slot = Slot(descriptor, LAYOUT)

    assert not slot.takes(filled(other, 4))


def test_more_rows_than_there_is_room_are_not_taken():
    with memory_for(LAYOUT) as descriptor:
        slot = Slot(descriptor, LAYOUT)

    assert slot.takes(filled(LAYOUT, 8))
    assert not slot.takes(filled(LAYOUT, 9))


def test_a_slot_that_nobody_has_is_no_memory_any_more():
    before = memory_of_ours()
    with memory_for(LAYOUT) as descriptor:
        slot = Slot(descriptor, LAYOUT)
        assert memory_of_ours() > before
    del slot

    assert memory_of_ours() == before


def memory_of_ours():
    """Maps and descriptors of slots in this process."""
    mapped = Path("/proc/self/maps").read_text().count("podium-slot")
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            mapped += "podium-slot" in str(entry.readlink())
    return mapped
