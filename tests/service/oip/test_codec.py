"""Requests and replies as bytes: what tritonclient writes is read, and nothing else breaks it."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.errors import InvalidInference
from service.oip.codec import InferReply, decode_request, encode_reply, json_length

http: Any = pytest.importorskip("tritonclient.http", reason="podium[triton] is not installed")

TYPES = {"FP32": np.float32, "INT32": np.int32}
PROBABILITIES = arrays.arrays(
    np.float32, st.integers(1, 50), elements=st.floats(0, 1, width=32, allow_subnormal=True)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@st.composite
def tensors(draw):
    """Name to datatype, values, and whether they travel as bytes; of one number of rows."""
    rows = draw(st.integers(1, 9))
    drawn = {}
    for name in draw(st.lists(st.sampled_from(("dense", "ids", "multi_tags")), unique=True)):
        kind = draw(st.sampled_from(sorted(TYPES)))
        shape = (rows, draw(st.integers(1, 4)))
        finite = {"allow_nan": False, "allow_infinity": False} if kind == "FP32" else {}
        elements = arrays.from_dtype(np.dtype(TYPES[kind]), **finite)
        values = draw(arrays.arrays(TYPES[kind], shape, elements=elements))
        drawn[name] = kind, values, draw(st.booleans())
    return drawn or {"dense": ("FP32", np.ones((rows, 2), np.float32), True)}


def written(drawn, **options):
    """A request as tritonclient writes it: its body, and the length of the JSON or None."""
    inputs = []
    for name, (kind, values, binary) in drawn.items():
        tensor = http.InferInput(name, list(values.shape), kind)
        inputs.append(tensor.set_data_from_numpy(values, binary_data=binary))
    return http.InferenceServerClient.generate_request_body(inputs, **options)


def read(body, length=None):
    header = None if length is None else str(length)
    return decode_request(body, json_length(header, body))


@given(tensors(), st.booleans())
def test_what_tritonclient_writes_is_read_to_the_bit(drawn, binary):
    outputs = [http.InferRequestedOutput("score", binary_data=binary)]

    request = read(*written(drawn, outputs=outputs, request_id="r-1", priority=1, timeout=2_000))

    assert {*request.inputs} == {*drawn}
    for name, (kind, values, _) in drawn.items():
        assert request.inputs[name].dtype == TYPES[kind]
        np.testing.assert_array_equal(request.inputs[name], values)
    assert (request.id, request.binary) == ("r-1", binary)
    assert (request.priority, request.timeout_us) == (1, 2_000)


@given(PROBABILITIES, st.booleans())
def test_tritonclient_reads_scores_to_the_bit(scores, binary):
    reply = InferReply(
        model_name="ranker", model_version="1", id="r-1", scores=scores, parameters={}
    )

    body, length = encode_reply(reply, binary=binary)

    read_back = http.InferenceServerClient.parse_response_body(body, header_length=length)
    np.testing.assert_array_equal(read_back.as_numpy("score"), scores)
    assert read_back.get_response()["id"] == "r-1"


@settings(max_examples=60)
@given(tensors(), st.data())
def test_damaged_bodies_are_refused_or_read_and_nothing_else(drawn, data):
    body, length = written(drawn)
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    header = data.draw(st.sampled_from((None, str(length), "", "-1", "9" * 30, "²", "1e3", "7")))

    _refused_or_read(bytes(damaged), header)


@settings(max_examples=60)
@given(tensors(), st.data())
def test_any_json_is_refused_or_read_and_nothing_else(drawn, data):
    body, length = written({n: (k, v, False) for n, (k, v, _) in drawn.items()})
    request = json.loads(body[:length])
    place = data.draw(st.sampled_from(("inputs", "id", "outputs", "parameters", "tensor")))
    if place == "tensor":
        key = data.draw(st.sampled_from(("name", "shape", "datatype", "data", "parameters")))
        request["inputs"][0][key] = data.draw(JSON)
    else:
        request[place] = data.draw(JSON)

    _refused_or_read(json.dumps(request).encode("utf-8", "surrogatepass"), None)


def _refused_or_read(body, header):
    with contextlib.suppress(InvalidInference):
        decode_request(body, json_length(header, body))


def asked(**changes):
    """A request of two rows with two columns, and what is changed of its input."""
    tensor = {"name": "dense", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    return {"inputs": [{**tensor, **changes}]}


def refusal(request, *, raw=b""):
    head = json.dumps(request).encode()
    with pytest.raises(InvalidInference) as caught:
        decode_request(head + raw, len(head))
    return str(caught.value)


def test_rows_may_be_lists_in_a_list():
    request = asked(data=[[1, 2], [3, 4.5]])

    inputs = decode_request(json.dumps(request).encode(), len(json.dumps(request))).inputs

    np.testing.assert_array_equal(inputs["dense"], np.array([[1, 2], [3, 4.5]], np.float32))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asked(datatype="FP64"), "'FP64'; models here take FP32 and INT32"),
        (asked(shape=[3, 2]), "4 values, where [3, 2] has 6"),
        (asked(shape=[-1, 2]), "cannot have that shape"),
        (asked(shape=[]), "cannot have that shape"),
        (asked(shape=[0, 2]), "cannot have that shape"),
        (asked(shape=[0, *[2**31 - 1] * 7], data=[]), "cannot have that shape"),
        (asked(shape=[2**31 - 1, 1], data=[[1]]), "the lists are not [2147483647, 1]"),
        (asked(shape=[1], data=[[1]]), "the lists are not [1]"),
        (asked(shape=[2**40, 2**40]), "cannot have that shape"),
        (asked(data=[[1, 2, 3], [4]]), "the lists are not [2, 2]"),
        (asked(data=[1, 2, "3", 4]), "got `str` at $[2]"),
        (asked(data=[1, 2, True, 4]), "got `bool` at $[2]"),
        (asked(datatype="INT32", data=[1, 2, 3, 2**31]), "<= 2147483647 at $[3]"),
        (asked(datatype="INT32", data=[1, 2, 3, 0.5]), "got `float` at $[3]"),
        (asked(parameters={"binary_data_size": 16}), "16 bytes are announced, 0 are there"),
        (asked(parameters={"binary_data_size": 12}), "has 16 bytes, binary_data_size says 12"),
        (asked(parameters={"binary_data_size": True}), "is no number of bytes"),
        (asked(parameters={"shared_memory_region": "mine"}), "shared_memory_region is not done"),
        (asked() | {"outputs": [{"name": "logit"}]}, "no output 'logit', but 'score'"),
        (asked() | {"outputs": [{"name": "score"}] * 2}, "asked for 2 times"),
        (
            asked() | {"outputs": [{"name": "score", "parameters": {"classification": 3}}]},
            "classification is not done",
        ),
        (asked() | {"parameters": {"sequence_id": 7}}, "do not depend on each other"),
        (asked() | {"parameters": {"timeout": -1}}, "timeout is a whole number"),
        (asked() | {"parameters": {"binary_data_output": 1}}, "is true or false"),
        ({"inputs": asked()["inputs"] * 2}, "'dense' is there twice"),
        ({"inputs": []}, "length >= 1 at $.inputs"),
        ([], "got `array`"),
    ],
)
def test_a_refusal_says_what_is_wrong(request_, words):
    assert words in refusal(request_)


def test_an_input_is_json_or_bytes_and_not_both():
    both = asked(parameters={"binary_data_size": 16})
    neither = {"inputs": [{"name": "dense", "datatype": "FP32", "shape": [2, 2]}]}

    assert "has data and binary_data_size" in refusal(both, raw=bytes(16))
    assert "neither data nor" in refusal(neither)


def test_every_byte_of_a_body_is_accounted_for():
    assert "3 bytes follow the last tensor" in refusal(asked(), raw=bytes(3))


def test_scores_come_as_bytes_only_where_they_are_asked_for():
    def wants(**given_):
        body = json.dumps(asked() | given_).encode()
        return decode_request(body, len(body)).binary

    bytes_by_default = {"parameters": {"binary_data_output": True}}
    as_json = {"outputs": [{"name": "score", "parameters": {"binary_data": False}}]}
    assert not wants()
    assert wants(**bytes_by_default)
    assert not wants(**bytes_by_default, **as_json)
    assert wants(**bytes_by_default, outputs=[{"name": "score"}])
