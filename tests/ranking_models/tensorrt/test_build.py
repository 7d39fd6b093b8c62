"""The builder asks both majors of TensorRT only for what they have, and believes no answer.

The module is a fake whose every name, argument and enum member is checked
against what was recorded from the real bindings.
"""

import pytest

from ranking_models.errors import InputError
from ranking_models.schema import FeatureSchema
from ranking_models.tensorrt.border import border_of
from ranking_models.tensorrt.build import BuildOptions, Built, build_plan
from ranking_models.tensorrt.profiles import RowProfile, row_profiles
from tests.support import tensorrt_graphs as graphs
from tests.support.fake_tensorrt import VERSIONS, Faults, fake_tensorrt

both_versions = pytest.mark.parametrize("version", VERSIONS)


def build(trt, graph=None, *, schema: FeatureSchema = graphs.SCHEMA, **changed) -> Built:
    given = {
        "profiles": row_profiles((64, 256)),
        "options": BuildOptions(),
        "timing_cache": None,
    } | changed
    return build_plan(trt, graph or graphs.half_graph(), border_of(schema), **given)


@both_versions
def test_a_plan_is_built_with_a_profile_per_bucket(version):
    trt, told = fake_tensorrt(version)

    built = build(trt)

    assert b"ranker" in built.plan
    assert told.profiles == [
        {"dense": [(1, 13), (64, 13), (64, 13)], "ids": [(1, 2), (64, 2), (64, 2)]},
        {"dense": [(65, 13), (256, 13), (256, 13)], "ids": [(65, 2), (256, 2), (256, 2)]},
    ]


@both_versions
def test_the_options_reach_the_builder(version):
    trt, told = fake_tensorrt(version)

    build(trt, options=BuildOptions(workspace_bytes=1 << 25, optimisation_level=5))

    assert (told.workspace_bytes, told.optimisation_level) == (1 << 25, 5)


@pytest.mark.parametrize("version", VERSIONS)
def test_single_precision_is_not_rounded_to_ten_bits(version):
    trt, told = fake_tensorrt(version)

    build(trt)

    assert not told.tf32


@both_versions
def test_a_file_is_read_where_it_lies(version, tmp_path):
    trt, _ = fake_tensorrt(version)
    file = tmp_path / "ranker.fp16.onnx"
    file.write_bytes(graphs.half_graph())

    assert build(trt, file).plan
    assert "OnnxParser.parse_from_file" in trt.calls


@both_versions
def test_the_second_build_starts_from_the_measurements_of_the_first(version):
    trt, told = fake_tensorrt(version)

    first = build(trt)
    second = build(trt, timing_cache=first.timing_cache)

    assert told.timing_cache == first.timing_cache == b"measured;"
    assert second.timing_cache == b"measured;measured;"


@both_versions
def test_measurements_of_another_gpu_are_left_aside(version):
    trt, told = fake_tensorrt(version, Faults(other_timing_cache=True))

    build(trt, timing_cache=b"of another GPU")

    assert told.timing_cache == b""


REFUSED = {
    "not supported": (Faults(refuses_network="it is odd"), "built no plan: it is odd"),
    "not built": (Faults(refuses_build="it is too large"), "built no plan: it is too large"),
    "not built, no reason": (Faults(refuses_build=""), "built no plan and gave no reason"),
    "no memory": (Faults(refuses_build="insufficient memory"), "too little free memory"),
    "not parsed, no reason": (Faults(silent_parser=True), "parser refused it and gave no reason"),
    "profile not true": (Faults(invalid_profile=True), "profile 0 .* is not one"),
    "inputs of other rows": (Faults(other_rows=True), "profile 0 .* is not one"),
    "profile not added": (Faults(drops_profile=True), "did not add profile 0"),
}


@pytest.mark.parametrize("fault", REFUSED)
@both_versions
def test_an_answer_of_none_or_false_is_heard(version, fault):
    faults, message = REFUSED[fault]
    trt, _ = fake_tensorrt(version, faults)

    with pytest.raises(InputError, match=message) as refusal:
        build(trt)

    assert "\n" not in str(refusal.value)


@both_versions
def test_what_is_no_graph_is_refused_by_the_parser(version, tmp_path):
    trt, _ = fake_tensorrt(version)

    with pytest.raises(InputError, match="export the graph again"):
        build(trt, b"\xff\xff")
    with pytest.raises(InputError, match="there is no such graph"):
        build(trt, tmp_path / "nothing.onnx")


@both_versions
def test_a_graph_that_is_not_the_schemas_is_refused_before_it_is_built(version):
    trt, _ = fake_tensorrt(version)

    with pytest.raises(InputError, match="the schema asks for dense"):
        build(trt, schema=graphs.dense_schema())
    assert "Builder.build_serialized_network" not in trt.calls


@both_versions
def test_a_target_is_for_rtx_alone(version):
    trt, _ = fake_tensorrt(version)

    with pytest.raises(InputError, match="name no target"):
        build(trt, options=BuildOptions(target=(8, 9)))


@both_versions
def test_no_profile_or_one_out_of_order_is_refused(version):
    trt, _ = fake_tensorrt(version)

    with pytest.raises(InputError, match="at least one optimisation profile"):
        build(trt, profiles=())
    with pytest.raises(InputError, match=r"profile 0 .9 to 3 rows, tuned for 5. is not one"):
        build(trt, profiles=(RowProfile(min_rows=9, opt_rows=5, max_rows=3),))
