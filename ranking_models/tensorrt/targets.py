"""Where TensorRT and TensorRT-RTX differ, and nothing else.

TensorRT builds for the GPU that is there, and measures kernels on it, which a
timing cache saves the next time. TensorRT-RTX builds for the compute
capability it is given, measures nothing, and needs no GPU.
"""

import logging
from typing import Any

from ranking_models.errors import InputError

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())

ComputeCapability = tuple[int, int]
"""Major and minor, such as (7, 5) for a T4."""


def is_rtx(trt: Any) -> bool:
    """Whether the module is ``tensorrt_rtx``."""
    return hasattr(trt, "ComputeCapability")


def set_target(trt: Any, config: Any, target: ComputeCapability | None) -> None:
    """Choose the GPU to build for; None is the one that is there, for TensorRT alone.

    Raises:
        InputError: the builder cannot build for it.
    """
    if not is_rtx(trt):
        if target is not None:
            raise InputError("TensorRT builds for the GPU that is there: name no target")
        return
    if target is None:
        raise InputError("TensorRT-RTX needs a target, such as (8, 9): it looks at no GPU")
    name = f"SM{target[0]}{target[1]}"
    capability = getattr(trt.ComputeCapability, name, None)
    if capability is None:
        known = ", ".join(m for m in trt.ComputeCapability.__members__ if m.startswith("SM"))
        raise InputError(f"TensorRT-RTX does not build for {name}; it builds for {known}")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(capability, 0):
        raise InputError(f"TensorRT-RTX did not take {name} as its target")


def use_timing_cache(trt: Any, config: Any, serialised: bytes | None) -> None:
    """Start from the measurements of an earlier build, or collect new ones."""
    if is_rtx(trt):
        return
    if serialised is not None:
        cache = config.create_timing_cache(serialised)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return
        # It comes from another GPU or version. Measuring anew is slower, never wrong.
        _LOG.warning("the timing cache does not fit this GPU and TensorRT; measuring anew")
    empty = config.create_timing_cache(b"")
    if empty is None or not config.set_timing_cache(empty, ignore_mismatch=False):
        _LOG.warning("TensorRT took no timing cache; the next build measures again")


def timing_cache_of(trt: Any, config: Any) -> bytes | None:
    """The measurements of a build that is done; None where nothing is measured."""
    cache = None if is_rtx(trt) else config.get_timing_cache()
    return None if cache is None else bytes(cache.serialize())
