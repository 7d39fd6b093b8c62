"""Training is repeatable, knows when to stop, and prepares for strangers."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ranking_models import metrics
from ranking_models.data import Dataset, encode, fit_schema
from ranking_models.errors import InputError
from ranking_models.fitting import FitOptions, Weights, fit, scores, search_epochs, tensors
from ranking_models.logs import Logs, read_logs
from ranking_models.nn import build, restore
from ranking_models.schema import FeatureSchema
from ranking_models.split import Split, split_logs
from tests.support.logs import small_tables, write_log
from tests.support.training import NETWORK, OPTIONS, Recorder


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return read_logs(write_log(tmp_path_factory.mktemp("log"), small_tables()))


@pytest.fixture(scope="module")
def parts(logs: Logs) -> Split:
    return split_logs(logs, "user")


@pytest.fixture(scope="module")
def data(logs: Logs, parts: Split) -> Dataset:
    return encode(logs, fit_schema(logs, parts.train))


def fitted(data: Dataset, parts: Split, options: FitOptions, *, epochs: int) -> Weights:
    return fit(data, NETWORK, options, Recorder(), rows=parts.train, epochs=epochs, phase="x")


def test_the_same_seed_gives_the_same_weights_bit_for_bit(data: Dataset, parts: Split) -> None:
    first = fitted(data, parts, OPTIONS, epochs=2)
    torch.rand(7)  # whatever happened in between
    again = fitted(data, parts, OPTIONS, epochs=2)
    other = fitted(data, parts, replace(OPTIONS, seed=2), epochs=2)

    for name, weights in first.items():
        assert np.array_equal(weights, again[name])
        assert not np.array_equal(weights, other[name])


def test_double_precision_is_for_training_alone_and_weights_stay_float32(
    data: Dataset, parts: Split
) -> None:
    single = fitted(data, parts, OPTIONS, epochs=1)
    double = fitted(data, parts, replace(OPTIONS, double=True), epochs=1)

    assert torch.get_default_dtype() == torch.float32
    assert {weights.dtype for weights in double.values()} == {np.dtype(np.float32)}
    found = [scores(restore(NETWORK, data.schema, w), data, parts.test) for w in (single, double)]
    assert found[1].dtype == np.float32
    assert not np.array_equal(found[0], found[1])


def test_training_leaves_the_process_as_it_was(data: Dataset, parts: Split) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    state = torch.random.get_rng_state()
    try:
        with pytest.raises(InputError):
            fitted(data, parts, replace(OPTIONS, learning_rate=1e30), epochs=2)

        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_training_finds_what_is_in_the_log(data: Dataset, parts: Split) -> None:
    weights = fitted(data, parts, OPTIONS, epochs=12)

    found = scores(restore(NETWORK, data.schema, weights), data, parts.test)

    assert metrics.auc(found, data.label[parts.test]) > 0.65  # liked items, good positions


def test_the_search_stops_after_patience_and_names_the_best_epoch(
    data: Dataset, parts: Split
) -> None:
    heard = Recorder()
    options = replace(OPTIONS, epochs=60, learning_rate=0.05)

    found = search_epochs(
        data, NETWORK, options, heard, rows=parts.train, validation=parts.validation
    )

    best = int(np.argmin(heard.losses)) + 1
    assert (found.epochs, found.log_loss) == (best, min(heard.losses))
    assert len(heard.losses) == best + options.patience < 60
    (_, epochs, steps), *others = heard.rounds
    assert not others
    assert (epochs, steps) == (60, -(-len(parts.train) // 32))
    assert heard.steps == steps * len(heard.losses)


def test_a_training_that_diverges_says_what_to_do(data: Dataset, parts: Split) -> None:
    with pytest.raises(InputError, match=r"the loss is not finite in epoch \d; use a smaller"):
        fitted(data, parts, replace(OPTIONS, learning_rate=1e30), epochs=3)


def test_vectors_of_the_unknown_are_trained_though_the_log_names_everybody(
    data: Dataset, parts: Split
) -> None:
    """Without hidden rows nothing but decay would ever touch the vector of unknown users."""
    still = replace(OPTIONS, weight_decay=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(OPTIONS.seed)
        fresh = build(NETWORK, data.schema).state_dict()["body.embedding.table.weight"].numpy()

    without = fitted(data, parts, replace(still, hidden_share=0.0), epochs=2)
    with_hidden = fitted(data, parts, replace(still, hidden_share=0.3), epochs=2)

    unknown_user = 0  # user_id is the first categorical feature: its row 0
    table = "body.embedding.table.weight"
    assert np.array_equal(without[table][unknown_user], fresh[unknown_user])
    assert not np.array_equal(with_hidden[table][unknown_user], fresh[unknown_user])


def test_strangers_are_shown_what_most_people_like(data: Dataset, parts: Split) -> None:
    weights = fitted(data, parts, replace(OPTIONS, hidden_share=0.3), epochs=12)
    network = restore(NETWORK, data.schema, weights)
    items = np.arange(data.tables["item"].rows - 1)
    stranger = np.full(len(items), data.tables["user"].rows - 1)
    context = np.zeros(len(items), np.intp)  # the same for all

    with torch.no_grad():
        batch = data.join(stranger, items, context)
        found = network(*tensors(data.schema, batch)).numpy()

    liked = items % 2 == 1  # in the small log odd items have the better chance
    assert metrics.auc(found, liked.astype(np.float32)) > 0.9


def test_rows_are_scored_the_same_in_any_portion(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = build(NETWORK, data.schema)
    rows = np.arange(50)
    at_once = scores(network, data, rows)

    monkeypatch.setattr("ranking_models.fitting.EVALUATED_ROWS", 7)

    np.testing.assert_allclose(scores(network, data, rows), at_once, rtol=1e-6)
    assert not network.training


def test_a_network_larger_than_memory_is_one_line(data: Dataset, parts: Split) -> None:
    last = (*data.schema.ids, *data.schema.multi)[-1]
    huge = replace(last, vocabulary=(), hash_buckets=2**45)
    features = tuple(huge if spec is last else spec for spec in data.schema.features)

    with pytest.raises(InputError, match="not enough memory for a network of these sizes"):
        fitted(replace(data, schema=FeatureSchema(features=features)), parts, OPTIONS, epochs=1)
