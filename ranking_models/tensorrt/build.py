"""Builds a TensorRT plan from an ONNX graph.

Every call of TensorRT that can fail answers None or False, never raises; each
is checked here. ``trt`` is the module ``tensorrt`` (10.16 or 11.4) or
``tensorrt_rtx``. On a machine without a GPU the former must not even be asked
for a builder (it can end the process): see `device`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ranking_models.errors import InputError
from ranking_models.tensorrt.border import Border, check_border
from ranking_models.tensorrt.log import BuildLog
from ranking_models.tensorrt.profiles import RowProfile, add_profiles
from ranking_models.tensorrt.refusals import builder_refusal, parser_refusal
from ranking_models.tensorrt.targets import (
    ComputeCapability,
    set_target,
    timing_cache_of,
    use_timing_cache,
)


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the builder is told beside the graph and its profiles; part of the plan's key."""

    workspace_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 1 << 30
    """The most scratch memory that a kernel may take."""
    optimisation_level: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3
    """How long the builder searches, 0 to 5; 3 is TensorRT's own choice."""
    target: ComputeCapability | None = None
    """The GPU to build for. TensorRT-RTX must be told, TensorRT takes the one that is there."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a build."""

    plan: bytes
    timing_cache: bytes | None
    """For the next build on the same GPU; None where the builder measures nothing."""
    errors: tuple[str, ...]
    """Errors that TensorRT logged and went on after."""


def build_plan(
    trt: Any,
    graph: Path | bytes,
    border: Border,
    profiles: Sequence[RowProfile],
    options: BuildOptions,
    *,
    timing_cache: bytes | None,
) -> Built:
    """Parse, check, and build; seconds to minutes, on the current GPU alone.

    Raises:
        InputError: the graph, a profile or the target is refused: by our own
            checks first, else by TensorRT, with its reason and what to do.
    """
    name = str(graph) if isinstance(graph, Path) else "the graph"
    log = BuildLog(trt)
    builder = trt.Builder(log.logger)
    # TensorRT 11 knows no other kind and ignores the flag, 10 needs it.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags=strongly_typed)
    parser = trt.OnnxParser(network, log.logger)  # the weights live in it until the build is done
    _parse(parser, graph, name)
    check_border(network, border)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(
        pool=trt.MemoryPoolType.WORKSPACE, pool_size=options.workspace_bytes
    )
    config.builder_optimization_level = options.optimisation_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # On by default, and ten bits of mantissa: what is called fp32 would miss the golden scores.
    config.clear_flag(trt.BuilderFlag.TF32)
    set_target(trt, config, options.target)
    add_profiles(builder, config, border, profiles)
    use_timing_cache(trt, config, timing_cache)
    if not builder.is_network_supported(network, config):
        raise builder_refusal(log.errors, name)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise builder_refusal(log.errors, name)
    return Built(plan=bytes(plan), timing_cache=timing_cache_of(trt, config), errors=log.errors)


def _parse(parser: Any, graph: Path | bytes, name: str) -> None:
    if isinstance(graph, Path):
        if not graph.is_file():
            raise InputError(f"{graph}: there is no such graph")
        taken = parser.parse_from_file(str(graph))  # finds weights in files beside it, too
    else:
        taken = parser.parse(graph)
    if not taken:
        raise parser_refusal(parser, name)
