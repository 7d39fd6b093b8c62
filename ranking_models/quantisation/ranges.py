"""Which span of a tensor's values its 256 steps cover.

A span that holds every value has coarse steps; a narrower one has finer steps
and cuts off (saturates) what lies outside. Saturating is good for averages and
bad for the few rows that are cut, so no method is taken on faith: `quantise`
measures all of `METHODS`. Entropy (divergence of histograms) is not among
them: it cut off so much of a DCN-V2's cross layers that the graph failed its
gate on MovieLens-100K.

Source:
    Wu et al. (2020), "Integer quantization for deep learning inference",
    arXiv:2004.09602, section 4 (calibration methods).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from ranking_models.onnx_runtime import open_session
from ranking_models.schema import FeatureBatch

Values = npt.NDArray[np.float32]

SAMPLE = 500_000
"""Values of one tensor that the methods look at, evenly spread."""


class Range(NamedTuple):
    """The values that are told apart; what lies outside becomes the nearer end."""

    low: float
    high: float


Method = Callable[[Values, bool], Range]
"""From a tensor's values, and whether the range must be symmetric around zero."""


def activations(
    model: onnx.ModelProto, tensors: Sequence[str], rows: FeatureBatch
) -> dict[str, Values]:
    """The values of tensors inside a graph for some rows, sampled and in single precision.

    Raises:
        Exception: ONNX Runtime refuses the graph.
    """
    names = list(dict.fromkeys(tensors))
    computed = [name for name in names if name not in {v.name for v in model.graph.input}]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        # The runtime finds out the types by itself.
        onnx.ValueInfoProto(name=name)
        for name in computed
        if name not in {v.name for v in model.graph.output}
    )
    session = open_session(watched.SerializeToString())
    inputs = rows.inputs()
    given = {value.name: inputs[value.name] for value in session.get_inputs()}
    # A layer can read an input of the graph itself, which cannot be an output too.
    values = {name: given[name] for name in names if name in given}
    if computed:
        values |= dict(zip(computed, session.run(computed, given), strict=True))
    return {name: _sample(values[name]) for name in names}


def _sample(values: npt.NDArray[Any]) -> Values:
    flat = values.ravel()
    spread = np.linspace(0, flat.size - 1, min(flat.size, SAMPLE)).astype(np.intp)
    return np.asarray(flat[spread], np.float32)


def _min_max(values: Values, symmetric: bool) -> Range:
    return _spanned(float(values.min()), float(values.max()), symmetric)


def _percentile(inside: float) -> Method:
    """The range that holds this share of the values; each end cuts off as many as the other."""

    def chosen(values: Values, symmetric: bool) -> Range:
        if symmetric:
            end = float(np.quantile(np.abs(values), inside))
            return Range(-end, end)
        low, high = np.quantile(values, [(1 - inside) / 2, (1 + inside) / 2])
        return _spanned(float(low), float(high), symmetric)

    return chosen


_SHARES = np.linspace(1.0, 0.3, 36)


def _least_squares(values: Values, symmetric: bool) -> Range:
    """The share of the full range whose rounding and cutting errors are least in square."""
    full = _min_max(values, symmetric)
    errors = [_squared_error(values, Range(full.low * s, full.high * s)) for s in _SHARES]
    share = float(_SHARES[int(np.argmin(errors))])
    return Range(full.low * share, full.high * share)


def _squared_error(values: Values, span: Range) -> float:
    step = (span.high - span.low) / 255
    if step == 0:
        return 0.0
    rounded = np.rint(np.clip(values, span.low, span.high) / step) * step
    return float(np.square(rounded - values, dtype=np.float64).mean())


def _spanned(low: float, high: float, symmetric: bool) -> Range:
    """With zero inside, which must be exact: it is what padding and ReLU give."""
    if symmetric:
        end = max(-low, high)
        return Range(-end, end)
    return Range(min(low, 0.0), max(high, 0.0))


METHODS: Mapping[str, Method] = {
    "min/max": _min_max,
    "percentile 99.99": _percentile(0.9999),
    "percentile 99.9": _percentile(0.999),
    "least squares": _least_squares,
}
"""By the name that the manifest shows."""
