"""Figures held against thresholds: what passes, and in which words something fails."""

from collections.abc import Iterator
from typing import Literal

from msgspec.structs import replace

from ranking_models.errors import BundleError, InputError
from ranking_models.gates.evidence import Evidence
from ranking_models.manifest import Gate, GateFigures, GateThresholds

Kind = Literal["fp16", "bf16", "rows-fp16", "rows-int8", "int8", "smaller"]
"""What was done to the graph: half precision, bfloat16, embedding rows alone in 16 or in 8 bits,
8 bits throughout, or fewer weights (pruned or distilled)."""

FP16_LARGEST = 65504.0
"""The largest finite half-precision number."""

_ROWS = GateThresholds(
    max_auc_loss=0.0002,
    max_log_loss_gain=0.0002,
    max_difference=2e-3,
    min_top10_overlap=0.99,
    min_top10_overlap_worst=0.9,
    min_kendall_tau=0.99,
)

_THRESHOLDS: dict[Kind, GateThresholds] = {
    "fp16": GateThresholds(
        max_auc_loss=0.0005,
        max_log_loss_gain=0.0005,
        max_difference=2e-3,
        min_top10_overlap=0.995,
        min_top10_overlap_worst=0.9,
        min_kendall_tau=0.995,
        max_activation=FP16_LARGEST,
    ),
    # Rounds eight times as coarsely as half precision (8 bits of a number in place of 11), and has
    # the range of fp32.
    "bf16": GateThresholds(
        max_auc_loss=0.0005,
        max_log_loss_gain=0.0005,
        max_difference=1.6e-2,
        min_top10_overlap=0.98,
        min_top10_overlap_worst=0.8,
        min_kendall_tau=0.98,
    ),
    "rows-fp16": _ROWS,
    # Rows of 256 levels move one score further and must keep the order just as well.
    "rows-int8": replace(_ROWS, max_difference=5e-3),
    "int8": GateThresholds(
        max_auc_loss=0.003,
        max_log_loss_gain=0.005,
        min_top10_overlap=0.90,
        min_top10_overlap_worst=0.7,
        min_kendall_tau=0.85,
    ),
    "smaller": GateThresholds(
        max_auc_loss=0.005,
        max_log_loss_gain=0.01,
        min_top10_overlap=0.85,
        min_kendall_tau=0.7,
        above_baseline=True,
    ),
}


class GateFailed(InputError):
    """A candidate does not rank like its reference and is not published."""

    def __init__(self, what: str, failures: tuple[str, ...]) -> None:
        self.what, self.failures = what, failures
        super().__init__(
            f"{what} does not pass its gate: {'; '.join(failures)}. Nothing was published; "
            "--force publishes it and says so in the manifest"
        )


def thresholds_for(kind: Kind) -> GateThresholds:
    """What a candidate of this kind must keep unless its maker asks for something else.

    They are a few times what sound conversions cost on MovieLens-100K, and
    far below the gain of a network over logistic regression.
    """
    return _THRESHOLDS[kind]


def gate(
    figures: GateFigures, thresholds: GateThresholds, *, reference: str, evidence: Evidence
) -> Gate:
    """The figures with their verdict, as the manifest keeps them.

    Args:
        figures: From `measure`.
        thresholds: From `thresholds_for`, or the user's own.
        reference: ``fp32`` of the same bundle, or another model's name.
        evidence: What was measured on.
    """
    return Gate(
        reference=reference,
        evidence=evidence.words,
        figures=figures,
        thresholds=thresholds,
        failures=judge(figures, thresholds),
    )


def enforce(gate: Gate, *, what: str, force: bool) -> Gate:
    """The gate as it may be published: passed, or marked as forced.

    Args:
        gate: The verdict.
        what: The candidate in the message, such as ``int8-cpu of movielens``.
        force: Whether a failed candidate is to be published all the same.

    Raises:
        GateFailed: it failed and is not forced.
    """
    if gate.passed:
        return gate
    if not force:
        raise GateFailed(what, gate.failures)
    return replace(gate, forced=True)


def check_verdict(gate: Gate, *, what: str) -> None:
    """Refuse a recorded verdict that its own figures and thresholds deny.

    Raises:
        BundleError: it says passed and a threshold is broken, or the other
            way round, or it failed and was published without being forced.
    """
    broken = judge(gate.figures, gate.thresholds)
    if bool(broken) == gate.passed:
        wrong = f"its gate says {'passed' if gate.passed else 'failed'}, its figures "
        wrong += f"say {'; '.join(broken) or 'that no threshold is broken'}"
    elif gate.forced == gate.passed:
        wrong = f"its gate {'passed and is' if gate.passed else 'failed and is not'} marked forced"
    else:
        return
    raise BundleError(what, f"{wrong}; it must not be trusted, export the run again")


def judge(figures: GateFigures, thresholds: GateThresholds) -> tuple[str, ...]:
    """The thresholds that are broken, each as a sentence with figure and threshold.

    By the point values: an interval says how sure a figure is, and one that
    is wide would let everything pass. A figure on its threshold passes.
    """
    return tuple(_failures(figures, thresholds))


def _failures(figures: GateFigures, thresholds: GateThresholds) -> Iterator[str]:
    if figures.not_finite:
        yield f"{figures.not_finite:,} scores are NaN, infinite or outside 0..1, allowed are none"
    change, most = figures.auc_change.value, thresholds.max_auc_loss
    if most is not None and not change >= -most:
        yield f"AUC changed by {change:+.3%} of the reference's, allowed is -{most:.2%}"
    change, most = figures.log_loss_change.value, thresholds.max_log_loss_gain
    if most is not None and not change <= most:
        yield f"log loss changed by {change:+.3%} of the reference's, allowed is +{most:.2%}"
    for value, most, name in (
        (figures.max_difference, thresholds.max_difference, "the largest score difference"),
        (figures.max_activation, thresholds.max_activation, "the largest value inside the graph"),
    ):
        if most is not None and not value <= most:
            yield f"{name} is {value:.6g}, allowed is {most:.6g}"
    for value, least, name in (
        (figures.top10_overlap, thresholds.min_top10_overlap, "the top-10 overlap"),
        (
            figures.top10_overlap_worst,
            thresholds.min_top10_overlap_worst,
            "the top-10 overlap of the worst 5 % of lists",
        ),
        (figures.kendall_tau, thresholds.min_kendall_tau, "Kendall's tau on the first 100"),
    ):
        if least is not None and not value >= least:
            yield f"{name} is {value:.4f}, at least {least:g} is due"
    if thresholds.above_baseline:
        yield from _below_baseline(figures)


def _below_baseline(figures: GateFigures) -> Iterator[str]:
    baseline = figures.baseline_auc
    if baseline is None:
        yield "no logistic regression was measured, which the AUC must not be below"
    elif not figures.auc >= baseline:
        yield f"AUC is {figures.auc:.5f}, logistic regression has {baseline:.5f} on the same rows"
