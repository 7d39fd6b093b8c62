"""What a graph must take and give, checked on the network that TensorRT read from it."""

from typing import Any, Literal

from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.schema import FeatureSchema

DYNAMIC = -1
"""An axis whose length is not known when the plan is built."""


class GraphTensor(Struct, frozen=True, kw_only=True):
    """An input or output; its first axis is the rows, and nothing else is dynamic."""

    name: str
    dtype: Literal["FLOAT", "INT32"]
    """As TensorRT names it."""
    width: int | None
    """Columns; None for one number per row."""

    def shape(self, rows: int) -> tuple[int, ...]:
        return (rows,) if self.width is None else (rows, self.width)


class Border(Struct, frozen=True, kw_only=True):
    """All inputs and outputs of a graph."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]


def border_of(schema: FeatureSchema) -> Border:
    """Inputs that have columns, and one float32 score per row."""
    widths = {"dense": len(schema.dense), "ids": len(schema.ids)}
    widths |= {f"multi_{spec.name}": spec.max_length for spec in schema.multi}
    return Border(
        inputs=tuple(
            GraphTensor(name=name, dtype="FLOAT" if name == "dense" else "INT32", width=width)
            for name, width in widths.items()
            if width
        ),
        outputs=(GraphTensor(name="score", dtype="FLOAT", width=None),),
    )


def check_border(network: Any, border: Border) -> None:
    """Refuse a network whose inputs and outputs are not those of the schema.

    Raises:
        InputError: names the tensor, what it is and what it must be.
    """
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    _check("input", inputs, border.inputs)
    _check("output", outputs, border.outputs)
    # Two names for the row axis are two lengths: a profile could then promise
    # 64 rows of one input beside 128 of the other, and TensorRT builds that.
    axes = {tensor.get_dimension_name(0) for tensor in inputs}
    if len(axes) > 1:
        named = ", ".join(f"{tensor.name}: {tensor.get_dimension_name(0)!r}" for tensor in inputs)
        advice = "give it the same name on every input"
        raise InputError(f"the graph's inputs do not share one row axis ({named}); {advice}")


def _check(kind: str, got: list[Any], wanted: tuple[GraphTensor, ...]) -> None:
    there, asked = {tensor.name: tensor for tensor in got}, {spec.name: spec for spec in wanted}
    if set(there) != set(asked):
        names = f"{_listed(there)}, the schema asks for {_listed(asked)}"
        raise InputError(f"the graph's {kind}s are {names}; export it again with this schema")
    for name, spec in asked.items():
        tensor = there[name]
        shape = tuple(tensor.shape)
        if shape != spec.shape(DYNAMIC):
            advice = "the first axis is the rows and dynamic, no other is; export it again"
            is_asked = f"has the shape {_shown(shape)}, not {_shown(spec.shape(DYNAMIC))}"
            raise InputError(f"the graph's {kind} {name!r} {is_asked}: {advice}")
        if tensor.dtype.name != spec.dtype:
            is_asked = f"is {tensor.dtype.name}, the schema asks for {spec.dtype}"
            raise InputError(f"the graph's {kind} {name!r} {is_asked}; export it again")


def _listed(names: dict[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join('any' if axis == DYNAMIC else str(axis) for axis in shape)}]"
