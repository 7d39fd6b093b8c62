"""A plan is found again by all that it was made from, and a damaged one never used."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ranking_models.errors import InputError
from ranking_models.tensorrt.build import BuildOptions
from ranking_models.tensorrt.device import Device
from ranking_models.tensorrt.plan_cache import Plan, PlanCache, PlanDamaged
from ranking_models.tensorrt.plan_key import PlanSource, plan_source
from ranking_models.tensorrt.profiles import row_profiles

CREATED = datetime(2026, 11, 22, tzinfo=UTC)
T4 = Device(index=0, name="Tesla T4", compute_capability=(7, 5), driver="13.2")


@pytest.fixture
def source(tmp_path: Path) -> PlanSource:
    graph = tmp_path / "ranker.fp16.onnx"
    graph.write_bytes(b"a graph")
    return plan_source(graph, T4, "11.4.0.106", row_profiles((64, 128)), BuildOptions())


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / ".plans")


def keep(cache: PlanCache, source: PlanSource, plan: bytes = b"a plan") -> Plan:
    return cache.keep(source, plan, model="m@1", precision="fp16", created=CREATED, build_s=1.5)


def test_a_plan_is_found_again(cache, source):
    kept = keep(cache, source)

    found = PlanCache(cache.root).find(source)

    assert found == kept
    assert found is not None
    assert found.content == b"a plan"
    assert found.path == cache.root / source.key
    assert (found.manifest.model, found.manifest.source) == ("m@1", source)


OTHER = {
    "graph_sha256": "0" * 64,
    "tensorrt": "10.16.1.11",
    "gpu": "NVIDIA L4",
    "compute_capability": (8, 9),
    "driver": "12.9",
    "profiles": row_profiles((64,)),
    "options": BuildOptions(optimisation_level=4),
}


@pytest.mark.parametrize("field", PlanSource.__struct_fields__)
def test_a_plan_of_anything_else_is_another_plan(cache, source, field):
    keep(cache, source)
    other = msgspec.structs.replace(source, **{field: OTHER[field]})

    assert other.key != source.key
    assert cache.find(other) is None


@pytest.mark.parametrize("field", BuildOptions.__struct_fields__)
def test_every_option_is_in_the_key(source, field):
    values = {"workspace_bytes": 1 << 22, "optimisation_level": 1, "target": (8, 9)}
    options = msgspec.structs.replace(source.options, **{field: values[field]})

    assert msgspec.structs.replace(source, options=options).key != source.key


def test_the_key_does_not_depend_on_where_the_gpu_or_the_graph_is(tmp_path, source):
    copy = tmp_path / "elsewhere.onnx"
    copy.write_bytes(b"a graph")
    second = msgspec.structs.replace(T4, index=3)

    assert (
        plan_source(copy, second, "11.4.0.106", source.profiles, source.options).key == source.key
    )


def test_a_later_plan_takes_the_place_of_an_earlier_one(cache, source):
    keep(cache, source, b"first")
    keep(cache, source, b"second")

    assert cache.find(source).content == b"second"
    assert [p.name for p in cache.root.iterdir()] == [source.key]


DAMAGE = {
    "plan changed": ("plan", b"a plam", "SHA-256 differs"),
    "plan cut": ("plan", b"a pl", "SHA-256 differs"),
    "plan gone": ("plan", None, "cannot be read"),
    "manifest gone": ("manifest.json", None, "cannot be read"),
    "manifest broken": ("manifest.json", b"{", "is not the manifest"),
    "manifest no text": ("manifest.json", b"\xff", "is not the manifest"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_plan_is_refused(cache, source, damage):
    name, content, message = DAMAGE[damage]
    file = keep(cache, source).path / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    with pytest.raises(PlanDamaged, match=message) as refusal:
        cache.find(source)
    assert str(file) in str(refusal.value)


def test_the_manifest_of_another_plan_is_refused(cache, source):
    other = msgspec.structs.replace(source, driver="12.9")
    stolen = keep(cache, other).path
    keep(cache, source)
    stolen.joinpath("manifest.json").rename(cache.root / source.key / "manifest.json")

    with pytest.raises(PlanDamaged, match="of another plan"):
        cache.find(source)


def test_a_manifest_of_a_later_format_is_refused(cache, source):
    file = keep(cache, source).path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"format": 1', b'"format": 2'))

    with pytest.raises(PlanDamaged, match="has format 2, this podium reads 1"):
        cache.find(source)


def test_nothing_is_left_of_a_plan_that_could_not_be_written(tmp_path, source):
    (tmp_path / "file").write_text("in the way")
    cache = PlanCache(tmp_path / "file" / ".plans")

    with pytest.raises(InputError, match="cannot be written"):
        keep(cache, source)
    with pytest.raises(InputError, match="cannot be written"):
        cache.keep_timing_cache(source, b"measured")


def test_measurements_are_shared_by_graphs_and_not_by_gpus(cache, source):
    assert cache.timing_cache(source) is None
    cache.keep_timing_cache(source, b"measured")
    other_graph = msgspec.structs.replace(source, graph_sha256="0" * 64)
    other_gpu = msgspec.structs.replace(source, gpu="NVIDIA L4")

    assert cache.timing_cache(other_graph) == b"measured"
    assert cache.timing_cache(other_gpu) is None
    assert len(list(cache.root.iterdir())) == 1


def test_damaged_measurements_are_made_anew(cache, source):
    cache.keep_timing_cache(source, b"measured")
    (file,) = cache.root.iterdir()
    file.write_bytes(file.read_bytes()[:-1])

    assert cache.timing_cache(source) is None
