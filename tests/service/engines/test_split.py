"""The exact split: when it serves, what it takes, and that nobody can tell but by the clock."""

import gc
import logging
import re
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, write_bundle
from ranking_models.exact_split import SPLIT_TOLERANCE
from ranking_models.schema import UNKNOWN, Encoder
from service.engines import EngineInfo
from service.engines.calibration import SIZES, UNMEASURED_CALL_ROWS, UNMEASURED_ROWS
from service.engines.item_tables import shared_table, table_bytes
from service.engines.onnx_runtime import OnnxRuntimeEngine, open_onnx_runtime
from service.engines.rows import CandidateEngine, CandidateRows, CandidateTables, as_features
from service.engines.split import SplitOnnxRuntimeEngine
from service.errors import EngineFailed, StartupError
from service.features import BundleFeatures
from service.messages import Candidate, RankRequest, UserRef
from service.settings import EngineSettings
from service.testing import FakeClock
from tests.support.bundles import run_graph, tiny_contents, write_tiny_bundle
from tests.support.rankers import Kitchen, deployment_of
from tests.support.split_graphs import with_split, write_split_bundle

INFO = EngineInfo(
    name="onnxruntime-cpu", precision="fp32", model="tiny", version="x", max_batch_rows=4096
)


@pytest.fixture(params=[False, True], ids=["halves", "product"])
def bundle(tmp_path, request):
    return Bundle.open(write_split_bundle(tmp_path, product=request.param))


def opened(bundle, *, precision="fp32", **settings):
    chosen = EngineSettings(**{"calibrate": False, **settings})
    return open_onnx_runtime(bundle, precision, chosen, INFO)


@pytest.mark.parametrize("chosen", ["auto", "on"])
def test_a_bundle_with_a_split_is_served_by_it(bundle, chosen):
    engine = opened(bundle, split=chosen)

    assert isinstance(engine, SplitOnnxRuntimeEngine)
    assert isinstance(engine, CandidateEngine)
    assert engine.info.split
    assert engine.info.name == "onnxruntime-cpu"


def test_where_it_is_off_the_whole_graph_serves(bundle):
    engine = opened(bundle, split="off")

    assert isinstance(engine, OnnxRuntimeEngine)
    assert not engine.info.split


def test_a_bundle_without_a_split_is_served_whole(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))

    assert isinstance(opened(bundle), OnnxRuntimeEngine)
    with pytest.raises(StartupError, match=r'split is "on", but tiny@\w+ has no split: export it'):
        opened(bundle, split="on")


def test_other_precisions_have_no_split(tmp_path):
    contents = with_split(tiny_contents())
    half = msgspec.structs.replace(contents.graphs["fp32"], tolerance=1e-2)
    graphs = {**contents.graphs, "fp16": half}
    bundle = Bundle.open(write_bundle(tmp_path, msgspec.structs.replace(contents, graphs=graphs)))

    assert isinstance(opened(bundle, precision="fp16", split="on"), OnnxRuntimeEngine)


def saying_width(contents, width):
    """The same with another figure in its manifest."""
    figures = msgspec.structs.replace(contents.split.figures, item_width=width)
    split = msgspec.structs.replace(contents.split, figures=figures)
    return msgspec.structs.replace(contents, split=split)


def test_a_table_that_is_too_large_is_not_made(tmp_path, caplog):
    """51 rows of 200,000 numbers are 38.9 MB."""
    caplog.set_level(logging.INFO, "service.engines")
    wide = saying_width(with_split(tiny_contents()), 200_000)
    bundle = Bundle.open(write_bundle(tmp_path, wide))

    engine = opened(bundle, split_max_mb=38)

    assert isinstance(engine, OnnxRuntimeEngine)
    (line,) = caplog.messages
    assert "takes 38.9 MB, engine.split_max_mb is 38: the whole graph serves" in line
    with pytest.raises(StartupError, match=r"takes 38.9 MB, engine.split_max_mb is 38: allow more"):
        opened(bundle, split="on", split_max_mb=38)


def test_what_the_table_takes_is_logged(bundle, caplog):
    caplog.set_level(logging.INFO, "service.engines")

    opened(bundle)

    (line,) = caplog.messages
    assert re.fullmatch(r"tiny@\w+: the item table of the exact split takes 0\.0 MB", line)


def test_a_half_of_another_width_than_its_manifest_says_is_refused(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path, saying_width(with_split(tiny_contents()), 2)))

    with pytest.raises(EngineFailed, match=r"item.onnx gives \(1,\) numbers, not 2"):
        opened(bundle)


class CountedHalf:
    """An item half that gives one number per item, so many times, and how many it was asked for."""

    def __init__(self, width=1):
        self.rows, self.width = 0, width

    def __call__(self, items):
        self.rows += items.rows
        return np.repeat(items.ids[:, :1].astype(np.float32), self.width, axis=1)


def test_the_table_has_a_row_per_item_and_one_for_all_others(tmp_path):
    bundle = Bundle.open(write_split_bundle(tmp_path, items=1300))

    table = shared_table(bundle, CountedHalf())

    (values,) = table.parts
    np.testing.assert_array_equal(values[:-1, 0], bundle.items.ids[:, 0])
    assert values[-1, 0] == UNKNOWN
    assert values.nbytes == table_bytes(bundle)
    assert not values.flags.writeable


