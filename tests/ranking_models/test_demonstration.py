"""The demonstration bundle is small, is what the recipe says, and can be made again."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

import ranking_models
from ranking_models import recipes
from ranking_models.architectures import DCNv2
from ranking_models.bundle import Bundle, find_bundle, list_bundles
from ranking_models.cache_evaluation.simulated import simulated_evidence, simulation_of
from ranking_models.demonstration import (
    SCORE_TOLERANCE,
    largest_difference,
    make_bundle,
    remove_other_versions,
)
from ranking_models.errors import InputError
from ranking_models.fit_options import FitOptions
from ranking_models.marketplace import Marketplace, MarketplaceSpec
from ranking_models.marketplace.names import item_id, user_id
from ranking_models.metrics import auc
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import in_batches
from ranking_models.recipes import DEMONSTRATION, NAME, STORY, Recipe
from tests.support.bundles import write_tiny_bundle

DEMO = Path(ranking_models.__file__).parent / "demo"
SMALL = Recipe(
    spec=MarketplaceSpec(seed=7, items=200, users=100, sellers=20, categories=6, segments=3),
    sessions=2_000,
    architecture=DCNv2(embedding_dim=4, cross_layers=1, hidden=(8,)),
    options=FitOptions(epochs=2, batch_size=256, double=True),
    precisions=("fp32", "fp16"),
)
CREATED = datetime(2026, 11, 1, tzinfo=UTC)


class Quiet:
    """Hears of every training step and says nothing."""

    def begin(self, phase, epochs, steps, done=0): ...

    def step(self, epoch, loss): ...

    def validated(self, epoch, log_loss, auc): ...


@pytest.fixture(scope="module")
def packaged() -> Bundle:
    return Bundle.open(find_bundle(DEMO, NAME))


def test_the_repository_holds_one_bundle_of_less_than_2_mb():
    assert [ref.name for ref in list_bundles(DEMO)] == [NAME]
    files = [path for path in DEMO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_it_holds_the_items_and_users_of_the_recipes_marketplace(packaged):
    spec, recipe = DEMONSTRATION.spec, packaged.manifest

    assert packaged.item_ids.tolist() == [item_id(at) for at in range(spec.items)]
    assert packaged.user_ids.tolist() == [user_id(at) for at in range(spec.users)]
    assert recipe.data.interactions == DEMONSTRATION.sessions * 10
    assert recipe.architecture == DEMONSTRATION.architecture
    assert recipe.data.licence == "Apache-2.0"
    assert set(recipe.precisions) == {"fp32", "fp16", "int8-cpu", "int8-trt"}
    assert all(v.gate.passed for v in recipe.precisions.values() if v.gate)


def test_its_manifest_says_what_the_caches_modes_cost(packaged):
    segments = packaged.manifest.segments
    exact, segment, *rescored = segments.modes

    assert (exact.mode, segment.mode, segment.rows_saved) == ("exact", "segment", 1.0)
    assert [(m.mode, m.top, round(m.rows_saved, 9)) for m in rescored] == [
        ("segment_rescore", 10, 0.9),
        ("segment_rescore", 20, 0.8),
        ("segment_rescore", 30, 0.7),
        ("segment_rescore", 50, 0.5),
    ]
    for mode in (segment, *rescored):
        assert {"ndcg", "list_auc", "overlap"} <= mode.figures.keys()
        assert mode.change["ndcg"].low <= mode.change["ndcg"].value <= mode.change["ndcg"].high
    assert "20,000 rows, held out by the training" in segments.modes_on
    assert "among 100 candidates" in segments.modes_on


def test_anybody_can_make_the_rows_anew_that_these_costs_are_from(packaged):
    evidence = simulated_evidence(packaged, simulation_of(packaged.manifest))
    score = in_batches(onnx_runtime_scorer(packaged.graph("fp32")), 4096)
    (exact, *_) = packaged.manifest.segments.modes

    assert evidence.rows.rows == 20_000
    assert auc(score(evidence.rows), evidence.labels) == pytest.approx(
        exact.figures["auc"].value, abs=1e-6
    )


def test_it_was_trained_on_the_marketplace_as_it_is_now(packaged):
    """A changed simulation needs a new bundle: `make demo-bundle`."""
    items = Marketplace.generate(DEMONSTRATION.spec).population.items
    price = next(spec for spec in packaged.schema.dense if spec.name == "price")
    column = [spec.name for spec in packaged.schema.of("item").dense].index("price")

    expected = (np.log1p(items.price / 100) - price.mean) / price.scale

    np.testing.assert_allclose(
        packaged.items.dense[:, column], np.clip(expected, -price.clip, price.clip), atol=1e-5
    )


def test_serving_assumes_the_first_position(packaged):
    (position,) = (spec for spec in packaged.schema.features if spec.name == "position")

    assert position.default == 1
    assert set(position.vocabulary) == {str(at) for at in range(1, 11)}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Bundle:
    root = tmp_path_factory.mktemp("small")
    return Bundle.open(make_bundle(SMALL, root, created=CREATED, progress=Quiet()))


@pytest.mark.slow
def test_the_same_recipe_makes_the_same_bundle(small, tmp_path):
    again = Bundle.open(make_bundle(SMALL, tmp_path, created=CREATED, progress=Quiet()))

    assert again.manifest.version == small.manifest.version
    assert largest_difference(small, again) == 0.0


@pytest.mark.slow
def test_another_kind_of_cpu_makes_the_same_model(small, tmp_path):
    """PyTorch without vector instructions rounds otherwise, and training must not amplify it."""
    recipe = msgspec.json.encode(SMALL).decode()
    code = """
