"""Writes a graph of a bundle as a model that a Triton server loads: its folder in a repository.

    <repository>/<model>/config.pbtxt      how it is served
    <repository>/<model>/1/model.onnx      the graph; or `model.plan`
    <repository>/<model>/labels.txt        what the score is of, for Triton's classification
    <repository>/<model>/warmup/*          golden rows, scored before the model is ready

The model's name says which content it has (`ranking_models.triton.border`), so a
repository may hold many, and none ever changes.

Source:
    triton-inference-server/server, ``docs/user_guide/model_repository.md`` and
    ``model_configuration.md``; triton-inference-server/common,
    ``protobuf/model_config.proto``.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from ranking_models.folders import new_folder
from ranking_models.tensorrt.plan_cache import PLAN, Plan
from ranking_models.triton.border import OUTPUT, inputs_of, model_name
from ranking_models.triton.config import (
    TYPES,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    Reshape,
    ResponseCache,
    TensorConfig,
    Warmup,
    WarmupInput,
    as_text,
)

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
VERSION = "1"
WARMUP = "warmup"
_ONNX, _PLAN = "model.onnx", "model.plan"
_NOT_OF_TRITON = {
    "bf16": "bf16 is the fp32 graph as OpenVINO computes it: export fp32",
}


class RepositoryOptions(Struct, frozen=True, kw_only=True):
    """How the server is to run the model."""

    max_batch_rows: int
    """Larger requests are refused by the server, and cut by the engine that asks it."""
    preferred_batch_rows: tuple[int, ...] = ()
    """Batches that leave at once; none: as large as can be."""
    max_queue_delay_s: float
    """Longest that a request waits for company."""
    preserve_ordering: bool = False
    instances: int = 1
    device: Literal["cpu", "gpu"] = "cpu"
    response_cache: bool = True
    """Whether the server may answer a repeated request from its cache, if it has one."""
    plan: Plan | None = None
    """A compiled TensorRT plan of this graph, in its place."""


class TritonModel(Struct, frozen=True):
    """A model in a repository."""

    name: str
    path: Path
    config: ModelConfig


def write_model(
    repository: Path, bundle: Bundle, precision: str, options: RepositoryOptions
) -> TritonModel:
    """Write one graph; it is there completely or not at all.

    Raises:
        InputError: as of `planned_model`, or it cannot be written.
    """
    model = planned_model(repository, bundle, precision, options)
    with new_folder(model.path) as unfinished:
        (unfinished / VERSION).mkdir()
        source = options.plan.path / PLAN if options.plan else bundle.graph(precision)
        shutil.copyfile(source, unfinished / VERSION / model.config.default_model_filename)
        (unfinished / LABELS).write_text("click\n")
        _write_warmup(unfinished / WARMUP, bundle, model.config)
        (unfinished / CONFIG).write_text(as_text(model.config), encoding="utf-8")
    return model


def planned_model(
    repository: Path, bundle: Bundle, precision: str, options: RepositoryOptions
) -> TritonModel:
    """What `write_model` will write; nothing is written yet.

    Raises:
        InputError: the bundle has no such graph, Triton cannot run it, or the repository has the
            model already.
    """
    if precision in _NOT_OF_TRITON:
        raise InputError(_NOT_OF_TRITON[precision])
    bundle.graph(precision)
    if options.plan is not None:
        _check_plan(options.plan, bundle, precision)
    name = model_name(bundle.manifest, precision)
    folder = repository / name
    if folder.exists():
        raise InputError(f"{folder}: is there already; remove it, or write into another folder")
    return TritonModel(name, folder, config_of(bundle, precision, options))


def config_of(bundle: Bundle, precision: str, options: RepositoryOptions) -> ModelConfig:
    """The configuration of one graph."""
    inputs = inputs_of(bundle.schema)
    if not inputs:
        raise InputError(f"{bundle.path}: the model has no inputs")
    profiles = options.plan.manifest.source.profiles if options.plan else ()
    most = min(
        options.max_batch_rows,
        bundle.manifest.max_batch_rows,
        *(profile.max_rows for profile in profiles[-1:]),
    )
    kind = "KIND_GPU" if profiles or options.device == "gpu" else "KIND_CPU"
    preferred = tuple(n for n in options.preferred_batch_rows if n <= most)
    return ModelConfig(
        name=model_name(bundle.manifest, precision),
        backend="tensorrt" if profiles else "onnxruntime",
        max_batch_size=most,
        input=tuple(TensorConfig(t.name, TYPES[t.datatype], (t.width,)) for t in inputs),
        # Triton asks for a dimension besides the batch, which the graph's output has not.
        output=(TensorConfig(OUTPUT, TYPES["FP32"], (1,), Reshape(), LABELS),),
        instance_group=(
            InstanceGroup(kind, options.instances, tuple(map(str, range(len(profiles))))),
        ),
        dynamic_batching=DynamicBatching(
            preferred_batch_size=preferred,
            max_queue_delay_microseconds=round(options.max_queue_delay_s * 1e6),
            preserve_ordering=options.preserve_ordering,
        ),
        default_model_filename=_PLAN if profiles else _ONNX,
        model_warmup=_warmup(bundle, sorted({1, *preferred, most})),
        response_cache=ResponseCache(enable=True) if options.response_cache else None,
    )


def _check_plan(plan: Plan, bundle: Bundle, precision: str) -> None:
    made_from, manifest = plan.manifest, bundle.manifest
    wanted = f"{manifest.name}@{manifest.version}"
    if (made_from.model, made_from.precision) != (wanted, precision):
        raise InputError(
            f"{plan.path}: is the plan of {made_from.model} {made_from.precision}, "
            f"not of {wanted} {precision}"
        )


def _warmup(bundle: Bundle, batches: Sequence[int]) -> tuple[Warmup, ...]:
    """A batch of each size: engines prepare themselves for a size when they first see it.

    Triton makes a batch of so many requests with the same row, so each has one file per input.
    """
    rows = bundle.golden[0].rows
    return tuple(
        Warmup(
            name=f"a golden row {count} times",
            batch_size=count,
            inputs={
                t.name: WarmupInput(TYPES[t.datatype], (t.width,), _warmup_file(t.name, at % rows))
                for t in inputs_of(bundle.schema)
            },
        )
        for at, count in enumerate(batches)
    )


def _warmup_file(tensor: str, row: int) -> str:
    return f"golden-{row}.{tensor}"


def _write_warmup(folder: Path, bundle: Bundle, config: ModelConfig) -> None:
    """The golden rows that the configuration names, little-endian."""
    folder.mkdir()
    golden = bundle.golden[0]
    for at, _ in enumerate(config.model_warmup):
        row = at % golden.rows
        for name, values in golden.take(slice(row, row + 1)).inputs().items():
            if values.size:
                little = values.astype(values.dtype.newbyteorder("<"))
                (folder / _warmup_file(name, row)).write_bytes(little.tobytes())
