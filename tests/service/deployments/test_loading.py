"""From settings to deployments: what is shared, and what is refused."""

import pytest
from msgspec.structs import replace

from ranking_models.bundle import list_bundles, write_bundle
from service.cache.rows import RowLevels
from service.deployments import DeploymentLoader, Models, bundle_directory
from service.deployments.loading import settled
from service.errors import StartupError
from service.settings import (
    BatchPolicy,
    DeploymentSettings,
    LoadedSettings,
    ModelSettings,
    Settings,
)
from service.testing import MemoryScoreCache, MemoryStore
from tests.support.bundles import overwrite, tiny_contents, write_tiny_bundle
from tests.support.rankers import quiet_telemetry

DEFAULT = BatchPolicy()


@pytest.fixture
def load(tmp_path, clock):
    """Loads deployments from the bundles in the test's directory."""

    def load(batching=DEFAULT, **deployments):
        settings = Settings(
            deployments={
                name: DeploymentSettings(**{"model": "tiny", **fields})
                for name, fields in deployments.items()
            },
            models=ModelSettings(directory="bundles"),
            batching=batching,
        )
        loader = DeploymentLoader(
            LoadedSettings(settings=settings, directory=tmp_path),
            tmp_path,
            cache=MemoryScoreCache(clock),
            rows=RowLevels.over(MemoryStore(clock), settings.cache, clock),
            telemetry=quiet_telemetry(clock),
            clock=clock,
        )
        return Models(loader, settings.deployments).deployments

    return load


@pytest.fixture
def path(tmp_path):
    return write_tiny_bundle(tmp_path / "bundles")


def test_deployments_that_compute_the_same_share_batches_and_tables(load, path):
    loaded = load(a={}, b={"cache": "off"}, c={"engines": ("popularity",)})
    a, b, c = loaded["a"], loaded["b"], loaded["c"]

    assert a.batcher is b.batcher
    assert a.chains is b.chains
    assert a.score_hash == b.score_hash
    assert a.bundle is b.bundle is c.bundle
    assert a.features is b.features is c.features
    assert a.popularity is c.popularity
    assert loaded.batchers == (a.batcher,)
    assert loaded.bundles == (a.bundle,)


def test_deployments_of_different_models_share_nothing(load, path, tmp_path):
    write_tiny_bundle(tmp_path / "bundles", name="other", seed=1)

    loaded = load(a={}, b={"model": "other"})

    assert loaded["a"].batcher is not loaded["b"].batcher
    assert loaded["a"].score_hash != loaded["b"].score_hash
    assert len(loaded.batchers) == len(loaded.bundles) == 2


def test_whoever_has_engines_has_a_cache_and_its_mode_decides_whether_it_is_asked(load, path):
    loaded = load(on={}, off={"cache": "off"}, by_popularity={"engines": ("popularity",)})

    assert loaded["on"].cache is not None
    assert loaded["off"].cache is not None, "a variant may want it"
    assert loaded["off"].settings.cache == "off"
    assert loaded["by_popularity"].cache is None


def test_a_popularity_deployment_has_no_engine(load, path):
    (deployment,) = load(a={"engines": ("popularity",)}).values()

    assert deployment.batcher is None
    assert deployment.engines == ()
    assert (deployment.model.engine, deployment.model.precision) == ("popularity", "none")


def test_every_instance_has_engines_of_its_own(load, path):
    (deployment,) = load(BatchPolicy(execution="thread", instances=2), a={}).values()

    one, other = (chain.engines[0] for chain in deployment.chains)
    assert one is not other
    assert [state.engine.name for state in deployment.engines] == ["onnxruntime-cpu"]


@pytest.mark.parametrize("engines", [("onnxruntime-cpu",), ("popularity",)])
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "large"}, "no model large"),
        ({"model": "tiny@00000000"}, "no bundle tiny@00000000"),
        ({"model": "../tiny"}, "not of the form"),
        ({"precision": "fp16"}, "no precision 'fp16'"),
    ],
)
def test_what_is_not_there_is_told_with_the_deployment_that_asks_for_it(
    load, path, fields, said, engines
):
    with pytest.raises(StartupError, match=r"^deployment 'b': ") as refused:
        load(a={}, b={**fields, "engines": engines})

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_bundle_is_refused_with_its_file(load, path):
    overwrite(path / "popularity.npy", b"something else")

    with pytest.raises(StartupError, match=r"deployment 'a': .*popularity\.npy"):
        load(a={})


def test_without_a_directory_the_demonstrations_bundles_are_served(tmp_path):
    settings = Settings(deployments={"a": DeploymentSettings(model="marketplace")})

    directory = bundle_directory(LoadedSettings(settings=settings, directory=tmp_path))

    assert [found.name for found in list_bundles(directory)] == ["marketplace"]


@pytest.mark.parametrize(
    ("execution", "instances", "waits", "settled_for"),
    [
        ("auto", 1, False, "inline"),
        ("auto", 2, False, "thread"),
        ("auto", 2, True, "thread"),
        ("auto", 1, True, "thread"),
        ("inline", 1, True, "inline"),
        ("thread", 1, False, "thread"),
    ],
)
def test_only_a_cpu_scores_on_the_event_loops_thread(execution, instances, waits, settled_for):
    policy = settled(BatchPolicy(execution=execution), instances=instances, waits=waits)

    assert (policy.execution, policy.instances) == (settled_for, instances)


def test_an_fp16_deployment_on_a_cpu_runs_and_shares_the_reference(load, tmp_path):
    contents = tiny_contents()
    graphs = contents.graphs | {"fp16": contents.graphs["fp32"]}
    write_bundle(tmp_path / "bundles", replace(contents, graphs=graphs))

    loaded = load(half={"precision": "fp16"}, whole={})

    assert loaded["half"].model.precision == "fp32"
    assert loaded["half"].batcher is loaded["whole"].batcher
    assert loaded["half"].score_hash == loaded["whole"].score_hash


def test_popularity_is_no_engine_of_a_chain(load, path):
    with pytest.raises(StartupError, match="stands alone"):
        load(a={"engines": ("onnxruntime-cpu", "popularity")})
