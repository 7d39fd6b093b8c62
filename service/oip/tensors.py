"""One tensor of a request: what is said of it, and its values from JSON or from bytes.

Every function here raises `InvalidInference`, which names the tensor, and nothing else.
"""

from math import prod
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from service.errors import InvalidInference, split_place

BINARY_SIZE: Final = "binary_data_size"
"""The parameter of a tensor whose values follow the JSON: how many bytes they are."""

Parameter = str | int | float | bool | None
Array = npt.NDArray[Any]

_TYPES: Final[dict[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}
_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_FLAT: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "FP32": msgspec.json.Decoder(list[float]),
    "INT32": msgspec.json.Decoder(list[_Int32]),
}
_NESTED: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "FP32": msgspec.json.Decoder(list[list[float]]),
    "INT32": msgspec.json.Decoder(list[list[_Int32]]),
}


class Input(Struct, frozen=True):
    """A tensor as the JSON has it."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Parameter] | None = None


def binary_size(tensor: Input) -> int | None:
    """How many bytes of it follow the JSON; None: its values are in the JSON."""
    size = (tensor.parameters or {}).get(BINARY_SIZE)
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidInference(f"input {quoted(tensor.name)}: {BINARY_SIZE} is no number of bytes")
    return size


def from_bytes(tensor: Input, raw: bytes, size: int) -> Array:
    """Its values from what follows the JSON, little-endian.

    Args:
        raw: What there is of its bytes.
        size: How many there should be.
    """
    kind, count = _kind(tensor), _count(tensor)
    if size != count * kind.itemsize:
        raise InvalidInference(
            f"input {quoted(tensor.name)} of {_shape(tensor)} {tensor.datatype} has "
            f"{count * kind.itemsize} bytes, {BINARY_SIZE} says {size}"
        )
    if len(raw) != size:
        raise InvalidInference(
            f"input {quoted(tensor.name)}: {size} bytes are announced, {len(raw)} are there"
        )
    if tensor.data is not UNSET:
        raise InvalidInference(f"input {quoted(tensor.name)} has data and {BINARY_SIZE}")
    return np.frombuffer(raw, kind).astype(kind.newbyteorder("=")).reshape(tensor.shape)


def from_json(tensor: Input) -> Array:
    """Its values from a flat list, or from a list of rows."""
    kind, count, name = _kind(tensor), _count(tensor), quoted(tensor.name)
    if tensor.data is UNSET:
        raise InvalidInference(f"input {name} has neither data nor {BINARY_SIZE}")
    what = f"input {name}, data: "
    if _is_nested(tensor.data):
        values = _flattened(tensor, tensor.data, what)
    else:
        values = typed(_FLAT[tensor.datatype], tensor.data, what)
    if len(values) != count:
        raise InvalidInference(f"{what}{len(values)} values, where {_shape(tensor)} has {count}")
    with np.errstate(over="ignore"):  # too large for a float32: infinite, and refused as such
        return np.array(values, kind.newbyteorder("=")).reshape(tensor.shape)


def _flattened(tensor: Input, data: Raw, what: str) -> list[Any]:
    """The values of a list of rows."""
    rows = typed(_NESTED[tensor.datatype], data, what)
    # A shape is no more than words so far: nothing is made as large as it says.
    if tensor.shape[:1] != (len(rows),) or {(len(row),) for row in rows} != {tensor.shape[1:]}:
        raise InvalidInference(f"{what}the lists are not {_shape(tensor)}")
    return [value for row in rows for value in row]


def _is_nested(data: Raw) -> bool:
    """Whether a list begins with another."""
    return bytes(data).lstrip()[1:].lstrip()[:1] == b"["


def _kind(tensor: Input) -> np.dtype[Any]:
    found = _TYPES.get(tensor.datatype)
    if found is None:
        raise InvalidInference(
            f"input {quoted(tensor.name)} is {quoted(tensor.datatype)}; "
            f"models here take {' and '.join(_TYPES)}"
        )
    return found


def _count(tensor: Input) -> int:
    """How many values a tensor of that shape has."""
    if not 1 <= len(tensor.shape) <= 8 or not all(1 <= n < 2**31 for n in tensor.shape):
        raise InvalidInference(f"input {quoted(tensor.name)} cannot have that shape")
    return prod(tensor.shape)


def typed(decoder: msgspec.json.Decoder[Any], text: bytes | Raw, what: str) -> Any:
    """JSON of one type.

    Args:
        what: Stands before what is wrong with it.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        message, path = split_place(error)
        raise InvalidInference(f"{what}{message} at {path}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInference(f"{what}the JSON cannot be read: {error}") from None
    except RecursionError:
        raise InvalidInference(f"{what}the JSON is nested too deeply") from None


def _shape(tensor: Input) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def quoted(text: str) -> str:
    """A name of the caller's, cut to what fits into a line."""
    return repr(text[:80])
