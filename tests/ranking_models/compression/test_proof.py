"""A smaller run is judged on held-out rows and catalogues, and beside logistic regression."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models import metrics
from ranking_models.architectures import LogisticRegression
from ranking_models.compression import (
    Distillation,
    Origin,
    baseline_auc,
    distil_run,
    proven,
    prune_run,
    with_share,
)
from ranking_models.compression.proof import largest_value
from ranking_models.gates import judge, thresholds_for
from ranking_models.manifest import Gate
from ranking_models.run import TrainedRun
from ranking_models.torch_scorer import torch_scorer
from tests.support.smaller import small_origin, trained_run
from tests.support.training import NETWORK, OPTIONS, Recorder


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return small_origin(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def half(origin: Origin) -> TrainedRun:
    return prune_run(
        origin, with_share(NETWORK, 0.5), epochs=3, directory=Path("runs/half"), progress=Recorder()
    )


def judged(origin: Origin, run: TrainedRun, *, baseline: float = 0.0) -> Gate:
    lineage = proven(origin, run, baseline=baseline).lineage
    assert lineage is not None
    assert lineage.gate is not None
    return lineage.gate


def test_a_model_that_ranks_like_its_parent_passes(origin: Origin, half: TrainedRun) -> None:
    gate = judged(origin, half)

    assert gate.passed, gate.failures
    assert gate.reference == "large"
    assert gate.thresholds == thresholds_for("smaller")
    scores = torch_scorer(half.module(), half.schema)(half.held_out)
    assert gate.figures.auc == metrics.auc(scores, half.held_out_labels)
    assert (gate.figures.rows, gate.figures.list_items) == (24, 15)


def test_a_model_below_logistic_regression_fails_however_like_its_parent(
    origin: Origin, half: TrainedRun
) -> None:
    gate = judged(origin, half, baseline=0.999)

    assert [f for f in gate.failures if "logistic regression has 0.99900" in f] == [*gate.failures]
    assert gate.failures == judge(gate.figures, gate.thresholds)


def test_a_student_ruined_by_its_learning_rate_fails(origin: Origin) -> None:
    ruined = distil_run(
        origin,
        NETWORK,
        replace(OPTIONS, epochs=1, learning_rate=0.9),
        Distillation(),
        directory=Path("runs/ruined"),
        progress=Recorder(),
    )

    assert not judged(origin, ruined).passed


def test_a_student_of_flipped_labels_fails(origin: Origin) -> None:
    flipped = replace(origin, data=replace(origin.data, label=1 - origin.data.label))
    student = distil_run(
        flipped,
        NETWORK,
        OPTIONS,
        Distillation(mix=0.0, unshown=0.0),
        directory=Path("runs/flipped"),
        progress=Recorder(),
    )

    failures = judged(origin, student).failures

    assert any(failure.startswith("AUC changed by -") for failure in failures)
    assert any(failure.startswith("the top-10 overlap") for failure in failures)


def test_the_floor_is_a_logistic_regression_trained_like_any_other(origin: Origin) -> None:
    alone = trained_run(
        origin.logs, LogisticRegression(), options=replace(OPTIONS, epochs=40)
    )  # fmt: skip

    assert baseline_auc(origin, Recorder()) == pytest.approx(alone.quality.auc, abs=1e-9)


def test_the_largest_value_is_found_inside_the_network(origin: Origin) -> None:
    weights = {name: array.copy() for name, array in origin.run.weights.items()}
    weights["body.mlp.layers.0.bias"][0] = 1e6
    weights["body.head.weight"][0, -8] = 0  # and it does not show in the scores
    spoiled = replace(origin.run, weights=weights)

    def largest(run: TrainedRun) -> float:
        return largest_value(run.module(), run.schema, run.held_out)

    assert largest(spoiled) == pytest.approx(1e6, rel=1e-3)
    assert 0.5 < largest(origin.run) < 1e3
    logits = np.log(
        (s := torch_scorer(origin.run.module(), origin.run.schema)(origin.run.held_out)) / (1 - s)
    )
    assert largest(origin.run) >= np.abs(logits).max() - 1e-4
