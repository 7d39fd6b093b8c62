"""Features: ids become rows, and what the request says wins."""

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from ranking_models.schema import Encoder
from service.engines.rows import as_features, concatenated
from service.errors import InvalidRequest
from service.feature_names import FeatureNames
from service.features import BundleFeatures
from service.messages import Candidate, RankRequest, UserRef
from tests.support.bundles import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def features(bundle):
    return BundleFeatures(bundle)


def spec(bundle, source, kind):
    return next(s for s in bundle.schema.features if s.source == source and s.kind == kind)


def batch(features, request):
    return as_features(features.rows(features.encode(request)))


def test_known_items_have_the_catalogue_rows_in_candidate_order(bundle, features):
    ids = tuple(str(i) for i in bundle.item_ids[[7, 3, 11]])

    built = batch(features, RankRequest(candidates=ids))

    columns = [c for c, s in enumerate(bundle.schema.dense) if s.source == "item"]
    np.testing.assert_array_equal(built.dense[:, columns], bundle.items.dense[[7, 3, 11]])
    columns = [c for c, s in enumerate(bundle.schema.ids) if s.source == "item"]
    np.testing.assert_array_equal(built.ids[:, columns], bundle.items.ids[[7, 3, 11]])


def test_an_unknown_item_and_an_unknown_user_are_rows_of_missing_values(bundle, features):
    built = batch(features, RankRequest(candidates=("nowhere",), user=UserRef(id="nobody")))

    expected = Encoder(bundle.schema).encode_rows([{}])
    np.testing.assert_array_equal(built.dense, expected.dense)
    np.testing.assert_array_equal(built.ids, expected.ids)
    for name, values in expected.multi.items():
        np.testing.assert_array_equal(built.multi[name], values)


def test_an_unknown_user_ranks_like_an_anonymous_one(bundle, features):
    items = tuple(str(i) for i in bundle.item_ids[:5])

    unknown = features.encode(RankRequest(candidates=items, user=UserRef(id="nobody")))
    anonymous = features.encode(RankRequest(candidates=items))

    np.testing.assert_array_equal(unknown.user.ids, anonymous.user.ids)
    np.testing.assert_array_equal(unknown.user.dense, anonymous.user.dense)


def test_a_feature_in_the_askedreplaces_that_column_and_no_other(bundle, features):
    numeric = spec(bundle, "item", "numeric")
    first, second = (str(i) for i in bundle.item_ids[:2])
    plain = batch(features, RankRequest(candidates=(first, second)))

    given = batch(
        features,
        RankRequest(candidates=(Candidate(id=first, features={numeric.name: 3.25}), second)),
    )

    column = bundle.schema.dense.index(numeric)
    expected = plain.dense.copy()
    expected[0, column] = Encoder(bundle.schema).encode_value(numeric, 3.25)
    np.testing.assert_array_equal(given.dense, expected)
    np.testing.assert_array_equal(given.ids, plain.ids)


def test_encoding_a_askedleaves_the_catalogue_as_it_was(bundle, features):
    before = bundle.items.dense.copy()
    numeric = spec(bundle, "item", "numeric")

    batch(
        features,
        RankRequest(
            candidates=(Candidate(id=str(bundle.item_ids[0]), features={numeric.name: 99.0}),)
        ),
    )

    np.testing.assert_array_equal(bundle.items.dense, before)


def test_a_value_of_the_wrong_kind_is_refused_with_its_path(bundle, features):
    numeric = spec(bundle, "item", "numeric")
    wrong = Candidate(id="x", features={numeric.name: "cheap"})

    with pytest.raises(InvalidRequest, match="takes a number") as refused:
        features.encode(RankRequest(candidates=("a", wrong)))

    assert refused.value.path == f"$.candidates[1].features.{numeric.name}"


@pytest.mark.parametrize(
    ("askedfields", "path"),
    [
        ({"context": {"moon": "full"}}, "$.context.moon"),
        ({"context": {"surface": 3}}, "$.context.surface"),
        ({"user": UserRef(features={"shoe_size": 43})}, "$.user.features.shoe_size"),
        ({"user": UserRef(features={"user_id": "u1"})}, "$.user.features.user_id"),
        (
            {"candidates": ("i1", Candidate(id="i2", features={"moon": 1}))},
            "$.candidates[1].features.moon",
        ),
    ],
)
def test_names_that_no_model_knows_are_refused_with_their_path(bundle, askedfields, path):
    names = FeatureNames.of([bundle.schema])

    with pytest.raises(InvalidRequest) as refused:
        names.check(RankRequest(**{"candidates": ("i1",), **askedfields}))

    assert refused.value.path == path


def test_a_context_value_in_a_query_is_a_number_where_the_model_wants_one(bundle):
    names = FeatureNames.of([bundle.schema])
    for feature in bundle.schema.of("context").features:
        expected = 21.0 if feature.kind == "numeric" else "21"
        assert names.context_value(feature.name, "21") == expected
    with pytest.raises(InvalidRequest, match="unknown"):
        names.context_value("moon", "full")


REQUESTS = (
    RankRequest(candidates=("i1", "i2", "i3"), user=UserRef(id="u1")),
    RankRequest(candidates=("nowhere", "i7"), user=UserRef(id="u2"), context={"device": "ios"}),
    RankRequest(candidates=("i4",), context={"hour": 21}, anchor_item="i3"),
    RankRequest(candidates=tuple(f"i{n}" for n in range(1, 12)), user=UserRef(id="nobody")),
)


@pytest.mark.parametrize("requests", [REQUESTS[:1], REQUESTS[:2], REQUESTS[1:3], REQUESTS])
def test_requests_looked_up_together_get_the_rows_that_each_gets_alone(features, requests):
    together = concatenated([features.named(request) for request in requests])

    alone = concatenated([features.rows(features.encode(request)) for request in requests])
    for name, values in as_features(alone).inputs().items():
        np.testing.assert_array_equal(as_features(together).inputs()[name], values)
    np.testing.assert_array_equal(together.items, alone.items)


def test_some_rows_of_a_askedare_looked_up_alone(features):
    named, plain = (rows_of(features, REQUESTS[3]) for rows_of in (named_rows, plain_rows))

    for chosen in (slice(2, 5), np.array([7, 0])):
        np.testing.assert_array_equal(
            as_features(named.take(chosen)).ids, as_features(plain.take(chosen)).ids
        )


def named_rows(features, request):
    return features.named(request)


def plain_rows(features, request):
    return features.rows(features.encode(request))


@pytest.mark.parametrize(
    "asked",
    [
        RankRequest(candidates=("i1", Candidate(id="i2"))),
        RankRequest(candidates=("i1", Candidate(id="i2", features={"price": 3.5}))),
        RankRequest(candidates=("i1",), user=UserRef(id="u1", features={"age": 30})),
    ],
)
def test_what_a_askedbrings_of_its_own_is_not_looked_up_by_name(features, asked):
    assert features.named(asked) is None


def test_a_context_value_of_the_wrong_kind_is_refused_before_any_look_up(bundle, features):
    number = spec(bundle, "context", "numeric").name

    with pytest.raises(InvalidRequest) as refused:
        features.named(RankRequest(candidates=("i1",), context={number: "soon"}))

    assert refused.value.path == f"$.context.{number}"
