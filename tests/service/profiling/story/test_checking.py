"""A wrong answer is found: a score, an order, an item, a status."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, list_bundles
from ranking_models.onnx_runtime import onnx_runtime_scorer
from service.clock import SystemClock
from service.deployments import bundle_directory
from service.errors import StartupError
from service.loadgen.generator import Asked, Met
from service.profiling.story.checking import Right, slate_difference
from service.profiling.story.peer import Handler
from service.profiling.story.precision import FP32, scored_by
from service.profiling.story.traffic import SLATE, Page, Shoppers, Stream
from service.settings import demo_settings_file, load_settings
from tests.support.bundles import write_tiny_bundle

IDS = ["a", "b", "c"]
SCORES = np.array([0.1, 0.9, 0.5], np.float32)


def met(replies: list[tuple[int, bytes]], *statuses: int) -> Met:
    return Met(
        latencies={status: [0.001] for status in statuses or (200,)},
        pages=Asked(),
        ranks=Asked(),
        unanswered=0,
        broken=0,
        seconds=1.0,
        late_p99_s=0.0,
        cpu_s=0.0,
        replies=replies,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def stream(bundle) -> Stream:
    return Shoppers(bundle).stream(40, seed=1)


@pytest.fixture(scope="module")
def right(bundle, stream, tmp_path_factory: pytest.TempPathFactory) -> Right:
    engine = scored_by(bundle, FP32, plans=tmp_path_factory.mktemp("plans"), clock=SystemClock())
    found = Right(bundle, engine, FP32, stream)
    engine.close()
    return found


def answered_by(handler: Handler, stream: Stream) -> list[tuple[int, bytes]]:
    return [
        (
            index,
            handler.page(r.item_id, SLATE) if isinstance(r, Page) else handler.rank(r.body),
        )
        for index, r in enumerate(stream.requests)
    ]


@pytest.fixture
def replies(bundle, stream) -> list[tuple[int, bytes]]:
    """Right ones, by the server of the steps without Podium."""
    return answered_by(Handler(bundle, onnx_runtime_scorer(bundle.graph("fp32"))), stream)


def test_the_right_slate_differs_by_nothing():
    assert slate_difference(IDS, SCORES, [("b", 0.9), ("c", 0.5), ("a", 0.1)]) < 1e-6


def test_a_wrong_score_and_a_wrong_order_are_measured():
    off = [("b", 0.9), ("c", 0.4), ("a", 0.1)]
    turned = [("c", 0.5), ("b", 0.9), ("a", 0.1)]

    assert slate_difference(IDS, SCORES, off) == pytest.approx(0.1)
    assert slate_difference(IDS, SCORES, turned) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "slate",
    [
        [("b", 0.9), ("c", 0.5)],
        [("b", 0.9), ("b", 0.9), ("c", 0.5)],
        [("b", 0.9), ("c", 0.5), ("stranger", 0.1)],
    ],
)
def test_a_slate_of_other_items_is_refused(slate):
    with pytest.raises(StartupError, match="of the candidates"):
        slate_difference(IDS, SCORES, slate)


def test_the_server_without_podium_answers_rightly(right, replies):
    assert right.check(met(replies)) <= 1e-6


def test_a_score_that_is_off_is_found(right, replies):
    index, body = replies[-1]
    reply = msgspec.json.decode(body)
    reply["items"][0]["score"] += 0.001
    replies[-1] = (index, msgspec.json.encode(reply))

    with pytest.raises(StartupError, match=r"off by 1\.0e-03"):
        right.check(met(replies))


def test_a_missing_answer_and_a_failed_one_are_found(right, replies):
    with pytest.raises(StartupError, match="it answered 23 of 24 requests"):
        right.check(met(replies[1:]))
    with pytest.raises(StartupError, match="statuses 200, 503"):
        right.check(met(replies, 200, 503))


def test_what_is_no_slate_is_refused(right, replies):
    replies[0] = (replies[0][0], b"<html>")

    with pytest.raises(StartupError, match="no slate"):
        right.check(met(replies))


def test_the_network_in_pytorch_gives_the_same_scores(tmp_path: Path):
    from service.profiling.story.peer import torch_of

    (found,) = list_bundles(bundle_directory(load_settings(demo_settings_file(), environ={})))
    demonstration = Bundle.open(found.path)
    stream = Shoppers(demonstration).stream(40, seed=1)
    engine = scored_by(demonstration, FP32, plans=tmp_path, clock=SystemClock())
    right = Right(demonstration, engine, FP32, stream)
    engine.close()

    replies = answered_by(Handler(demonstration, torch_of(demonstration)), stream)

    assert right.check(met(replies)) <= 1e-5