def test_sums_are_an_array_of_their_own_where_the_row_half_takes_them(tmp_path):
    bundle = Bundle.open(write_split_bundle(tmp_path, product=True))

    def half(items):
        return np.repeat(items.ids[:, :1].astype(np.float32), 3, axis=1) * [1.0, 2.0, 3.0]

    sums, factors = shared_table(bundle, half, sums=1).parts

    assert (sums.shape, factors.shape) == ((51, 1), (51, 2))
    np.testing.assert_array_equal(factors, sums * [2.0, 3.0])
    assert sums.nbytes + factors.nbytes == table_bytes(bundle)
    assert sums.flags.c_contiguous
    assert factors.flags.c_contiguous


def test_the_engines_of_a_bundle_share_one_table_and_the_last_frees_it(bundle):
    half = CountedHalf(bundle.manifest.split.item_width)
    first, second = shared_table(bundle, half), shared_table(bundle, half)
    assert first is second
    assert half.rows == 51

    del first, second
    gc.collect()

    shared_table(bundle, half)
    assert half.rows == 102


def test_scores_are_those_of_the_whole_graph(bundle):
    """The table, the unknown item and values of the request, against direct ONNX Runtime."""
    random = np.random.default_rng(1)
    given = Encoder(bundle.schema.of("item")).encode_rows([{"price": 7.0, "tags": ["used"]}])
    rows = CandidateRows(
        tables=CandidateTables.of(bundle),
        users=bundle.users.take(slice(0, 3)),
        contexts=Encoder(bundle.schema.of("context")).encode_rows([{"hour": h} for h in range(3)]),
        request_of_row=np.sort(random.integers(0, 3, 450)).astype(np.int32),
        items=random.integers(-1, 50, 450).astype(np.int32),
        overrides={3: given, 190: given, 449: given},
    )
    engine = opened(bundle)
    assert rows.rows > 2 * UNMEASURED_CALL_ROWS

    scores = engine.score_candidates(rows)

    direct = run_graph(bundle.graph("fp32").read_bytes(), as_features(rows))
    np.testing.assert_allclose(scores, direct, rtol=0, atol=SPLIT_TOLERANCE)


def test_every_golden_row_scores_as_by_the_whole_graph(bundle):
    golden, expected = bundle.golden

    scores = opened(bundle).score(golden)

    np.testing.assert_allclose(scores, expected, rtol=0, atol=SPLIT_TOLERANCE)


@pytest.mark.parametrize("chosen", ["on", "off"])
def test_the_best_batch_size_is_measured_at_load_or_taken_for_400(bundle, chosen):
    assert opened(bundle, split=chosen).info.best_batch_rows == UNMEASURED_ROWS == 400
    assert opened(bundle, split=chosen, calibrate=True).info.best_batch_rows in SIZES


def test_a_batch_with_too_many_columns_is_refused(bundle):
    golden, _ = bundle.golden
    wide = msgspec.structs.replace(golden, ids=np.repeat(golden.ids, 2, axis=1))

    with pytest.raises(EngineFailed, match="the model takes columns"):
        opened(bundle).score(wide)


def test_engines_of_one_bundle_score_at_the_same_time(bundle):
    """They share a table, which nobody writes, and nothing that a call writes."""
    tables, context = CandidateTables.of(bundle), Encoder(bundle.schema.of("context"))

    def request(number):
        count = 1 + number * 37 % 120
        return CandidateRows(
            tables=tables,
            users=bundle.users.take(slice(number % 20, number % 20 + 1)),
            contexts=context.encode_rows([{"hour": number % 24}]),
            request_of_row=np.zeros(count, np.int32),
            items=(np.arange(count, dtype=np.int32) * (number + 1)) % 50,
        )

    asked = [request(number) for number in range(200)]
    alone = [opened(bundle, split="off").score(as_features(rows)) for rows in asked]
    engines = [opened(bundle) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(
                lambda engine: [engine.score_candidates(rows) for rows in asked],
                engines,
            )
        )

    for of_engine in together:
        for scores, expected in zip(of_engine, alone, strict=True):
            np.testing.assert_allclose(scores, expected, rtol=0, atol=SPLIT_TOLERANCE)


@pytest.mark.parametrize("chosen", ["on", "off"])
async def test_a_slate_holds_the_scores_of_the_whole_graph(bundle, chosen):
    """From the request to the reply: known and unknown items, and a value of the request."""
    clock = FakeClock()
    engine = opened(bundle, split=chosen)
    kitchen = Kitchen([deployment_of(bundle, engine, clock=clock)], clock)
    asked = RankRequest(
        candidates=("i7", "nowhere", Candidate(id="i3", features={"price": 5.0}), "i0"),
        user=UserRef(id="u2"),
        context={"hour": 9, "device": "ios"},
        k=4,
    )

    reply = (await kitchen.ranker.rank(asked, arrived=clock.now())).reply

    features = BundleFeatures(bundle)
    inputs = as_features(features.rows(features.encode(asked)))
    direct = run_graph(bundle.graph("fp32").read_bytes(), inputs)
    expected = dict(zip(asked.candidate_ids(), direct.tolist(), strict=True))
    given = {item.id: item.score for item in reply.items}
    assert given == pytest.approx(expected, abs=SPLIT_TOLERANCE)
    assert [*given] == sorted(expected, key=lambda item: -expected[item])
    assert reply.model.engine == "onnxruntime-cpu"


def test_a_table_with_other_numbers_than_the_item_half_gives_is_refused(bundle):
    width = bundle.manifest.split.item_width
    # Kept: the engine would share it.
    spoiled = shared_table(bundle, CountedHalf(width), None if width == 1 else 1)

    with pytest.raises(EngineFailed, match=r"table of the item half are off by [0-9.e-]+"):
        opened(bundle)

    assert spoiled is shared_table(bundle, CountedHalf())
