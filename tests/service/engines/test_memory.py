"""The memory budget of a GPU: nothing is given twice, nothing gets lost, refusals have figures."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engines.cuda import DeviceMemory
from service.engines.memory import GIB, MIB, Hold, MemoryBudget, MemoryRefused

DEVICE = DeviceMemory(free_bytes=16 * GIB, total_bytes=16 * GIB)


def test_what_does_not_fit_is_refused_with_the_figures():
    budget = MemoryBudget(0.8)
    budget.reserve("marketplace@3f9c2a1b fp16", int(11.6 * GIB), DEVICE)

    with pytest.raises(MemoryRefused) as refusal:
        budget.reserve("marketplace@77aa00ff fp16", int(3.1 * GIB), DEVICE)

    assert str(refusal.value) == (
        "marketplace@77aa00ff fp16 needs 3.1 GiB of GPU memory, 1.2 GiB of 12.8 GiB are left; "
        "marketplace@3f9c2a1b fp16 holds 11.6 GiB; unload a model, or raise "
        "engine.gpu_memory_fraction"
    )
    assert budget.holds == (Hold("marketplace@3f9c2a1b fp16", int(11.6 * GIB)),)


def test_during_a_hot_swap_old_and_new_both_count_until_the_old_one_goes():
    budget = MemoryBudget(0.5)
    old = budget.reserve("old", 3 * GIB, DEVICE)
    new = budget.reserve("new", 4 * GIB, DEVICE)
    with pytest.raises(MemoryRefused):
        budget.reserve("third", 2 * GIB, DEVICE)

    old.release()
    budget.reserve("third", 2 * GIB, DEVICE)

    assert budget.held_bytes == 6 * GIB
    assert new.held_bytes == 4 * GIB


def test_what_others_had_taken_before_the_first_model_is_not_ours_to_give():
    budget = MemoryBudget(0.8)

    budget.reserve("first", GIB, DeviceMemory(free_bytes=12 * GIB, total_bytes=16 * GIB))

    assert budget.limit_bytes == int(0.8 * 16 * GIB) - 4 * GIB
    # Later figures hold our own models as well: taking them off again would count those twice.
    budget.reserve("second", GIB, DeviceMemory(free_bytes=2 * GIB, total_bytes=16 * GIB))
    assert budget.limit_bytes == int(0.8 * 16 * GIB) - 4 * GIB


def test_a_device_that_others_have_filled_has_nothing_left():
    budget = MemoryBudget(0.8)

    with pytest.raises(MemoryRefused, match=r"0\.0 MiB of 0\.0 MiB are left"):
        budget.reserve("any", MIB, DeviceMemory(free_bytes=GIB, total_bytes=16 * GIB))


def test_a_refused_resize_keeps_what_was_held():
    budget = MemoryBudget(0.5)
    plan = budget.reserve("plan", GIB, DEVICE)

    with pytest.raises(MemoryRefused):
        plan.resize(9 * GIB, DEVICE)
    assert (plan.held_bytes, budget.held_bytes) == (GIB, GIB)

    plan.resize(8 * GIB, DEVICE)
    assert budget.held_bytes == 8 * GIB


def test_releasing_twice_gives_nothing_away():
    budget = MemoryBudget(0.5)
    first, same = (budget.reserve("same", GIB, DEVICE) for _ in range(2))

    first.release()
    first.release()

    assert budget.holds == (Hold("same", GIB),)
    same.release()
    assert budget.held_bytes == 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("reserve"), st.integers(0, 2_000)),
            st.tuples(st.just("resize"), st.integers(0, 2_000)),
            st.tuples(st.just("release"), st.integers(0, 30)),
        ),
        max_size=40,
    )
)
def test_the_sum_is_that_of_what_is_held_and_never_above_the_limit(steps):
    budget = MemoryBudget(0.5)
    device = DeviceMemory(free_bytes=9_000, total_bytes=10_000)
    limit, held = 4_000, {}
    for step, (what, amount) in enumerate(steps):
        chosen = list(held)[amount % len(held)] if held else None
        if what == "release" and chosen is not None:
            chosen.release()
            del held[chosen]
        elif what == "resize" and chosen is not None:
            fits = sum(held.values()) - held[chosen] + amount <= limit
            if fits:
                chosen.resize(amount, device)
                held[chosen] = amount
            else:
                with pytest.raises(MemoryRefused):
                    chosen.resize(amount, device)
        elif what == "reserve":
            if sum(held.values()) + amount <= limit:
                held[budget.reserve(str(step), amount, device)] = amount
            else:
                with pytest.raises(MemoryRefused):
                    budget.reserve(str(step), amount, device)
        assert budget.held_bytes == sum(held.values()) <= limit
        assert [hold.bytes for hold in budget.holds] == list(held.values())


def test_threads_that_load_at_once_never_get_more_than_there_is():
    budget = MemoryBudget(1.0)
    device = DeviceMemory(free_bytes=100, total_bytes=100)
    start, above = threading.Barrier(8), []

    def load():
        start.wait()
        for _ in range(200):
            try:
                taken = budget.reserve("some", 30, device)
            except MemoryRefused:
                continue
            above.append(budget.held_bytes > 100)
            taken.release()

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert above
    assert not any(above)
    assert budget.held_bytes == 0
