"""When a plan may be used again: all that it was made from, hashed.

Two builds of the same graph differ in their bytes, so a plan is known by what
went in. It is tied to one graph, one TensorRT version, one kind of GPU with
its driver, and to the profiles and options it was built with.
"""

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from ranking_models.tensorrt.build import BuildOptions
from ranking_models.tensorrt.device import Device
from ranking_models.tensorrt.profiles import RowProfile
from ranking_models.tensorrt.targets import ComputeCapability

_DIGITS = 32


class PlanSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan is made from."""

    graph_sha256: str
    tensorrt: str
    """Version."""
    gpu: str
    compute_capability: ComputeCapability
    driver: str
    profiles: tuple[RowProfile, ...]
    options: BuildOptions

    @property
    def key(self) -> str:
        """32 hex digits over every field."""
        return _hash(self)

    @property
    def timing_key(self) -> str:
        """32 hex digits over what measurements depend on, so that graphs share them."""
        return _hash([self.tensorrt, self.gpu, self.compute_capability, self.driver])


def plan_source(
    graph: Path,
    device: Device,
    tensorrt: str,
    profiles: tuple[RowProfile, ...],
    options: BuildOptions,
) -> PlanSource:
    """What the plan of a graph file would be made from here."""
    with graph.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return PlanSource(
        graph_sha256=sha256,
        tensorrt=tensorrt,
        gpu=device.name,
        compute_capability=device.compute_capability,
        driver=device.driver,
        profiles=profiles,
        options=options,
    )


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:_DIGITS]
