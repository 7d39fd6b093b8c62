"""Which engines are shared, and how a chain loads those that are."""

import threading
from contextlib import closing, contextmanager

import pytest

from ranking_models.bundle import Bundle
from service.engines.host.client import EngineClient
from service.engines.host.keeper import Begin
from service.engines.host.process import Loading
from service.engines.host.wire import Wanted
from service.engines.loaded_chains import EngineChoice, LoadedChains, choices
from service.engines.loading import EngineLoader, LoadedEngines
from service.errors import EngineFailed, StartupError
from service.processes.plan import usable_cores
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine
from tests.support.bundles import write_tiny_bundle
from tests.support.engine_process import hosting
from tests.support.split_graphs import write_split_bundle
from tests.support.valkey import wait_until

CPU, OPENVINO, TENSORRT, CUDA = "onnxruntime-cpu", "openvino", "tensorrt", "onnxruntime-cuda"
LIMIT_S = 10.0


@pytest.mark.parametrize(
    ("engines", "shared", "own"),
    [
        ([TENSORRT, CPU], [TENSORRT], [CPU]),
        ([TENSORRT, CUDA, CPU], [TENSORRT, CUDA], [CPU]),
        ([TENSORRT, OPENVINO, CPU], [TENSORRT], [OPENVINO, CPU]),
        ([OPENVINO, CPU], [OPENVINO], [CPU]),
        # Without that process workers must not stand still.
        ([CPU], [CPU], [CPU]),
        ([OPENVINO], [OPENVINO], [OPENVINO]),
        ([CPU, TENSORRT], [CPU, TENSORRT], [CPU]),
        # What needs a GPU no worker gets behind our back.
        ([TENSORRT], [TENSORRT], []),
        # A server of its own.
        (["triton", CPU], [], ["triton", CPU]),
        (["triton", TENSORRT, CPU], [TENSORRT], ["triton", CPU]),
    ],
)
def test_the_first_engine_is_shared_and_all_that_need_a_device(engines, shared, own):
    chain = choices(engines, "fp32", shared=True)

    assert [choice.name for choice in chain if choice.shared] == shared
    assert [choice.name for choice in chain if not choice.shared] == own
    assert [choice.name for choice in chain][: len(engines)] == engines


def test_without_an_engine_process_every_engine_is_a_workers_own():
    assert choices([CPU], "fp32") == (EngineChoice(CPU, "fp32", shared=False),)


class Closable(FakeEngine):
    def __init__(self, closed):
        super().__init__(CPU)
        self.closed = closed

    def close(self):
        self.closed.append(self)


class Process:
    """An engine process on threads, and what it has loaded and closed."""

    def __init__(self):
        self.may_load = threading.Event()
        self.may_load.set()
        self.refusal = None
        self.loaded = []
        self.closed = []

    def load(self, wanted):
        assert self.may_load.wait(LIMIT_S)
        if self.refusal is not None:
            raise StartupError(self.refusal)
        self.loaded.append(wanted)
        engine = Closable(self.closed)
        return LoadedEngines(engines=(engine,), predicted_bytes=1_000, limit_bytes=5_000)


@pytest.fixture
def process():
    return Process()


@pytest.fixture
def load(process, tmp_path, clock):
    with (
        hosting(process.load) as way,
        closing(EngineClient(way, max_execution_s=LIMIT_S)) as client,
    ):
        settings = EngineSettings(calibrate=False)
        process.loader = EngineLoader(settings, tmp_path / "plans", clock, shared=client)
        engines = choices([CPU], "fp32", shared=process.loader.shares)
        yield lambda bundle: LoadedChains(process.loader, bundle, engines, 2, clock)
        process.may_load.set()


def statuses(chains):
    return [[state.status for state in chain.states()] for chain in chains.chains]


def place_of(chains, bundle):
    rows, _ = bundle.golden
    return [chain.score(rows).place for chain in chains.chains]


@contextmanager
def closed_after(chains):
    try:
        yield chains
    finally:
        chains.close()


def test_a_chain_serves_with_its_own_engine_until_the_shared_one_is_there(
    process, load, tiny_bundle
):
    process.may_load.clear()
    with closed_after(load(tiny_bundle)) as chains:
        assert statuses(chains) == [["loading", "ready"]] * 2
        assert place_of(chains, tiny_bundle) == [1, 1]

        process.may_load.set()
        chains.wait()

        assert statuses(chains) == [["ready", "ready"]] * 2
        assert place_of(chains, tiny_bundle) == [0, 0]
        assert chains.loaded(0).predicted_bytes == 1_000
        assert [state.engine.shared for state in chains.chains[0].states()] == [True, False]


def test_what_the_process_refuses_is_refused_with_its_reason(process, load, tiny_bundle):
    process.refusal = "tiny needs 3.0 GiB of GPU memory, 1.0 GiB of 2.0 GiB are left"
    with closed_after(load(tiny_bundle)) as chains:
        chains.wait()

        assert statuses(chains) == [["refused", "ready"]] * 2
        assert chains.refusals == {CPU: process.refusal}
        assert place_of(chains, tiny_bundle) == [1, 1]


def test_during_a_hot_swap_both_versions_are_loaded_then_the_old_one_is_closed(
    process, load, tiny_bundle, tmp_path
):
    newer = Bundle.open(write_tiny_bundle(tmp_path / "bundles", seed=1))
    with closed_after(load(tiny_bundle)) as old:
        old.wait()
        with closed_after(load(newer)) as new:
            new.wait()
            assert [wanted.bundle for wanted in process.loaded] == [
                str(tiny_bundle.path.resolve()),
                str(newer.path.resolve()),
            ]
            assert process.closed == []
            memory = process.loader.memory
            assert (memory.limit_bytes, [hold.bytes for hold in memory.holds]) == (
                5_000,
                [1_000] * 2,
            )

            assert old.close()
            wait_until(lambda: len(process.closed) == 1, limit_s=LIMIT_S)
            wait_until(lambda: len(process.loader.memory.holds) == 1, limit_s=LIMIT_S)
            assert place_of(new, newer) == [0, 0]
    wait_until(lambda: len(process.closed) == 2, limit_s=LIMIT_S)


def test_the_process_loads_as_many_engines_as_the_settings_say_and_none_split(tmp_path):
    bundle = write_split_bundle(tmp_path)
    wanted = Wanted(bundle=str(bundle), engine=CPU, precision="fp32")

    for instances, expected in ((3, 3), (None, max(1, usable_cores() // 2))):
        loaded = Loading(told(tmp_path, instances))(wanted)
        assert len(loaded.engines) == expected
        assert not any(engine.info.split for engine in loaded.engines)
        loaded.close()


def test_a_bundle_that_is_gone_is_named(tmp_path):
    gone = Wanted(bundle=str(tmp_path / "gone"), engine=CPU, precision="fp32")

    with pytest.raises(StartupError, match=str(tmp_path / "gone")):
        Loading(told(tmp_path, 1))(gone)


def told(directory, instances):
    return Begin(
        engine=EngineSettings(calibrate=False, threads=2, split="on"),
        batching=BatchPolicy(instances=instances),
        plans=str(directory / "plans"),
        log_level="info",
        longest_end_s=1.0,
    )


def test_an_engine_that_was_retired_is_closed_for_good(process, load, tiny_bundle):
    chains = load(tiny_bundle)
    chains.wait()
    engine = chains.chains[0].links[0].engine

    assert chains.close()

    wait_until(lambda: len(process.closed) == 1, limit_s=LIMIT_S)
    with pytest.raises(EngineFailed, match="away"):
        engine.score(tiny_bundle.golden[0])
