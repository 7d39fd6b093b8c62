"""The search: which ranges, and which layers stay in the higher precision."""

from collections.abc import Callable, Sequence
from typing import Literal

import onnx
from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.manifest import LayerSensitivity, Quantisation
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.quantisation.harm import Harm, Yardstick
from ranking_models.quantisation.layers import Layer, layers_of
from ranking_models.quantisation.ranges import METHODS, Range, activations
from ranking_models.quantisation.rewriting import Activations, with_int8
from ranking_models.quantisation.rows import enough_rows
from ranking_models.schema import FeatureBatch, FeatureSchema

Target = Literal["cpu", "trt"]
"""ONNX Runtime on the CPU, or TensorRT."""

Progress = Callable[[int, int], None]
"""Told the graphs measured so far, and how many there will be at most."""

STRAIN = 0.6
"""How much of the gate's allowance may be used up on the calibration rows: a gate's lists are
longer and of other users, so its figures come out somewhat worse."""

MIN_OUTPUTS = 8
"""A layer with fewer stays as it is: rounding its input costs as much as it saves."""


class QuantisedGraph(Struct, frozen=True, kw_only=True):
    """An INT8 graph and how it came about."""

    onnx: bytes
    quantisation: Quantisation


def quantise(
    fp32_graph: bytes,
    half_graph: bytes | None,
    schema: FeatureSchema,
    calibration: FeatureBatch,
    *,
    target: Target,
    progress: Progress | None = None,
) -> QuantisedGraph:
    """The model in 8 bits, as far as its orders on the calibration rows allow.

    The method that sets the ranges is the one that strains the gate's
    thresholds least with every layer in 8 bits. If that is too much, layers
    are kept, first those that harm most for the work they save; then each that
    turns out to be harmless beside the others is given back. At least one
    layer ends up in 8 bits: whether that is good enough the gate says.

    The same arguments give the same bytes.

    Args:
        fp32_graph: The reference, serialised.
        half_graph: The FP16 form, which ``trt`` starts from.
        schema: Of the model.
        calibration: At least 256 rows that no gate measures on.
        target: Which engine is to run it: ``cpu`` has unsigned activations and
            keeps layers in fp32, ``trt`` has signed ones and keeps fp16.
        progress: Called after every graph that was measured.

    Raises:
        InputError: too few rows, no fp16 graph for ``trt``, or a graph without
            a layer that could be quantised.
    """
    rows = enough_rows(calibration)
    model = onnx.load_from_string(_start(fp32_graph, half_graph, target))
    layers = layers_of(model)
    worth = [layer for layer in layers if layer.outputs >= MIN_OUTPUTS]
    if not worth:
        raise InputError(
            f"the graph has no product with a constant matrix of {MIN_OUTPUTS} or more outputs, "
            "so int8 has nothing to make faster; leave it out"
        )
    yardstick = Yardstick(onnx_runtime_scorer(fp32_graph), schema, rows)
    most = len(METHODS) + 3 * len(layers)
    form: Activations = "u8" if target == "cpu" else "s8"
    trial = _Trial(model, layers, rows, form, yardstick, progress, most)
    method = min(METHODS, key=lambda name: trial.harm(worth, name).mean_strain)
    alone = {layer.name: trial.harm([layer], method).mean_difference for layer in layers}
    chosen = _chosen(trial, worth, method, alone)
    if progress is not None:
        progress(most, most)
    return QuantisedGraph(
        onnx=trial.graph(chosen, method),
        quantisation=Quantisation(
            activations=form,
            calibration=method,
            calibration_rows=rows.rows,
            kept_precision="fp32" if target == "cpu" else "fp16",
            layers=tuple(
                LayerSensitivity(
                    layer=layer.name, mean_difference=alone[layer.name], kept=layer not in chosen
                )
                for layer in layers
            ),
        ),
    )


def _start(fp32_graph: bytes, half_graph: bytes | None, target: Target) -> bytes:
    if target == "cpu":
        return fp32_graph
    if half_graph is None:
        raise InputError(
            "int8 for TensorRT starts from the fp16 graph, and this model has none; "
            "export it with fp16 first"
        )
    return half_graph


class _Trial:
    """Makes candidate graphs and measures them, each once."""

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Sequence[Layer],
        rows: FeatureBatch,
        form: Activations,
        yardstick: Yardstick,
        progress: Progress | None,
        most: int,
    ) -> None:
        self._model, self._form, self._yardstick = model, form, yardstick
        self._progress, self._most = progress, most
        self._ranges = _ranges(model, layers, rows, symmetric=form == "s8")
        self._known: dict[tuple[str, tuple[str, ...]], Harm] = {}

    def graph(self, layers: Sequence[Layer], method: str) -> bytes:
        return with_int8(self._model, layers, self._ranges[method], self._form)

    def harm(self, layers: Sequence[Layer], method: str) -> Harm:
        key = (method, tuple(layer.name for layer in layers))
        if key not in self._known:
            scorer = onnx_runtime_scorer(self.graph(layers, method))
            self._known[key] = self._yardstick.harm(scorer)
            if self._progress is not None:
                self._progress(len(self._known), self._most)
        return self._known[key]


def _ranges(
    model: onnx.ModelProto, layers: Sequence[Layer], rows: FeatureBatch, *, symmetric: bool
) -> dict[str, dict[str, Range]]:
    """By method and tensor."""
    values = activations(model, [layer.input for layer in layers], rows)
    return {
        name: {tensor: method(found, symmetric) for tensor, found in values.items()}
        for name, method in METHODS.items()
    }


def _chosen(
    trial: _Trial, layers: Sequence[Layer], method: str, alone: dict[str, float]
) -> list[Layer]:
    """The layers to quantise, in the order of the graph."""

    def strain(chosen: Sequence[Layer]) -> float:
        return trial.harm(chosen, method).strain

    worst_first = sorted(layers, key=lambda layer: -alone[layer.name] / layer.products)
    chosen, kept = list(layers), []
    while strain(chosen) > STRAIN and len(chosen) > 1:
        layer = next(one for one in worst_first if one in chosen)
        chosen.remove(layer)
        kept.append(layer)
    for layer in sorted(kept, key=lambda layer: -layer.products):
        more = [one for one in layers if one in chosen or one == layer]
        if strain(more) <= STRAIN:
            chosen = more
    return chosen
