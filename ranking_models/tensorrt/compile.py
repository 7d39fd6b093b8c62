"""A bundle's graph becomes a plan for one GPU, once."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from ranking_models.tensorrt.border import border_of
from ranking_models.tensorrt.build import BuildOptions, build_plan
from ranking_models.tensorrt.device import Device
from ranking_models.tensorrt.plan_cache import Plan, PlanCache, PlanDamaged
from ranking_models.tensorrt.plan_key import PlanSource, plan_source
from ranking_models.tensorrt.profiles import row_profiles


class Compiled(Struct, frozen=True, kw_only=True):
    """A plan, and whether it had to be built."""

    plan: Plan
    built: bool
    replaced: str | None
    """Why the plan that was there could not be used."""


def compile_bundle(
    trt: Any,
    bundle: Bundle,
    precision: str,
    device: Device,
    cache: PlanCache,
    *,
    buckets: Sequence[int],
    options: BuildOptions,
    created: datetime,
) -> Compiled:
    """Find the plan of one precision in the cache, or build it and keep it there.

    Raises:
        InputError: the bundle has no such precision, a bucket is larger than
            what its graphs were checked with, TensorRT refuses the graph, or
            the cache cannot be written.
    """
    graph = bundle.graph(precision)
    profiles = row_profiles(buckets)
    checked = bundle.manifest.max_batch_rows
    if buckets[-1] > checked:
        limit = f"the bundle's graphs were checked with up to {checked} rows"
        raise InputError(f"a bucket of {buckets[-1]} rows is too large: {limit}; lower --buckets")
    source = plan_source(graph, device, trt.__version__, profiles, options)
    try:
        kept, damage = cache.find(source), None
    except PlanDamaged as error:
        kept, damage = None, str(error)
    if kept is not None:
        return Compiled(plan=kept, built=False, replaced=None)
    plan = _built(trt, bundle, precision, source, cache, created)
    return Compiled(plan=plan, built=True, replaced=damage)


def _built(
    trt: Any,
    bundle: Bundle,
    precision: str,
    source: PlanSource,
    cache: PlanCache,
    created: datetime,
) -> Plan:
    started = time.monotonic()
    built = build_plan(
        trt,
        bundle.graph(precision),
        border_of(bundle.schema),
        source.profiles,
        source.options,
        timing_cache=cache.timing_cache(source),
    )
    plan = cache.keep(
        source,
        built.plan,
        model=f"{bundle.manifest.name}@{bundle.manifest.version}",
        precision=precision,
        created=created,
        build_s=round(time.monotonic() - started, 3),
    )
    if built.timing_cache is not None:
        cache.keep_timing_cache(source, built.timing_cache)
    return plan
