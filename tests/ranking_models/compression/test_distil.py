"""A student learns what the teacher says, by the loss that is stated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ranking_models.architectures import LogisticRegression, WideAndDeep
from ranking_models.compression import Distillation, Origin, distil_run
from ranking_models.compression.distil import distillation_loss, with_unshown
from ranking_models.fitting import tensors
from ranking_models.run import TrainedRun
from ranking_models.torch_scorer import torch_scorer
from tests.support.smaller import small_origin
from tests.support.training import OPTIONS, Recorder

STUDENT = WideAndDeep(embedding_dim=2, hidden=(4,))
QUICK = replace(OPTIONS, epochs=3, weight_decay=0.0)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """With a teacher that is additive in log odds, as a logistic regression can be."""
    return small_origin(tmp_path_factory.mktemp("log"), LogisticRegression())


def taught(
    origin: Origin, distillation: Distillation, *, epochs: int = 3, student: object = STUDENT
) -> TrainedRun:
    return distil_run(
        origin,
        student,  # type: ignore[arg-type]
        replace(QUICK, epochs=epochs),
        distillation,
        directory=Path("runs/small"),
        progress=Recorder(),
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return -(p * np.log(q) + (1 - p) * np.log(1 - q))


@pytest.mark.parametrize(("t", "mix"), [(1.0, 0.5), (3.0, 0.25), (2.0, 1.0), (2.0, 0.0)])
def test_the_loss_is_the_formula_of_its_docstring(origin: Origin, t: float, mix: float) -> None:
    batch = origin.data.inputs(np.arange(50))
    inputs = tensors(origin.data.schema, batch)
    logits, labels = torch.linspace(-3, 2, 50), torch.arange(50) % 3 == 0
    label = labels.float()
    label[7] = torch.nan  # a row that nobody was shown
    teacher = origin.run.module()

    found = distillation_loss(teacher, Distillation(temperature=t, mix=mix))(logits, label, inputs)

    z, y = logits.double().numpy(), labels.double().numpy()
    with torch.no_grad():
        z_t = teacher.logits(*inputs).double().numpy()
    soft = t**2 * entropy(sigmoid(z_t / t), sigmoid(z / t))
    rows = mix * soft + (1 - mix) * entropy(y, sigmoid(z))
    rows[7] = soft[7]
    assert float(found) == pytest.approx(rows.mean(), rel=1e-5)


def test_the_teachers_pull_is_as_strong_at_every_high_temperature(origin: Origin) -> None:
    """Without the factor T^2 it would be a hundred times weaker at T = 50 than at T = 5."""
    inputs = tensors(origin.data.schema, origin.data.inputs(np.arange(20)))
    label = torch.zeros(20)

    def pull(temperature: float) -> float:
        logits = torch.full((20,), 0.3, requires_grad=True)
        options = Distillation(temperature=temperature, mix=1.0)
        loss = distillation_loss(origin.run.module(), options)(logits, label, inputs)
        (gradient,) = torch.autograd.grad(loss, logits)
        return float(gradient.norm())

    assert pull(50.0) == pytest.approx(pull(5.0), rel=0.05)


def test_a_student_that_can_say_the_same_comes_to_say_it(origin: Origin) -> None:
    parent = torch_scorer(origin.run.module(), origin.run.schema)(origin.run.held_out)

    def distance(run: TrainedRun) -> float:
        found = torch_scorer(run.module(), run.schema)(run.held_out)
        return float(np.abs(found - parent).mean())

    options = Distillation(mix=1.0, unshown=2.0)
    learned = taught(origin, options, epochs=25, student=LogisticRegression())

    assert learned.training.epochs > 3
    assert distance(learned) < 0.02 < distance(taught(origin, options, epochs=1)) / 2


def test_the_student_sees_the_teachers_features_and_keeps_its_rows(origin: Origin) -> None:
    run, parent = taught(origin, Distillation()), origin.run

    assert run.architecture == STUDENT
    for field in ("schema", "items", "users", "popularity", "anchors", "held_out",
                  "held_out_rows", "calibration", "calibration_rows", "data"):  # fmt: skip
        assert getattr(run, field) is getattr(parent, field), field
    assert run.lineage is not None
    assert (run.lineage.method, run.lineage.parent) == ("distilled", "large")
    assert run.lineage.options == {
        "temperature": 1.0, "mix": 1.0, "unshown": 1.0, "epochs": run.training.epochs,
    }  # fmt: skip
    assert run.training.validation_log_loss is not None


def test_the_same_seed_gives_the_same_student_and_double_precision_another(
    origin: Origin,
) -> None:
    first, again = (taught(origin, Distillation(), epochs=1) for _ in range(2))
    double = distil_run(
        origin,
        STUDENT,
        replace(QUICK, epochs=1, double=True),
        Distillation(),
        directory=Path("runs/small"),
        progress=Recorder(),
    )

    for name, weights in first.weights.items():
        np.testing.assert_array_equal(again.weights[name], weights)
        assert double.weights[name].dtype == np.float32
    assert any(not np.array_equal(double.weights[n], w) for n, w in first.weights.items())


def test_unshown_pairs_have_a_known_user_any_item_and_no_label(origin: Origin) -> None:
    rows = origin.learned

    data, added = with_unshown(origin.data, rows, 3.0, seed=1)

    assert len(added) == 3 * len(rows)
    assert added[0] == len(origin.data.label)
    assert np.isnan(data.label[added]).all()
    assert set(data.item[added].tolist()) == set(range(len(origin.run.items.ids)))
    assert set(data.user[added].tolist()) <= set(origin.data.user[rows].tolist())
    position = [spec.name for spec in data.schema.ids].index("position")
    assert set(data.inputs(added).ids[:, position].tolist()) == {1, 2, 3}
    for name, array in origin.data.inputs(rows).inputs().items():
        np.testing.assert_array_equal(data.inputs(rows).inputs()[name], array)


def test_no_test_row_is_learned_from(origin: Origin) -> None:
    label = origin.data.label.copy()
    label[origin.parts.test] = 1 - label[origin.parts.test]
    options = Distillation(mix=0.5)

    run = taught(origin, options)
    other = taught(replace(origin, data=replace(origin.data, label=label)), options)

    for name, weights in run.weights.items():
        np.testing.assert_array_equal(other.weights[name], weights)
