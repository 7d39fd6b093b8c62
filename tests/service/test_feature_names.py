"""Names that requests may carry: the same for every variant, whichever model serves it."""

import pytest

from ranking_models.schema import FeatureSchema, FeatureSpec
from service.errors import InvalidRequest
from service.feature_names import FeatureNames
from service.messages import Candidate, RankRequest, UserRef

OLD = FeatureSchema(
    features=(
        FeatureSpec(name="user_id", source="user", kind="categorical", vocabulary=("u1",)),
        FeatureSpec(name="item_id", source="item", kind="categorical", vocabulary=("i1",)),
        FeatureSpec(name="age", source="user", kind="numeric"),
        FeatureSpec(name="price", source="item", kind="numeric"),
        FeatureSpec(name="device", source="context", kind="categorical", vocabulary=("web",)),
    )
)
NEW = FeatureSchema(
    features=(
        *OLD.features,
        FeatureSpec(name="anchor_item", source="context", kind="categorical", vocabulary=("i1",)),
        FeatureSpec(name="hour", source="context", kind="numeric"),
        FeatureSpec(name="season", source="context", kind="categorical", vocabulary=("autumn",)),
    )
)


def test_a_name_is_valid_when_any_model_knows_it():
    request = RankRequest(
        candidates=(Candidate(id="i1", features={"price": 1}),),
        user=UserRef(features={"age": 30}),
        context={"season": "autumn", "device": "web", "surface": "home"},
    )

    FeatureNames.of([OLD, NEW]).check(request)
    with pytest.raises(InvalidRequest, match="season"):
        FeatureNames.of([OLD]).check(request)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"user": UserRef(features={"user_id": "u1"})}, "$.user.features.user_id"),
        (
            {"candidates": (Candidate(id="i1", features={"item_id": "i2"}),)},
            "$.candidates[0].features.item_id",
        ),
        ({"context": {"anchor_item": "i1"}}, "$.context.anchor_item"),
    ],
)
def test_ids_have_their_own_fields_and_are_no_features(fields, path):
    with pytest.raises(InvalidRequest) as refused:
        FeatureNames.of([NEW]).check(RankRequest(**{"candidates": ("i1",), **fields}))

    assert refused.value.path == path


def test_a_backend_may_send_its_usual_context_to_a_model_that_looks_at_none_of_it():
    names = FeatureNames.of([FeatureSchema(features=())])

    names.check(
        RankRequest(
            candidates=("i1",),
            context={"device": "ios", "country": "SE", "hour": 21, "surface": "home"},
        )
    )


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(InvalidRequest, match="known here: country, device, hour, season, surface"):
        FeatureNames.of([NEW]).check(RankRequest(candidates=("i1",), context={"moon": "full"}))


def test_a_query_parameter_is_a_number_if_any_model_wants_one():
    names = FeatureNames.of([OLD, NEW])

    assert names.context_value("hour", "21") == 21.0
    assert names.context_value("device", "21") == "21"
    with pytest.raises(InvalidRequest, match="'late'") as refused:
        names.context_value("hour", "late")
    assert refused.value.path == "$.hour"


def test_names_of_another_version_join_and_none_is_taken_away():
    """A request that was valid before a hot swap is valid after it, in either direction."""
    names = FeatureNames.of([OLD])
    names.learn([NEW])
    names.learn([OLD])

    names.check(RankRequest(candidates=("i1",), context={"season": "autumn", "device": "web"}))
    assert names.context_value("hour", "21") == 21.0
