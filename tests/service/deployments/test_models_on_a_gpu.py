"""Models that share one GPU: loaded behind, counted before they are loaded, given back."""

import gc

import numpy as np
import pytest
from msgspec.structs import replace

from service.errors import LoadRefused
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeClock
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.tensor_rt import simulated
from tests.support.versions import Home, score

CHAIN = {"engines": ("tensorrt", "onnxruntime-cpu")}
MEMORY = 16 << 30


@pytest.fixture
def gpu(monkeypatch):
    """A device that every engine finds, and on which nothing is left at the end."""
    device = SimulatedGpu(memory_bytes=MEMORY)
    there = simulated(device)
    monkeypatch.setattr("service.engines.tensor_rt.bundles.find_gpu", lambda _: there)
    yield device
    device.stop()
    gc.collect()
    device.check()


@pytest.fixture
def home(tmp_path, gpu):
    home = Home(tmp_path, FakeClock())
    home.engine = EngineSettings(calibrate=False, row_buckets=(16, 64))
    return home


async def stop(models):
    await models.deployments.stop()
    await models.stop()


async def engines(models, name="a"):
    """The engines of a deployment once none is on its way, and how they are."""
    models.deployments[name].loaded.wait()
    (report,) = (d for d in models.describe({}).deployments if d.name == name)
    return {engine.name: engine.status for engine in report.engines}


async def test_scores_come_from_the_gpu_once_it_is_loaded(home):
    models = home.models(a=CHAIN)
    assert await engines(models) == {"tensorrt": "ready", "onnxruntime-cpu": "ready"}
    deployment = models.deployments["a"]

    scores = await score(deployment, home.clock)

    assert [state.calls for state in deployment.engines] == [1, 0]
    cpu = home.models(a={}).deployments["a"]
    np.testing.assert_allclose(scores, await score(cpu, home.clock), atol=1e-5)
    assert len(deployment.chains) == 2  # while one batch is on the device, another is on its way
    await stop(models)


async def test_what_a_model_holds_is_told_and_given_back(home):
    models = home.models(a=CHAIN)
    await engines(models)

    reply = models.describe({})

    version = models.deployments["a"].bundle.manifest.version
    (hold,) = reply.gpu_memory.holds
    assert hold.model == f"tiny@{version} fp32"
    assert reply.gpu_memory.held_bytes == hold.bytes
    engine = reply.deployments[0].engines[0]
    assert hold.bytes == max(engine.predicted_bytes, engine.used_bytes)
    assert engine.predicted_bytes > 0
    await stop(models)
    assert models.describe({}).gpu_memory.held_bytes == 0


async def test_three_models_share_a_device_and_its_budget(home):
    new = home.other(home.models(a={}).deployments["a"].bundle.manifest.version)
    models = home.models(a=CHAIN, b={**CHAIN, "model": f"tiny@{new}"}, c=CHAIN)
    for name in "abc":
        assert (await engines(models, name))["tensorrt"] == "ready"

    assert len(models.describe({}).gpu_memory.holds) == 2  # a and c compute the same
    await models.load("tiny", new)
    assert len(models.describe({}).gpu_memory.holds) == 2
    await models.activate("tiny", new)
    for task in [*models._leaving]:
        await task
    assert [hold.model for hold in models.describe({}).gpu_memory.holds] == [f"tiny@{new} fp32"]
    await stop(models)


async def test_old_and_new_both_count_until_the_old_one_has_gone(home):
    models = home.models(a=CHAIN)
    await engines(models)
    before = models.describe({}).gpu_memory.held_bytes
    new = home.other(models.deployments["a"].bundle.manifest.version)

    await models.load("tiny", new)
    both = models.describe({}).gpu_memory.held_bytes
    await models.activate("tiny", new)
    for task in [*models._leaving]:
        await task
    after = models.describe({}).gpu_memory

    assert both == pytest.approx(2 * before, rel=0.1)
    assert after.held_bytes == pytest.approx(before, rel=0.1)
    assert [hold.model for hold in after.holds] == [f"tiny@{new} fp32"]
    assert await engines(models) == {"tensorrt": "ready", "onnxruntime-cpu": "ready"}
    await stop(models)


async def with_room_for(home, models_there, **deployments):
    """Models on a device whose budget has room for so many of them."""
    probe = home.models(a=CHAIN)
    await engines(probe)
    holds = probe.describe({}).gpu_memory.held_bytes
    await stop(probe)
    home.engine = replace(home.engine, gpu_memory_fraction=models_there * holds / MEMORY)
    return home.models(**deployments)


async def test_a_version_that_does_not_fit_beside_the_old_one_is_refused_with_figures(home):
    models = await with_room_for(home, 1.5, a=CHAIN)
    await engines(models)
    old = models.deployments["a"].bundle.manifest.version
    new = home.other(old)

    with pytest.raises(LoadRefused) as refusal:
        await models.load("tiny", new)

    said = str(refusal.value)
    assert f"tiny@{new} fp32 needs " in said
    assert f" are left; tiny@{old} fp32 holds " in said
    assert await engines(models) == {"tensorrt": "ready", "onnxruntime-cpu": "ready"}
    assert [hold.model for hold in models.describe({}).gpu_memory.holds] == [f"tiny@{old} fp32"]
    await stop(models)


async def test_at_the_start_a_model_that_does_not_fit_is_served_by_the_rest_of_its_chain(home):
    models = await with_room_for(home, 0.5, a=CHAIN)

    assert await engines(models) == {"tensorrt": "refused", "onnxruntime-cpu": "ready"}

    deployment = models.deployments["a"]
    await score(deployment, home.clock)
    assert "of GPU memory" in deployment.engines[0].last_error
    assert [state.calls for state in deployment.engines] == [0, 1]
    await stop(models)


@pytest.mark.parametrize(
    ("policy", "on_gpu", "on_cpu"),
    [
        (BatchPolicy(), 2, 1),
        (BatchPolicy(execution="thread"), 2, 1),
        (BatchPolicy(execution="inline"), 1, 1),
        (BatchPolicy(instances=3, execution="thread"), 3, 3),
    ],
)
async def test_a_device_gets_two_instances_unless_the_settings_say_more(
    home, policy, on_gpu, on_cpu
):
    home.batching = policy
    models = home.models(a=CHAIN, cpu={})

    assert len(models.deployments["a"].chains) == on_gpu
    assert len(models.deployments["cpu"].chains) == on_cpu
    await engines(models)
    await stop(models)
