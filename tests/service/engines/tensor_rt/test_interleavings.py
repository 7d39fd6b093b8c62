"""Whatever the order in which slots are filled and the device works, every score is its row's."""

import gc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from service.errors import EngineFailed
from tests.support.fake_tensorrt import RTX, VERSIONS
from tests.support.plain_onnx import plain_scores
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.tensor_rt import loaded, simulated


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> np.ndarray:
    return plain_scores(bundle.graph("fp32").read_bytes(), bundle.golden[0])


def some(golden: FeatureBatch, data: st.DataObject, most: int) -> np.ndarray:
    count = data.draw(st.integers(1, most), "rows")
    first = data.draw(st.integers(0, golden.rows - 1), "first row")
    return (first + np.arange(count)) % golden.rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_scores_are_right_under_every_interleaving(bundle, plans, expected, data):
    """Slots are filled and emptied, and streams advance, in an order that Hypothesis draws."""
    golden, _ = bundle.golden
    gpu = SimulatedGpu(choose=lambda streams: data.draw(st.integers(0, streams - 1), "stream"))
    file = data.draw(st.sampled_from([*VERSIONS, RTX]), "TensorRT")
    slots = data.draw(st.integers(2, 3), "slots")
    graphs = data.draw(st.booleans(), "graphs")
    plan = loaded(bundle, simulated(gpu, file), plans, slots=slots, cuda_graphs=graphs)
    under_way: dict[int, np.ndarray] = {}

    for _ in range(data.draw(st.integers(1, 20), "steps")):
        slot = data.draw(st.integers(0, slots - 1), "slot")
        if slot in under_way:
            scores = plan.slots[slot].collect()
            np.testing.assert_allclose(scores, expected[under_way.pop(slot)], atol=1e-6)
        else:
            under_way[slot] = some(golden, data, 64)
            plan.slots[slot].submit(golden.take(under_way[slot]))
        for _ in range(data.draw(st.integers(0, 4), "the device goes on")):
            gpu.step()
    for slot, rows in under_way.items():
        np.testing.assert_allclose(plan.slots[slot].collect(), expected[rows], atol=1e-6)

    plan.close()
    gc.collect()
    gpu.check()


FAULTS = (
    "cudaMemcpyAsync",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaGraphLaunch",
    "cudaSetDevice",
    "execute_async_v3",
    "execution",
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_failure_costs_its_own_batch_at_most(bundle, plans, expected, data):
    """A batch is scored rightly or fails; after a failure that is not sticky the next is scored."""
    golden, _ = bundle.golden
    gpu = SimulatedGpu()
    graphs = data.draw(st.booleans(), "graphs")
    plan = loaded(bundle, simulated(gpu), plans, slots=2, cuda_graphs=graphs)
    fault = data.draw(st.sampled_from(FAULTS), "fault")
    gpu.fail(fault, "cudaErrorLaunchFailure" if fault == "execution" else "cudaErrorInvalidValue")
    failures = 0

    for _ in range(6):
        rows = some(golden, data, 64)
        slot = plan.slots[data.draw(st.integers(0, 1), "slot")]
        try:
            scores = slot.score(golden.take(rows))
        except EngineFailed:
            failures += 1
        else:
            np.testing.assert_allclose(scores, expected[rows], atol=1e-6)

    assert failures <= 1 or (gpu.sticky and failures == 6)
    plan.close()
    gc.collect()
    gpu.check()
