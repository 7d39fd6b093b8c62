"""A unit that is dead can be taken out of any network, and nothing changes but the sizes."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ranking_models.architectures import (
    DLRM,
    Architecture,
    DCNv2,
    DeepFM,
    LogisticRegression,
    TwoTower,
    WideAndDeep,
)
from ranking_models.compression.units import Units, units_of, without
from ranking_models.nn import build, restore
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec
from ranking_models.torch_scorer import torch_scorer

SCHEMA = FeatureSchema(
    features=(
        FeatureSpec(name="age", source="user", kind="numeric"),
        FeatureSpec(name="price", source="item", kind="numeric"),
        FeatureSpec(name="user_id", source="user", kind="categorical", vocabulary=tuple("abc")),
        FeatureSpec(name="item_id", source="item", kind="categorical", vocabulary=tuple("xyz")),
        FeatureSpec(name="position", source="context", kind="categorical", vocabulary=("1", "2")),
        FeatureSpec(
            name="tags", source="item", kind="multi", vocabulary=("p", "q"), max_length=3
        ),
    )
)  # fmt: skip
ITEMS_ALONE = FeatureSchema(features=tuple(s for s in SCHEMA.ids if s.source == "item"))

LARGE: list[Architecture] = [
    WideAndDeep(embedding_dim=4, hidden=(8, 6)),
    WideAndDeep(embedding_dim=4, hidden=()),
    DeepFM(embedding_dim=4, hidden=(8, 6)),
    DeepFM(embedding_dim=4, hidden=()),
    DCNv2(embedding_dim=4, cross_layers=2, hidden=(8, 6)),
    DCNv2(embedding_dim=4, cross_layers=2, hidden=()),
    DCNv2(embedding_dim=4, cross_layers=2, hidden=(8, 6), cross_rank=3),
    DCNv2(embedding_dim=4, cross_layers=2, hidden=(8, 6), cross_rank=3, cross_experts=2),
    DLRM(embedding_dim=4, bottom=(6, 4), hidden=(8, 6)),
    DLRM(embedding_dim=4, bottom=(), hidden=()),
    TwoTower(embedding_dim=4, hidden=(8, 6), output_dim=3),
    TwoTower(embedding_dim=4, hidden=(), output_dim=3),
]


def half(architecture: Architecture) -> Architecture:
    sizes = {
        field: tuple(width // 2 for width in getattr(architecture, field))
        for field in ("hidden", "bottom")
        if hasattr(architecture, field)
    }
    return replace(architecture, embedding_dim=2, **sizes)


def random_weights(architecture: Architecture, schema: FeatureSchema) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {name: tuple(w.shape) for name, w in build(architecture, schema).state_dict().items()}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def rows_of(schema: FeatureSchema, rows: int = 40) -> FeatureBatch:
    rng = np.random.default_rng(6)
    ids = [rng.integers(0, spec.last_id + 1, rows) for spec in schema.ids]
    return FeatureBatch(
        dense=rng.normal(size=(rows, len(schema.dense))).astype(np.float32),
        ids=np.stack(ids, axis=1).astype(np.int32),
        multi={
            spec.name: rng.integers(0, spec.last_id + 1, (rows, spec.max_length), dtype=np.int32)
            for spec in schema.multi
        },
    )


def kill(weights: dict[str, np.ndarray], units: Units, dead: np.ndarray) -> None:
    """Make units zero on every row."""
    for place in units.places:
        if place.makes:
            array = np.moveaxis(weights[place.parameter], place.axis, 0)  # a view
            array[place.positions[dead].ravel()] = 0


@pytest.mark.parametrize("schema", [SCHEMA, ITEMS_ALONE], ids=["all-sources", "items-alone"])
@pytest.mark.parametrize("large", LARGE, ids=str)
def test_a_network_without_its_dead_units_is_smaller_and_scores_the_same(
    large: Architecture, schema: FeatureSchema
) -> None:
    weights, rng = random_weights(large, schema), np.random.default_rng(7)
    groups = units_of(large, schema)
    alive = [rng.permutation(units.count) < units.count // 2 for units in groups]
    for units, kept in zip(groups, alive, strict=True):
        kill(weights, units, ~kept)
    rows = rows_of(schema)
    before = torch_scorer(restore(large, schema, weights), schema)(rows)

    smaller = weights
    for units, kept in zip(groups, alive, strict=True):
        smaller = without(smaller, units, kept)

    after = torch_scorer(restore(half(large), schema, smaller), schema)(rows)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert before.std() > 1e-3
    assert sum(w.size for w in smaller.values()) < sum(w.size for w in weights.values())


def test_a_living_unit_that_is_taken_out_is_missed() -> None:
    large = LARGE[0]
    weights, units = random_weights(large, SCHEMA), units_of(large, SCHEMA)[0]
    kept = np.arange(units.count) > 0
    rows = rows_of(SCHEMA)

    smaller = restore(replace(large, hidden=(7, 6)), SCHEMA, without(weights, units, kept))

    before = torch_scorer(restore(large, SCHEMA, weights), SCHEMA)(rows)
    assert np.abs(torch_scorer(smaller, SCHEMA)(rows) - before).max() > 1e-3


def test_logistic_regression_has_no_units() -> None:
    assert units_of(LogisticRegression(), SCHEMA) == ()


def test_weights_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    weights = random_weights(LARGE[0], SCHEMA)
    copies = {name: array.copy() for name, array in weights.items()}

    without(weights, units_of(LARGE[0], SCHEMA)[0], np.arange(8) < 4)

    for name, array in copies.items():
        np.testing.assert_array_equal(weights[name], array)
