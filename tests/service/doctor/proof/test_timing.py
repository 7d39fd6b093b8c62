"""Slots are kept busy, every call is timed, and every batch is collected."""

from collections import deque

import pytest

from service.doctor.proof.rig import Effort, batches_of
from service.doctor.proof.timing import Timer
from service.testing import FakeClock


class Device:
    """One batch at a time; each takes a millisecond."""

    def __init__(self, clock):
        self.clock = clock
        self.queue = deque()
        self.most = 0

    def run(self, slot):
        while slot in self.queue:
            self.clock.advance(0.001)
            self.queue.popleft()


class FakeSlot:
    def __init__(self, device):
        self.device = device

    def submit(self, batch):
        assert self not in self.device.queue, "it is busy"
        self.device.queue.append(self)
        self.device.most = max(self.device.most, len(self.device.queue))

    def collect(self):
        assert self in self.device.queue, "nothing was submitted"
        self.device.run(self)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_slots_have_a_batch_all_the_time(count, bundle):
    device = Device(FakeClock())
    timer = Timer(device.clock, Effort(cell_calls=120), cell_s=60)

    found = timer.time(
        [FakeSlot(device) for _ in range(count)],
        batches_of(bundle, 64),
        engine="tensorrt",
        precision="fp16",
        cuda_graphs=True,
    )

    assert device.most == count
    assert not device.queue, "all was collected"
    assert found.calls == 120 + count - 1
    assert found.p50_ms == pytest.approx(count), "a batch waits for those before it"
    assert found.p99_ms >= found.p95_ms, "enough calls for a 99th percentile"
    assert found.rows_per_s == pytest.approx(64_000)
    assert (found.rows, found.slots) == (64, count)


def test_a_cell_ends_when_its_time_is_over(bundle):
    device = Device(FakeClock())
    timer = Timer(device.clock, Effort(cell_calls=10_000), cell_s=0.0305)

    found = timer.time(
        [FakeSlot(device)], batches_of(bundle, 1), engine="e", precision="p", cuda_graphs=False
    )

    assert found.calls == 31
    assert found.p99_ms is None
