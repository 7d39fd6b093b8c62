"""Where the tensors of a batch stand in memory: one block of inputs, one of outputs.

All inputs of a bucket follow each other, so that one copy brings them to the
device, whatever their number. The block is laid out anew for every bucket.
"""

from msgspec import Struct

from ranking_models.tensorrt.border import Border, GraphTensor

ALIGNMENT_BYTES = 256
"""Of every tensor. TensorRT asks it of scratch memory, and copies are fastest with it."""

ELEMENT_BYTES = 4
"""FLOAT and INT32, the only types at a graph's border."""


class Layout(Struct, frozen=True, kw_only=True):
    """One bucket's offsets in bytes, from the start of the block of inputs, or of outputs."""

    rows: int
    inputs: dict[str, int]
    input_bytes: int
    outputs: dict[str, int]
    output_bytes: int


def layout_of(border: Border, rows: int) -> Layout:
    """The blocks of a full bucket."""
    inputs, input_bytes = _placed(border.inputs, rows)
    outputs, output_bytes = _placed(border.outputs, rows)
    return Layout(
        rows=rows,
        inputs=inputs,
        input_bytes=input_bytes,
        outputs=outputs,
        output_bytes=output_bytes,
    )


def _placed(tensors: tuple[GraphTensor, ...], rows: int) -> tuple[dict[str, int], int]:
    offsets, end = {}, 0
    for tensor in tensors:
        offsets[tensor.name] = end
        size = rows * (tensor.width or 1) * ELEMENT_BYTES
        end += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return offsets, end
