"""Whether a loaded plan is what the bundle and the settings ask for.

A plan is found by a key over all that it was made from, so these checks fail
only where that key does not hold: a foreign file, another TensorRT.
"""

from collections.abc import Sequence
from typing import Any

from ranking_models.tensorrt.border import DYNAMIC, Border, GraphTensor
from service.engines.tensor_rt.api import CudaEngine, Dims
from service.errors import EngineFailed


def check_border(trt: Any, engine: CudaEngine, border: Border) -> None:
    """Require exactly the tensors of the border, with their direction, type and shape.

    Raises:
        EngineFailed: names the tensor, what it is and what it must be.
    """
    names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    asked = {tensor.name for tensor in (*border.inputs, *border.outputs)}
    if names != asked:
        has, wants = ", ".join(sorted(names)), ", ".join(sorted(asked))
        raise EngineFailed(f"the plan has the tensors {has}; the schema asks for {wants}")
    for tensors, mode in ((border.inputs, "INPUT"), (border.outputs, "OUTPUT")):
        for tensor in tensors:
            _check_tensor(engine, tensor, getattr(trt.TensorIOMode, mode))


def profiles_of(engine: CudaEngine, border: Border, buckets: Sequence[int]) -> tuple[int, ...]:
    """For each bucket the number of the profile that runs it.

    Raises:
        EngineFailed: no profile takes that many rows of every input.
    """
    return tuple(_profile_of(engine, border, rows) for rows in buckets)


def _check_tensor(engine: CudaEngine, tensor: GraphTensor, mode: Any) -> None:
    got = (
        engine.get_tensor_mode(tensor.name).name,
        engine.get_tensor_dtype(tensor.name).name,
        _axes(engine.get_tensor_shape(tensor.name)),
    )
    wanted = (mode.name, tensor.dtype, tensor.shape(DYNAMIC))
    if got != wanted:
        raise EngineFailed(f"the plan's tensor {tensor.name!r} is {got}, the schema says {wanted}")


def _profile_of(engine: CudaEngine, border: Border, rows: int) -> int:
    for index in range(engine.num_optimization_profiles):
        if all(_takes(engine, tensor, index, rows) for tensor in border.inputs):
            return index
    raise EngineFailed(f"no profile of the plan takes {rows} rows; compile it for this bucket")


def _takes(engine: CudaEngine, tensor: GraphTensor, profile: int, rows: int) -> bool:
    least, _, largest = engine.get_tensor_profile_shape(tensor.name, profile)
    between = zip(_axes(least), tensor.shape(rows), _axes(largest), strict=True)
    return all(low <= axis <= high for low, axis, high in between)


def _axes(dims: Dims) -> tuple[int, ...]:
    return tuple(dims[axis] for axis in range(len(dims)))
