"""A model in a repository: whole or not there, and what the bundle's graph takes and gives."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from ranking_models.tensorrt.build import BuildOptions
from ranking_models.tensorrt.plan_cache import Plan, PlanCache
from ranking_models.tensorrt.plan_key import plan_source
from ranking_models.tensorrt.profiles import row_profiles
from ranking_models.triton.border import model_name
from ranking_models.triton.repository import RepositoryOptions, write_model
from tests.ranking_models.tensorrt.test_plan_cache import T4
from tests.support.bundles import write_tiny_bundle

OPTIONS = RepositoryOptions(
    max_batch_rows=256,
    preferred_batch_rows=(64, 512),
    max_queue_delay_s=0.004,
    instances=2,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


def plan_of(bundle: Bundle, folder: Path, model: str | None = None) -> Plan:
    graph = bundle.graph("fp32")
    source = plan_source(graph, T4, "11.4.0.106", row_profiles((64, 128)), BuildOptions())
    name = model or f"{bundle.manifest.name}@{bundle.manifest.version}"
    created = datetime(2026, 1, 1, tzinfo=UTC)
    cache = PlanCache(folder)
    return cache.keep(source, b"a plan", model=name, precision="fp32", created=created, build_s=1.0)


def test_a_model_is_the_graph_its_configuration_labels_and_warm_up(bundle, tmp_path):
    written = write_model(tmp_path / "models", bundle, "fp32", OPTIONS)

    assert written.name == model_name(bundle.manifest, "fp32")
    assert written.path == tmp_path / "models" / written.name
    files = {file.relative_to(written.path).as_posix() for file in written.path.rglob("*.*")}
    rows = [f"warmup/golden-{row}.{name}" for row in range(3) for name in bundle.schema.inputs]
    assert files == {"config.pbtxt", "labels.txt", "1/model.onnx", *rows}
    assert (written.path / "1/model.onnx").read_bytes() == bundle.graph("fp32").read_bytes()


def test_the_configuration_follows_the_options(bundle, tmp_path):
    config = write_model(tmp_path, bundle, "fp32", OPTIONS).config

    assert (config.backend, config.max_batch_size) == ("onnxruntime", 256)
    assert [(t.name, t.data_type, t.dims) for t in config.input] == [
        ("dense", "TYPE_FP32", (3,)),
        ("ids", "TYPE_INT32", (5,)),
        ("multi_tags", "TYPE_INT32", (3,)),
    ]
    (group,) = config.instance_group
    assert (group.kind, group.count, group.profile) == ("KIND_CPU", 2, ())
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.preferred_batch_size == (64,)  # 512 is no batch of at most 256
    assert config.dynamic_batching.max_queue_delay_microseconds == 4000
    assert config.response_cache is not None
    assert config.response_cache.enable


def test_a_warm_up_is_a_golden_row_in_a_batch_of_each_size(bundle, tmp_path):
    written = write_model(tmp_path, bundle, "fp32", OPTIONS)

    assert [warmup.batch_size for warmup in written.config.model_warmup] == [1, 64, 256]
    golden = bundle.golden[0].inputs()
    for row, warmup in enumerate(written.config.model_warmup):
        for name, given in warmup.inputs.items():
            raw = (written.path / "warmup" / given.input_data_file).read_bytes()
            values = np.frombuffer(raw, golden[name].dtype)
            np.testing.assert_array_equal(values, golden[name][row])


def test_a_plan_stands_in_for_its_graph(bundle, tmp_path):
    plan = plan_of(bundle, tmp_path / "plans")
    options = RepositoryOptions(max_batch_rows=4096, max_queue_delay_s=0.004, plan=plan)

    written = write_model(tmp_path / "models", bundle, "fp32", options)

    assert (written.path / "1/model.plan").read_bytes() == b"a plan"
    assert (written.config.backend, written.config.max_batch_size) == ("tensorrt", 128)
    (group,) = written.config.instance_group
    assert (group.kind, group.profile) == ("KIND_GPU", ("0", "1"))


def test_the_plan_of_another_model_is_refused(bundle, tmp_path):
    plan = plan_of(bundle, tmp_path / "plans", model="other@1")
    options = RepositoryOptions(max_batch_rows=64, max_queue_delay_s=0.004, plan=plan)

    with pytest.raises(InputError, match="is the plan of other@1 fp32, not of tiny@"):
        write_model(tmp_path / "models", bundle, "fp32", options)

    assert not (tmp_path / "models").exists()


def test_nothing_is_written_over(bundle, tmp_path):
    first = write_model(tmp_path, bundle, "fp32", OPTIONS)
    before = (first.path / "config.pbtxt").read_bytes()

    with pytest.raises(InputError, match="is there already; remove it"):
        write_model(
            tmp_path, bundle, "fp32", RepositoryOptions(max_batch_rows=8, max_queue_delay_s=0)
        )

    assert (first.path / "config.pbtxt").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [first.name]


@pytest.mark.parametrize(
    ("precision", "words"), [("fp16", "has no precision 'fp16'"), ("bf16", "export fp32")]
)
def test_a_graph_that_cannot_be_served_is_refused(bundle, tmp_path, precision, words):
    with pytest.raises(InputError, match=words):
        write_model(tmp_path / "models", bundle, precision, OPTIONS)

    assert not (tmp_path / "models").exists()
