"""The precisions of a model: how each graph is made, and how it is proven against fp32.

A graph is measured as it will run: ONNX Runtime scores the held-out rows and
the catalogue with the fp32 graph and with the candidate (`ranking_models.gates`),
and the golden rows are compared with PyTorch's scores in several batch sizes.
bf16 is the fp32 graph itself, computed in bfloat16 by OpenVINO.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Literal, Protocol, get_args

import msgspec
from msgspec.structs import replace

from ranking_models.bundle import Graph
from ranking_models.errors import InputError
from ranking_models.export.embedding_rows import Rows, reduce_embedding_rows
from ranking_models.gates import (
    Evidence,
    GateFailed,
    Kind,
    enforce,
    gate,
    largest_activation,
    measure,
    thresholds_for,
)
from ranking_models.golden import GOLDEN_ROWS
from ranking_models.manifest import Gate, GateThresholds, Quantisation
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.openvino import openvino_scorer
from ranking_models.parity import Scorer, check_batches
from ranking_models.quantisation import quantise
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32

Precision = Literal[
    "fp32", "fp16", "bf16", "int8-cpu", "int8-trt", "fp32-rows-fp16", "fp32-rows-int8"
]

TOLERANCE = 1e-5
"""Largest difference between the scores of PyTorch and of an fp32 engine."""

TOLERANCES: dict[Precision, float] = {
    "fp32": TOLERANCE,
    "fp16": 2e-3,
    "bf16": 5e-3,
    "fp32-rows-fp16": 1e-3,
    "fp32-rows-int8": 5e-3,
}
"""The same for engines of other precisions; a few times what MovieLens-100K shows."""

INT8_TOLERANCE = 0.02
"""Least tolerance of an INT8 engine. Its error depends on the model, and on how the engine's
kernels round, so the tolerance is twice the measured difference where that is more."""

MAX_BATCH_ROWS = 4096
"""Largest single call that is checked: four requests of the most candidates."""

_BATCH_SIZES = (1, 7, GOLDEN_ROWS, MAX_BATCH_ROWS)

_ANY = 1.0
"""Scores lie in 0..1, so only one that is no probability differs by more."""

_KINDS: dict[Precision, Kind] = {
    "fp16": "fp16",
    "bf16": "bf16",
    "int8-cpu": "int8",
    "int8-trt": "int8",
    "fp32-rows-fp16": "rows-fp16",
    "fp32-rows-int8": "rows-int8",
}


class ExportProgress(Protocol):
    """Is told how far an export is."""

    def begin(self, what: str) -> None:
        """A precision is being built or measured."""

    def step(self, done: int, total: int) -> None:
        """So many of its rows are measured, or of the graphs that are tried for it."""


class Proof(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What every precision of one model is held against."""

    fp32: bytes
    """The reference graph."""
    golden: FeatureBatch
    golden_scores: Float32
    """PyTorch's, or of the reference graph where there is no network."""
    evidence: Evidence

    @cached_property
    def reference(self) -> Scorer:
        return onnx_runtime_scorer(self.fp32)

    @cached_property
    def max_activation(self) -> float:
        """Over the golden rows too: there every number is once at its limit."""
        batches = (self.evidence.held_out, self.golden)
        return max(largest_activation(self.fp32, rows) for rows in batches)


class VariantsRefused(GateFailed):
    """Some precisions do not rank like fp32, so that nothing is written."""

    def __init__(self, graphs: dict[str, Graph], failures: tuple[str, ...]) -> None:
        self.graphs = graphs
        """Every precision that was measured."""
        super().__init__("the export", failures)


def precisions_of(asked: Sequence[str], rows: Sequence[str] = ()) -> tuple[Precision, ...]:
    """The precisions that are meant, fp32 first and each once.

    Args:
        asked: Names of precisions; ``int8`` means both of its graphs.
        rows: ``fp16`` or ``int8``: fp32 graphs with smaller embedding rows.

    Raises:
        InputError: a name is not known; says which are.
    """
    both: list[str] = ["fp32"]
    for name in asked:
        both.extend(("int8-cpu", "int8-trt") if name == "int8" else (name,))
    for name in rows:
        if name not in get_args(Rows):
            raise InputError(f"--embedding-rows: there are no {name!r} rows, only fp16 and int8")
        both.append(f"fp32-rows-{name}")
    known: tuple[Precision, ...] = get_args(Precision)
    for name in both:
        if name not in known:
            there = ", ".join((*known, "int8"))
            raise InputError(f"--precision: there is no precision {name!r}; there are {there}")
    return tuple(name for name in known if name in both)


