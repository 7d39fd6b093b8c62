"""Graphs scored by OpenVINO on the CPU, in the precision that is asked for and in no other.

Left alone, OpenVINO computes an fp32 graph in bfloat16 wherever the CPU has
instructions for that: two to three times as fast, and off by some 1e-3 of a
score. Here either is asked for by name, and afterwards looked up in the
compiled graph.

Batches are padded to a few sizes, and the graph is compiled once for each: with
one graph for all shapes every change of the batch size costs more than the
padding does (``python -m tests.bench openvino``).
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ranking_models.errors import InputError
from ranking_models.padding import fill_padded
from ranking_models.schema import FeatureBatch, Float32

Computes = Literal["f32", "bf16"]

BUCKETS = (64, 128, 256, 512, 1024)
"""Batch sizes that are compiled where nobody asks for others."""

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""What the CPU must have; without, OpenVINO would imitate bfloat16, which gains nothing."""

CPU_INFO = Path("/proc/cpuinfo")
OUTPUT = "score"
_PRODUCTS = frozenset({"FullyConnected", "MatMul"})


class OpenVinoFailed(InputError):
    """OpenVINO is not there, refuses a graph, or would not run what is asked for."""


class OpenVinoGraph:
    """A graph as a function of rows. One thread calls it at a time.

    Args:
        graph: The ONNX model, a file or serialised; its inputs have any number of rows.
        computes: ``bf16`` or ``f32``, for all that the graph leaves in fp32.
        threads: Threads of one call.
        buckets: Batch sizes in rising order; the last is the most rows of one call.

    Raises:
        OpenVinoFailed: as its docstring says.
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        computes: Computes,
        threads: int = 1,
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        if reason := why_absent(computes):
            raise OpenVinoFailed(reason)
        openvino = _module()
        try:
            core = openvino.Core()
            model = core.read_model(graph)
            self._buckets = [_Bucket(core, model, rows, computes, threads) for rows in buckets]
        except RuntimeError as error:
            where = graph if isinstance(graph, Path) else "the graph"
            raise OpenVinoFailed(f"{where}: OpenVINO does not load it: {_reason(error)}") from error

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes in rising order."""
        return tuple(bucket.rows for bucket in self._buckets)

    @property
    def max_rows(self) -> int:
        """Of one call."""
        return self._buckets[-1].rows

    def __call__(self, batch: FeatureBatch) -> Float32:
        """The score of each row; the array is the caller's.

        Raises:
            OpenVinoFailed: too many rows, an input is missing or of another
                shape or type, or OpenVINO failed.
        """
        for bucket in self._buckets:
            if batch.rows <= bucket.rows:
                return bucket(batch)
        raise OpenVinoFailed(f"{batch.rows} rows are more than {self.max_rows}")


class _Bucket:
    """The graph for one batch size, with the memory that its inputs and scores stay in."""

    def __init__(self, core: Any, model: Any, rows: int, computes: Computes, threads: int) -> None:
        self.rows = rows
        shaped = model.clone()
        shaped.reshape({_name(p): [rows, *_widths(p)] for p in shaped.inputs})
        options = {
            "INFERENCE_PRECISION_HINT": computes,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Every worker would pin its threads to the same first cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(shaped, "CPU", options)
        check_precision(compiled, computes)
        self._request = compiled.create_infer_request()
        self._inputs = {
            _name(port): self._request.get_tensor(port).data for port in compiled.inputs
        }
        for room in self._inputs.values():
            room[:] = 0
        self._scores = self._request.get_tensor(OUTPUT).data

    def __call__(self, batch: FeatureBatch) -> Float32:
        try:
            fill_padded(self._inputs, batch)
        except ValueError as misfit:
            raise OpenVinoFailed(str(misfit)) from misfit
        try:
            self._request.infer()
        except RuntimeError as error:
            raise OpenVinoFailed(f"OpenVINO failed: {_reason(error)}") from error
        scores: Float32 = self._scores[: batch.rows].copy()
        return scores


def openvino_scorer(
    graph: Path | bytes, *, computes: Computes
) -> Callable[[FeatureBatch], Float32]:
    """A graph as a plain function that scores batches of any size, as it will be served.

    Raises:
        OpenVinoFailed: as `OpenVinoGraph`.
    """
    run = OpenVinoGraph(graph, computes=computes)

    def score(batch: FeatureBatch) -> Float32:
        cuts = range(0, batch.rows, run.max_rows)
        return np.concatenate([run(batch.take(slice(at, at + run.max_rows))) for at in cuts])

    return score


def why_absent(computes: Computes, cpu_info: Path = CPU_INFO) -> str | None:
    """Why this machine cannot compute so with OpenVINO; None if it can."""
    try:
        _module()
    except ImportError as error:
        return f"OpenVINO cannot be imported ({error}): install podium[openvino]"
    if computes == "bf16" and not bf16_flags(cpu_info):
        flags = " and ".join(sorted(BF16_FLAGS))
        return f"bf16 needs a CPU with bfloat16 instructions, and this one has neither {flags}"
    return None


def bf16_flags(cpu_info: Path = CPU_INFO) -> frozenset[str]:
    """The CPU's instructions for bfloat16, as Linux names them; none where it does not say."""
    try:
        text = cpu_info.read_text()
    except OSError:
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return BF16_FLAGS.intersection(flags.split())


def _module() -> Any:
    return importlib.import_module("openvino")


def _name(port: Any) -> str:
    """An input's name in the ONNX model.

    Compiled, a tensor has other names as well where a conversion of the input fell away.
    """
    return str(port.node.friendly_name)


def _widths(port: Any) -> list[int]:
    """All axes but the rows; only those are dynamic in a bundle's graphs."""
    return [axis.get_length() for axis in list(port.partial_shape)[1:]]


def check_precision(compiled: Any, computes: Computes) -> None:
    """Refuse a graph that runs in another precision than was asked for."""
    agreed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if agreed != computes:
        raise OpenVinoFailed(f"asked for {computes}, OpenVINO runs {agreed}")
    running = {
        info["runtimePrecision"].astype(str)
        for info in (layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops())
        if info["layerType"].astype(str) in _PRODUCTS
    }
    is_reduced = bool(running & {"bf16", "f16"})
    if is_reduced != (computes == "bf16"):
        ran = f"the matrix products run in {', '.join(sorted(running))}"
        raise OpenVinoFailed(f"asked for {computes}, {ran if running else 'it has no products'}")


def _reason(error: RuntimeError) -> str:
    """OpenVINO's last line; those before it name lines of its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
