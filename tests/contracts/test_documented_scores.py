"""The documentation of the bundle is enough to compute the scores of the service.

If this fails, either `ranking_models.bundle` no longer says what is true, or
the service no longer feeds its engines what a bundle says.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, write_bundle
from ranking_models.schema import FeatureBatch
from service.engines.rows import as_features
from service.features import BundleFeatures
from service.messages import Candidate, RankRequest, UserRef
from tests.support.bundles import run_graph, tiny_contents
from tests.support.documented import DocumentedScorer, Row

EVENING = {"device": "ios", "hour": 21}
ROWS = [
    Row("u3", "i7", EVENING),
    Row("u3", "i8", EVENING),
    Row("u4", "i7", EVENING),
    Row("nobody", "i7", EVENING),
    Row(None, "i7", EVENING),
    Row("u19", "i7", EVENING),
    Row("u3", "not in the catalogue", EVENING),
    Row("u3", "i7"),
    Row("u3", "i7", {"device": "fridge", "hour": 3.5}),
    Row(None, "i7", EVENING, {"country": "SE"}),
    Row("u3", "i7", EVENING, {"country": "NO", "age": 33}),
    Row("u3", "i7", EVENING, {}, {"price": 1e12, "tags": "used"}),
    Row("u3", "i7", EVENING, {}, {"tags": ["new", "unheard", "used", "cheap", "vintage"]}),
    Row("u3", "i7", EVENING, {}, {"price": None, "tags": [], "category": None}),
    Row("u3", "not in the catalogue", EVENING, {}, {"price": -3, "category": "toys"}),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle; two users of the vocabulary are not in its user table."""
    contents = tiny_contents(users=20)
    arrays = msgspec.structs.replace(
        contents.arrays,
        user_ids=contents.arrays.user_ids[:18],
        users=contents.arrays.users.take(slice(0, 18)),
    )
    root = tmp_path_factory.mktemp("bundles")
    return write_bundle(root, msgspec.structs.replace(contents, arrays=arrays))


def as_request(row: Row) -> RankRequest:
    """The row as a backend would ask for it."""
    wire: dict[str, Any] = {
        "user": UserRef(id=row.user, features=row.user_features),
        "context": row.context,
        "candidates": (Candidate(id=row.item, features=row.item_features),),
    }
    return RankRequest(**wire)


def by_the_service(bundle: Bundle) -> FeatureBatch:
    features = BundleFeatures(bundle)
    return FeatureBatch.concatenate(
        [as_features(features.rows(features.encode(as_request(row)))) for row in ROWS]
    )


def test_the_documented_inputs_are_those_of_the_service(path):
    served = by_the_service(Bundle.open(path)).inputs()

    for name, documented in DocumentedScorer(path).inputs(ROWS).items():
        np.testing.assert_allclose(served[name], documented, rtol=1e-6, atol=0, err_msg=name)


def test_the_documented_scores_are_those_of_the_service(path):
    bundle = Bundle.open(path)

    served = run_graph(bundle.graph("fp32").read_bytes(), by_the_service(bundle))

    np.testing.assert_allclose(served, DocumentedScorer(path).scores(ROWS), rtol=0, atol=1e-6)


def test_every_part_of_a_row_matters_to_its_score(path):
    """Otherwise the comparisons above would prove little."""
    scores = DocumentedScorer(path).scores(ROWS)

    unknown, anonymous = (ROWS.index(Row(user, "i7", EVENING)) for user in ("nobody", None))
    assert scores[unknown] == scores[anonymous]
    assert len(np.unique(scores)) == len(ROWS) - 1


def test_a_row_scores_the_same_whoever_it_is_batched_with(path):
    scorer = DocumentedScorer(path)

    alone = np.concatenate([scorer.scores([row]) for row in ROWS])

    np.testing.assert_allclose(scorer.scores(ROWS), alone, rtol=0, atol=1e-6)
