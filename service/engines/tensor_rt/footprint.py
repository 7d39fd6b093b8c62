"""What a loaded plan holds of the device, as far as it can be counted before it is taken.

TensorRT's contexts and CUDA's graphs hold a little more; that is measured once
they are there.
"""

from collections.abc import Sequence

from msgspec import Struct

from ranking_models.tensorrt.border import Border
from service.engines.tensor_rt.layout import layout_of


class Footprint(Struct, frozen=True, kw_only=True):
    """Device memory of one loaded plan."""

    weights_bytes: int
    scratch_bytes: int
    """Per slot."""
    buffer_bytes: int
    """Inputs and outputs of the largest bucket, per slot."""
    slots: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.slots * (self.scratch_bytes + self.buffer_bytes)


def footprint(
    border: Border, buckets: Sequence[int], slots: int, *, weights_bytes: int, scratch_bytes: int
) -> Footprint:
    """What a plan with these buckets and slots takes."""
    largest = layout_of(border, buckets[-1])
    return Footprint(
        weights_bytes=weights_bytes,
        scratch_bytes=scratch_bytes,
        buffer_bytes=largest.input_bytes + largest.output_bytes,
        slots=slots,
    )
