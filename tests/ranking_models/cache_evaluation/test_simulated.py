"""Rows made anew are those of the log, to the bit; another simulation's bundle is refused."""

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from ranking_models.cache_evaluation.simulated import (
    NotSimulated,
    simulated_evidence,
    simulation_of,
)
from ranking_models.errors import InputError
from ranking_models.evaluation import encoded_rows, rows_of_log
from ranking_models.log_figures import data_source
from ranking_models.manifest import Lineage
from tests.support.simulated import SPEC, simulated_bundle, simulated_log


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return simulated_log(tmp_path_factory.mktemp("log"))


@pytest.mark.parametrize("split", ["global", "user"])
def test_the_rows_are_those_that_training_on_the_log_holds_out(logs, tmp_path, split):
    bundle = Bundle.open(simulated_bundle(tmp_path, logs, split=split))
    chosen = rows_of_log(logs, rows="test", split=split)
    expected = encoded_rows(logs, bundle.schema, chosen.rows).inputs()

    found = simulated_evidence(bundle, simulation_of(bundle.manifest))

    for name, values in found.rows.inputs().items():
        np.testing.assert_array_equal(values, expected[name])
    assert found.labels.tolist() == chosen.labels.tolist()
    assert found.units.tolist() == chosen.units.tolist()
    assert f"made anew: {bundle.manifest.quality.split}" in found.words


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda d, q: {"data": replace(d, name="market")}, "'market', cannot be made anew"),
        (lambda d, q: {"data": replace(d, licence="MIT")}, "cannot be made anew"),
        (lambda d, q: {"data": replace(d, interactions=2_501)}, "none that podium simulate"),
        (lambda d, q: {"data": replace(d, interactions=10**15)}, "none that podium simulate"),
        (lambda d, q: {"data": replace(d, users=5)}, "none that podium simulate"),
        (lambda d, q: {"quality": replace(q, split="all rows")}, "held out no rows"),
        (
            lambda d, q: {"lineage": Lineage(method="pruned", parent="runs/a", options={})},
            "made from runs/a",
        ),
    ],
)
def test_what_is_no_simulation_by_its_manifest_is_told_apart(logs, tmp_path, changed, says):
    whole = Bundle.open(simulated_bundle(tmp_path, logs)).manifest

    with pytest.raises(NotSimulated, match=says):
        simulation_of(replace(whole, **changed(whole.data, whole.quality)))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda d, q: {"data": replace(d, first_event="2026-01-05T00:00:00Z")}, "first_event"),
        (lambda d, q: {"data": replace(d, last_event="2026-01-05T00:00:00Z")}, "last_event"),
        (lambda d, q: {"data": replace(d, interactions=2_490)}, "its last_event|its users|its"),
        (lambda d, q: {"data": replace(d, items=151)}, "its first_event|its items|its last"),
        (lambda d, q: {"quality": replace(q, rows=q.rows - 1)}, "held out 249 rows"),
    ],
)
def test_a_bundle_that_says_otherwise_than_the_simulation_is_refused(logs, tmp_path, changed, says):
    bundle = Bundle.open(simulated_bundle(tmp_path, logs))
    whole = bundle.manifest
    other = replace(bundle, manifest=replace(whole, **changed(whole.data, whole.quality)))

    with pytest.raises(InputError, match=says) as refused:
        simulated_evidence(other, simulation_of(other.manifest))

    assert "--data DIR or --run DIR" in str(refused.value)


def test_items_of_another_seed_are_noticed_though_all_figures_agree(logs, tmp_path):
    """A manifest alone does not tell seeds apart: the tables do."""
    other = simulated_log(tmp_path / "log", replace(SPEC, seed=9))
    bundle = Bundle.open(simulated_bundle(tmp_path, other))
    manifest = replace(bundle.manifest, data=data_source(logs))
    posing = replace(bundle, manifest=manifest)

    with pytest.raises(InputError, match="its items are others"):
        simulated_evidence(posing, simulation_of(manifest))
