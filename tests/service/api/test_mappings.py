"""The place of a bad value in a mapping, which the decoder does not name."""

import msgspec
import pytest

from service.api.bodies import decode
from service.errors import InvalidRequest
from service.messages import RankRequest

DECODER = msgspec.json.Decoder(RankRequest)


def refused(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(DECODER, body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"candidates": ["i1"], "context": {"day": 1, "hour": {}, "x": {}}}', "$.context.hour"),
        (b'{"candidates": ["i1"], "context": {"days": [1, [2]]}}', "$.context.days[1]"),
        (b'{"candidates": ["i1"], "user": {"features": {"age": {}}}}', "$.user.features.age"),
        (
            b'{"candidates": ["i1", {"id": "i2", "features": {"price": {}}}]}',
            "$.candidates[1].features.price",
        ),
        (b'{"candidates": ["i1"], "force": {"a": "b", "model": 3}}', "$.force.model"),
        (b'{"candidates": ["i1"], "external": {"model": ""}}', "$.external.model"),
    ],
)
def test_a_bad_value_is_named_by_its_key(body, path):
    assert refused(body).path == path


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"candidates": ["i1"], "context": {"hour": {}, "hour": 1}}', "$.context[...]"),
        (b'{"candidates": ["i1"], "context": {"hour": {}}, "context": 1}', "$.context[...]"),
        (b'{"context": {"hour": {}}, "candidates": ["i1"', "$.context[...]"),
        (
            b'{"candidates": [{"id": "i", "features": {"a": {}}}], "candidates": []}',
            "$.candidates[0].features[...]",
        ),
        (b'{"context": {"hour": {}}, "user": ' + b"[" * 20_000, "$.context[...]"),
    ],
)
def test_a_body_that_is_wrong_twice_over_is_refused_all_the_same(body, path):
    assert refused(body).path == path


def test_a_bad_name_is_told_as_one():
    error = refused(b'{"candidates": ["i1"], "context": {"": 1}}')

    assert error.path == "$.context"
    assert str(error) == "a name: Expected `str` of length >= 1"


def test_a_field_whose_name_looks_like_a_place_misleads_nobody():
    error = refused(b'{"candidates": ["i1"], "x - at `y": 1}')

    assert error.path == "$"
    assert "x - at `y" in str(error)


def test_a_candidate_that_is_there_twice_is_told_with_its_second_place():
    error = refused(b'{"candidates": ["a", "b", {"id": "b"}, "a"]}')

    assert error.path == "$.candidates[2]"
    assert str(error) == "candidates must be distinct, 'b' is there twice"