import sys, msgspec
from pathlib import Path
from ranking_models.recipes import Recipe
from tests.ranking_models.test_demonstration import CREATED, Quiet, make_bundle
recipe = msgspec.json.decode(sys.argv[1], type=Recipe)
make_bundle(recipe, Path(sys.argv[2]), created=CREATED, progress=Quiet())
"""
    subprocess.run(
        [sys.executable, "-c", code, recipe, str(tmp_path)],
        check=True,
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "PYTHONPATH": "."},
    )

    elsewhere = Bundle.open(find_bundle(tmp_path, NAME))
    graph = "ranker.fp32.onnx"
    assert elsewhere.manifest.files[graph] == small.manifest.files[graph]
    assert largest_difference(small, elsewhere) < 1e-6  # PyTorch scores in single precision


@pytest.mark.slow
def test_a_bundle_of_other_data_is_not_compared(packaged, small):
    with pytest.raises(InputError, match="were made from different data"):
        largest_difference(packaged, small)


def test_a_difference_of_scores_is_found(packaged):
    _, scores = packaged.golden
    changed = scores.copy()
    changed[3] += 10 * SCORE_TOLERANCE
    arrays = replace_golden(packaged, changed)

    assert largest_difference(packaged, arrays) == pytest.approx(10 * SCORE_TOLERANCE, rel=1e-3)
    assert largest_difference(packaged, packaged) == 0.0


def test_other_versions_are_removed_and_nothing_else(tmp_path):
    made = write_tiny_bundle(tmp_path, seed=1)
    older = write_tiny_bundle(tmp_path, seed=2)
    note, folder, copy = (made.parent / name for name in ("notes.txt", "drafts", "copy"))
    note.touch()
    folder.mkdir()
    shutil.copytree(older, copy)  # a bundle, but not where its manifest says
    elsewhere = write_tiny_bundle(tmp_path / "elsewhere", seed=2)

    assert list(remove_other_versions(made)) == [older]

    assert set(made.parent.iterdir()) == {made, note, folder, copy}
    assert elsewhere.exists()


@pytest.mark.parametrize(
    ("begin", "end"), [("options: FitOptions", "DEMONSTRATION ="), ("STORY =", "")]
)
def test_the_options_of_a_recipe_do_not_follow_the_defaults(begin, end):
    """Each is written down, so that a bundle can be made again, and a kept one is found again."""
    file = Path(recipes.__file__).read_text()
    start = file.index(begin)
    recipe = file[start : file.index(end, start) if end else None]

    for field in msgspec.structs.fields(FitOptions):
        assert f"{field.name}=" in recipe


def test_another_recipe_has_another_digest_and_the_same_one_the_same(monkeypatch):
    digests = {recipe.digest for recipe in (DEMONSTRATION, STORY, SMALL)}
    longer = msgspec.structs.replace(STORY, sessions=STORY.sessions + 1)
    again = msgspec.json.decode(msgspec.json.encode(STORY), type=Recipe)

    assert len(digests | {longer.digest}) == 4
    assert again.digest == STORY.digest
    monkeypatch.setattr(recipes, "FORMAT", recipes.FORMAT + 1)
    assert again.digest not in digests


def replace_golden(bundle: Bundle, scores: np.ndarray) -> Bundle:
    arrays = msgspec.structs.replace(bundle.arrays, golden_scores=scores)
    return msgspec.structs.replace(bundle, arrays=arrays)
