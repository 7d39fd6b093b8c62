"""What a proof holds: the JSON of ``podium doctor --gpu-proof``."""

from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from service.profiling.values import Machine

FORMAT = 1

Outcome = Literal["passed", "failed", "inconclusive", "not run"]
"""inconclusive: nothing was wrong, and what was to be shown could not show itself."""
Stack = Literal["tensorrt", "tensorrt-rtx", "none"]

Figures = TypeVar("Figures")


class GpuFacts(Struct, frozen=True, kw_only=True):
    """The device, and what drives it."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    free_bytes: int
    """Before anything was loaded."""
    driver_cuda: str
    """The CUDA version that the driver supports."""
    driver: str | None
    """The driver's own version; None where the system does not say."""


class BundleFacts(Struct, frozen=True, kw_only=True):
    """What was run."""

    model: str
    version: str
    content: str
    """SHA-256 of what makes scores, in fp32."""
    precisions: tuple[str, ...]
    """Of those that it has, the ones that TensorRT runs."""


class Section(Struct, Generic[Figures], frozen=True, kw_only=True):
    """One part of the proof."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """Why it did not pass, one sentence each; empty if it did."""
    left_out: tuple[str, ...] = ()
    """What of it was not measured, and why; it may have passed all the same."""
    figures: Figures | None = None
    """What was measured before it failed, too; None if it was not run."""


class Build(Struct, frozen=True, kw_only=True):
    """A plan, built from nothing, and a second time with the measurements of the first."""

    precision: str
    first_s: float
    second_s: float | None
    """None: there was no time for it."""
    plan_bytes: int
    timing_cache_first_bytes: int | None
    """Measurements after the first build; None where TensorRT keeps none (TensorRT-RTX)."""
    timing_cache_second_bytes: int | None
    """As many as after the first build: the second one measured nothing anew."""
    found_s: float
    """To find the plan and check its digest, in place of building it."""


class Load(Struct, frozen=True, kw_only=True):
    """A plan brought to the device, with its slots warmed up."""

    precision: str
    slots: int
    buckets: tuple[int, ...]
    load_s: float
    weights_bytes: int
    scratch_bytes: int
    """Per slot."""
    buffer_bytes: int
    """Per slot."""
    predicted_bytes: int
    measured_bytes: int
    """As the device counts, with contexts and graphs."""
    graphs_wanted: int
    """0 where TensorRT-RTX captures graphs itself."""
    graphs_captured: int


class Scores(Struct, frozen=True, kw_only=True):
    """How far scores are from those of the CPU: absolute differences of probabilities."""

    engine: str
    precision: str
    tolerance: float
    """For golden rows, from the bundle's manifest."""
    golden_max: float
    """The largest of all buckets."""
    rows: int
    """Random users and items."""
    reference_max: float
    """Against fp32 on ONNX Runtime CPU."""
    reference_p99: float
    reference_mean: float
    same_graph_max: float
    """Against the same graph on ONNX Runtime CPU."""


class Timing(Struct, frozen=True, kw_only=True):
    """Batches of one size: from handing the rows over to having the scores."""

    engine: str
    precision: str
    cuda_graphs: bool
    """Asked for; ONNX Runtime has none here."""
    slots: int
    """Batches on the device at the same time."""
    rows: int
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float | None
    """None where fewer than 100 calls were made."""
    rows_per_s: float


class Overlap(Struct, frozen=True, kw_only=True):
    """Three batches in three slots at once, by the device's own events.

    Rows *arrive* when the device has passed the event after their copy. That a
    later batch arrives after an earlier one and before that one is computed
    shows that copies run during computations: a device that did one thing at a
    time, in the order in which it was handed over, would copy only afterwards.
    """

    precision: str
    rows: int
    """Of every batch."""
    rounds: int
    possible: int
    """Rounds in which a batch was surely handed over early enough to arrive in time, by the host's
    clock; fewer than all where the host is slower than the device."""
    overlapping: int
    """Rounds in which a batch arrived while an earlier one was computed."""
    copy_in_ms: float
    """Medians of the steps of the first batch, which waits for nobody."""
    compute_ms: float
    copy_out_ms: float
    alone_ms: float
    """Median of one batch with nothing else on the device."""
    together_ms: float
    """Median from the start of the first of three batches to the end of the last."""


class Resident(Struct, frozen=True, kw_only=True):
    """One of several models on the device."""

    precision: str
    held_bytes: int
    """Of the budget."""
    golden_max: float
    """With all of them there, scored in turn."""


class Residents(Struct, frozen=True, kw_only=True):
    """Models side by side under one budget, and one more that has no room."""

    limit_bytes: int
    models: tuple[Resident, ...]
    held_bytes: int
    device_bytes: int
    """By how much the device's free memory shrank."""
    refused: str
    """What the budget said of a model with so many slots that it does not fit."""
    device_bytes_of_refused: int
    """That the refused model took all the same."""


class Swap(Struct, frozen=True, kw_only=True):
    """One loaded model replaced by another while two threads score."""

    old: str
    new: str
    rows: int
    """Of every call."""
    old_bytes: int
    both_bytes: int
    """Held of the budget while both were there."""
    after_bytes: int
    load_s: float
    """Of the new one, under load."""
    calls_before: int
    calls_while_loading: int
    calls_after: int
    failed_calls: int
    p99_before_ms: float | None
    p99_while_loading_ms: float | None
    worst_while_loading_ms: float | None


class SessionLoad(Struct, frozen=True, kw_only=True):
    """A graph in one session of ONNX Runtime on the GPU; it gave the golden scores."""

    precision: str
    load_s: float
    predicted_bytes: int
    measured_bytes: int


class Comparison(Struct, frozen=True, kw_only=True):
    """ONNX Runtime's CUDA provider with the same graphs."""

    loads: tuple[SessionLoad, ...]
    scores: tuple[Scores, ...]
    timings: tuple[Timing, ...]


class Proof(Struct, frozen=True, kw_only=True):
    """A GPU, measured."""

    format: int
    created: datetime
    seconds: float
    machine: Machine
    gpu: GpuFacts
    stack: Stack
    tensorrt: str | None
    """Its version as it says itself."""
    bundle: BundleFacts
    buckets: tuple[int, ...]
    build: Section[tuple[Build, ...]]
    load: Section[tuple[Load, ...]]
    scores: Section[tuple[Scores, ...]]
    timing: Section[tuple[Timing, ...]]
    overlap: Section[tuple[Overlap, ...]]
    residents: Section[Residents]
    swap: Section[Swap]
    onnxruntime_cuda: Section[Comparison]

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong, each with its section; empty: the proof holds."""
        return tuple(
            f"{name}: {reason}"
            for name, section in self.sections.items()
            if section.outcome == "failed"
            for reason in section.reasons
        )

    @property
    def sections(self) -> dict[str, Section[object]]:
        """By name, in the order in which they ran."""
        return {name: getattr(self, name) for name in SECTIONS}


SECTIONS = (
    "build",
    "load",
    "scores",
    "timing",
    "overlap",
    "residents",
    "swap",
    "onnxruntime_cuda",
)


def encode_proof(proof: Proof) -> bytes:
    """JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"


def decode_proof(content: bytes) -> Proof:
    """What `encode_proof` wrote.

    Raises:
        msgspec.ValidationError: it is not a proof, or misses a figure.
    """
    return msgspec.json.decode(content, type=Proof)
