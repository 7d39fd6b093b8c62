"""The yardstick sees what a mean score difference does not."""

import numpy as np
import pytest

from ranking_models.quantisation.harm import Yardstick
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32
from tests.support.gated import SCHEMA, random_rows

ROWS = random_rows(400, seed=9)
ITEM_NUMBER = [spec.name for spec in SCHEMA.ids].index("item_id")


def reference(batch: FeatureBatch) -> Float32:
    """Every item has a score of its own, and users differ a little."""
    items, first = batch.ids[:, ITEM_NUMBER], batch.dense[:, 0]
    return np.asarray(1 / (1 + np.exp(-(items / 200 - 1 + 0.1 * first))), np.float32)


@pytest.fixture(scope="module")
def yardstick() -> Yardstick:
    return Yardstick(reference, SCHEMA, ROWS)


def test_the_reference_does_itself_no_harm(yardstick: Yardstick) -> None:
    harm = yardstick.harm(reference)

    assert harm.mean_difference == 0
    assert (harm.overlap, harm.worst_overlap, harm.tau) == (1, 1, 1)
    assert harm.strain == pytest.approx(0)


def test_a_shift_of_all_scores_keeps_the_order_and_costs_log_loss(yardstick: Yardstick) -> None:
    harm = yardstick.harm(lambda batch: reference(batch) * np.float32(0.8))

    assert (harm.overlap, harm.tau) == (1, 1)
    assert harm.log_loss_gain > 0.01
    assert harm.strain > 1


def test_tops_that_are_cut_off_strain_more_than_noise_of_the_same_size(
    yardstick: Yardstick,
) -> None:
    """Saturation: every score above a bound becomes the bound."""
    bound = np.quantile(reference(ROWS), 0.9).astype(np.float32)
    cut = yardstick.harm(lambda batch: np.minimum(reference(batch), bound))

    def shifted(batch: FeatureBatch) -> Float32:
        return reference(batch) - np.float32(cut.mean_difference)

    shift = yardstick.harm(shifted)
    assert cut.mean_difference == pytest.approx(shift.mean_difference, rel=1e-3)
    assert cut.worst_overlap < 0.5
    assert cut.strain > 1 > shift.strain


def test_scores_that_are_no_numbers_are_beyond_every_bound(yardstick: Yardstick) -> None:
    harm = yardstick.harm(lambda batch: np.full(batch.rows, np.nan, np.float32))

    assert harm.strain == harm.mean_strain == np.inf


def test_a_model_without_item_features_still_has_a_yardstick() -> None:
    schema = FeatureSchema(features=tuple(s for s in SCHEMA.features if s.source == "user"))
    rows = FeatureBatch(
        dense=np.zeros((300, len(schema.dense)), np.float32),
        ids=np.ones((300, len(schema.ids)), np.int32),
    )

    harm = Yardstick(lambda batch: np.full(batch.rows, 0.25, np.float32), schema, rows).harm(
        lambda batch: np.full(batch.rows, 0.25, np.float32)
    )

    assert harm.strain == pytest.approx(0)