def build_variants(
    precisions: Iterable[Precision],
    proof: Proof,
    *,
    half: Callable[[], bytes],
    schema: FeatureSchema,
    calibration: FeatureBatch,
    progress: ExportProgress | None = None,
) -> dict[str, Graph]:
    """Build and measure precisions other than fp32; failed gates are in the graphs.

    Args:
        precisions: From `precisions_of`.
        proof: What they are held against.
        half: Makes the fp16 graph.
        schema: The model's features.
        calibration: Rows for INT8 that neither trained the model nor prove it.
        progress: Hears of every step.

    Raises:
        InputError: a graph cannot be built, or gives scores that are no
            probabilities, which no force can publish; or bf16 is asked for
            where OpenVINO or the CPU's bfloat16 is missing.
    """
    graphs: dict[str, Graph] = {}
    for precision in precisions:
        if precision != "fp32":
            _begin(progress, f"building {precision}")
            built = _built(precision, proof.fp32, half, schema, calibration, progress)
            _begin(progress, f"measuring {precision}")
            graphs[precision] = _measured(precision, built, proof, progress)
    return graphs


def enforce_gates(graphs: dict[str, Graph], *, force: bool) -> dict[str, Graph]:
    """The graphs as they may be published: all passed, or the failed ones marked as forced.

    Raises:
        VariantsRefused: some failed and are not forced.
    """
    failures = tuple(
        f"{precision}: {failure}"
        for precision, graph in graphs.items()
        if graph.gate
        for failure in graph.gate.failures
    )
    if failures and not force:
        raise VariantsRefused(graphs, failures)
    return {
        precision: replace(graph, gate=enforce(graph.gate, what=precision, force=force))
        if graph.gate
        else graph
        for precision, graph in graphs.items()
    }


class _Built(msgspec.Struct, frozen=True, kw_only=True):
    onnx: bytes
    embedding_rows: Literal["fp32", "fp16", "int8"] = "fp32"
    quantisation: Quantisation | None = None


def _built(
    precision: Precision,
    fp32: bytes,
    half: Callable[[], bytes],
    schema: FeatureSchema,
    calibration: FeatureBatch,
    progress: ExportProgress | None,
) -> _Built:
    match precision:
        case "bf16":
            return _Built(onnx=fp32)  # what is reduced is how OpenVINO computes it
        case "fp32-rows-fp16":
            return _Built(onnx=reduce_embedding_rows(fp32, "fp16"), embedding_rows="fp16")
        case "fp32-rows-int8":
            return _Built(onnx=reduce_embedding_rows(fp32, "int8"), embedding_rows="int8")
        case "int8-cpu":
            return _quantised(fp32, None, schema, calibration, progress)
        case "int8-trt":
            return _quantised(fp32, half(), schema, calibration, progress)
        case _:
            return _Built(onnx=half())


def _quantised(
    fp32: bytes,
    half: bytes | None,
    schema: FeatureSchema,
    calibration: FeatureBatch,
    progress: ExportProgress | None,
) -> _Built:
    made = quantise(
        fp32,
        half,
        schema,
        calibration,
        target="trt" if half else "cpu",
        progress=progress.step if progress else None,
    )
    return _Built(onnx=made.onnx, quantisation=made.quantisation)


def _measured(
    precision: Precision, built: _Built, proof: Proof, progress: ExportProgress | None
) -> Graph:
    if precision == "bf16":
        engine, candidate = "OpenVINO", openvino_scorer(built.onnx, computes="bf16")
    else:
        engine, candidate = "ONNX Runtime", onnx_runtime_scorer(built.onnx)
    parity = golden_difference(
        candidate,
        proof.golden,
        proof.golden_scores,
        tolerance=_ANY,
        what=f"{engine} ({precision})",
    )
    tolerance = TOLERANCES.get(precision, max(INT8_TOLERANCE, 2 * parity))
    figures = measure(
        proof.reference,
        candidate,
        proof.evidence,
        max_activation=proof.max_activation,
        progress=progress.step if progress else None,
    )
    verdict = gate(figures, _thresholds(precision), reference="fp32", evidence=proof.evidence)
    if parity > tolerance:
        verdict = _with_golden_failure(verdict, parity, tolerance)
        tolerance = 2 * parity  # what a forced graph is loaded with
    return Graph(
        onnx=built.onnx,
        tolerance=tolerance,
        parity=parity,
        embedding_rows=built.embedding_rows,
        quantisation=built.quantisation,
        gate=verdict,
    )


def golden_difference(
    score: Scorer, golden: FeatureBatch, reference: Float32, *, tolerance: float, what: str
) -> float:
    """The largest difference from the reference scores, in batches of four sizes.

    Raises:
        ParityFailed: it is more than `tolerance`.
    """
    return check_batches(
        score, golden, reference, sizes=_BATCH_SIZES, tolerance=tolerance, what=what
    )


def _thresholds(precision: Precision) -> GateThresholds:
    thresholds = thresholds_for(_KINDS[precision])
    if precision == "int8-trt":
        # What is not quantised in this graph is half precision.
        return replace(thresholds, max_activation=thresholds_for("fp16").max_activation)
    return thresholds


def _with_golden_failure(verdict: Gate, parity: float, tolerance: float) -> Gate:
    failure = f"a golden row's score differs by {parity:.6g}, allowed is {tolerance:g}"
    return replace(verdict, failures=(*verdict.failures, failure))


def _begin(progress: ExportProgress | None, what: str) -> None:
    if progress is not None:
        progress.begin(what)
