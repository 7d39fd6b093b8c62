"""Pruning keeps what matters, in smaller matrices, and everything else of the run."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.architectures import DLRM, Architecture, DCNv2, LogisticRegression, WideAndDeep
from ranking_models.compression import FINE_TUNING, Origin, prune_run, with_share, with_sizes
from ranking_models.compression.prune import pruned_weights
from ranking_models.errors import InputError
from ranking_models.run import TrainedRun
from ranking_models.torch_scorer import torch_scorer
from tests.support.smaller import small_origin
from tests.support.training import NETWORK, Recorder

HALF = with_share(NETWORK, 0.5)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return small_origin(tmp_path_factory.mktemp("log"))


def pruned(origin: Origin, architecture: Architecture = HALF, *, epochs: int = 1) -> TrainedRun:
    return prune_run(
        origin, architecture, epochs=epochs, directory=Path("runs/half"), progress=Recorder()
    )


def scores(run: TrainedRun) -> np.ndarray:
    return torch_scorer(run.module(), run.schema)(run.held_out)


def with_dead_units(origin: Origin, dead: list[int]) -> Origin:
    """The same with some hidden units that nothing makes."""
    weights = {name: array.copy() for name, array in origin.run.weights.items()}
    weights["body.mlp.layers.0.weight"][dead] = 0
    weights["body.mlp.layers.0.bias"][dead] = 0
    return replace(origin, run=replace(origin.run, weights=weights))


def test_the_matrices_are_really_smaller(origin: Origin) -> None:
    run = pruned(origin, with_sizes(NETWORK, hidden=(3,), embedding_dim=2))

    shape = {name: array.shape for name, array in run.weights.items()}
    table, width = shape["body.embedding.table.weight"], 2 + 5 * 2
    assert table == (origin.run.weights["body.embedding.table.weight"].shape[0], 2)
    assert shape["body.cross.layers.0.weight"] == (width, width)
    assert shape["body.mlp.layers.0.weight"] == (3, width)
    assert shape["body.head.weight"] == (1, width + 3)


def test_dead_units_go_first_and_are_not_missed(origin: Origin) -> None:
    spoiled = with_dead_units(origin, [0, 2, 3, 7])

    run = pruned(spoiled, epochs=0)

    np.testing.assert_allclose(scores(run), scores(spoiled.run), atol=1e-6)
    kept = spoiled.run.weights["body.mlp.layers.0.weight"][[1, 4, 5, 6]]
    np.testing.assert_array_equal(run.weights["body.mlp.layers.0.weight"], kept)


def test_units_that_nothing_reads_are_dead_too(origin: Origin) -> None:
    weights = {name: array.copy() for name, array in origin.run.weights.items()}
    weights["body.head.weight"][0, -8:-4] = 0
    spoiled = replace(origin, run=replace(origin.run, weights=weights))

    np.testing.assert_allclose(
        scores(pruned(spoiled, epochs=0)), scores(spoiled.run), atol=1e-6
    )  # fmt: skip


def test_fine_tuning_brings_the_parents_scores_nearer(origin: Origin) -> None:
    smallest = with_sizes(NETWORK, hidden=(1,), embedding_dim=1)
    parent = scores(origin.run)

    before, after = (
        np.abs(scores(pruned(origin, smallest, epochs=epochs)) - parent).mean()
        for epochs in (0, 10)
    )

    assert after < before


def test_everything_but_weights_and_figures_is_the_parents(origin: Origin) -> None:
    run, parent = pruned(origin), origin.run

    assert run.name == "half"
    assert run.architecture == replace(NETWORK, hidden=(4,))
    for field in ("schema", "items", "users", "popularity", "anchors", "held_out",
                  "held_out_rows", "calibration", "calibration_rows", "data"):  # fmt: skip
        assert getattr(run, field) is getattr(parent, field), field
    assert (run.quality.rows, run.quality.split) == (parent.quality.rows, parent.quality.split)
    assert run.quality.auc != parent.quality.auc
    assert run.training.epochs == 1
    assert run.training.validation_log_loss is None
    assert run.lineage is not None
    assert (run.lineage.method, run.lineage.parent) == ("pruned", "large")
    assert run.lineage.options == {
        "epochs": 1, "mix": 1.0, "unshown": 1.0, "hidden": "4", "embedding_dim": "4",
    }  # fmt: skip


def test_the_same_parent_gives_the_same_child_bit_for_bit(origin: Origin) -> None:
    first, again = pruned(origin), pruned(origin)

    for name, weights in first.weights.items():
        np.testing.assert_array_equal(again.weights[name], weights)


def test_labels_can_be_learned_from_instead_of_the_parent(origin: Origin) -> None:
    taught = pruned(origin)
    on_labels = prune_run(
        origin,
        HALF,
        epochs=1,
        distillation=replace(FINE_TUNING, mix=0.0, unshown=0.0),
        directory=Path("runs/half"),
        progress=Recorder(),
    )

    assert not np.array_equal(scores(taught), scores(on_labels))


def test_no_test_row_decides_what_goes(origin: Origin) -> None:
    label = origin.data.label.copy()
    label[origin.parts.test] = 1 - label[origin.parts.test]

    other = replace(origin, data=replace(origin.data, label=label))

    for name, weights in pruned_weights(origin, HALF).items():
        np.testing.assert_array_equal(pruned_weights(other, HALF)[name], weights)


def test_a_share_is_of_every_layer_and_leaves_a_unit() -> None:
    large = DLRM(embedding_dim=16, bottom=(64, 1), hidden=(128, 30))

    assert with_share(large, 0.5) == replace(large, bottom=(32, 1), hidden=(64, 15))


@pytest.mark.parametrize(
    ("architecture", "sizes", "message"),
    [
        (LogisticRegression(), {"hidden": (4,)}, "--hidden: a logistic-regression has none"),
        (NETWORK, {"hidden": (9,)}, "--hidden: 9 is more than the run's 8; pruning only takes"),
        (NETWORK, {"hidden": (4, 4)}, r"2 layers are named, the run has 1 \(8\)"),
        (NETWORK, {"hidden": ()}, "0 layers are named"),
        (NETWORK, {"embedding_dim": 5}, "--embedding-dim: 5 is more than the run's 4"),
        (NETWORK, {"hidden": (8,), "embedding_dim": 4}, "nothing would be taken out of this dcn"),
    ],
)
def test_sizes_that_cannot_be_pruned_to_are_refused(
    architecture: Architecture, sizes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        with_sizes(architecture, **sizes)


@pytest.mark.parametrize(
    "architecture",
    [
        LogisticRegression(),
        WideAndDeep(embedding_dim=4, hidden=()),
        DCNv2(embedding_dim=4, cross_layers=1, hidden=(1,)),
    ],
    ids=str,
)
def test_a_share_of_no_layers_is_refused(architecture: Architecture) -> None:
    with pytest.raises(InputError, match="nothing would be taken out"):
        with_share(architecture, 0.5)
