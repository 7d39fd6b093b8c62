"""NVIDIA's own parser and optimiser, without a GPU: TensorRT-RTX in a child process.

It is native code that has ended processes before; in a child it can only end
a test.
"""

import contextlib
import importlib.metadata
import multiprocessing
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from ranking_models.schema import FeatureSchema
from ranking_models.tensorrt.border import border_of
from ranking_models.tensorrt.build import BuildOptions, Built, build_plan
from ranking_models.tensorrt.profiles import DEFAULT_BUCKETS, row_profiles
from ranking_models.tensorrt.targets import ComputeCapability

HAS_WHEEL = (sys.platform, platform.machine()) == ("linux", "x86_64") and sys.version_info < (3, 13)
"""Where the package exists it must be installed, and the tests fail without it."""

needs_rtx = pytest.mark.skipif(not HAS_WHEEL, reason="tensorrt-rtx has no wheel here")

LONGEST_S = 60.0


class Rtx:
    """Builds plans with ``tensorrt_rtx`` in a process of its own."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def build(
        self,
        graph: bytes,
        schema: FeatureSchema,
        target: ComputeCapability | None,
        buckets: tuple[int, ...] = DEFAULT_BUCKETS,
    ) -> Built:
        """Our own builder on the real module; raises what that raises."""
        return self._pool.submit(_build, graph, schema, target, buckets).result(LONGEST_S)


@contextlib.contextmanager
def rtx_builder() -> Iterator[Rtx]:
    """A process that builds, as long as the block lasts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield Rtx(pool)


def version() -> str:
    return importlib.metadata.version("tensorrt-rtx")


def _build(
    graph: bytes,
    schema: FeatureSchema,
    target: ComputeCapability | None,
    buckets: tuple[int, ...],
) -> Built:
    import tensorrt_rtx

    options = BuildOptions(target=target)
    profiles = row_profiles(buckets)
    return build_plan(tensorrt_rtx, graph, border_of(schema), profiles, options, timing_cache=None)
