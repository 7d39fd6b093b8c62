"""Gates in a line each: what a person reads of the manifest's proof."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranking_models.manifest import Gate, Interval, ModelManifest


def gates_of(manifest: "ModelManifest") -> Iterable[tuple[str, "Gate"]]:
    """Every gate of a bundle with what it is of: a precision, or the model itself."""
    lineage = manifest.lineage
    if lineage is not None and lineage.gate is not None:
        yield lineage.method, lineage.gate
    for precision, variant in manifest.precisions.items():
        if variant.gate is not None:
            yield precision, variant.gate


def gate_rows(manifest: "ModelManifest") -> Iterable[tuple[str, str, str]]:
    """What, verdict, and figures or a reason; one more row for every broken threshold."""
    for name, gate in gates_of(manifest):
        yield name, f"{verdict(gate)} against {gate.reference}", key_figures(gate)
        for failure in gate.failures:
            yield "", "", f"failed: {failure}"


def verdict(gate: "Gate") -> str:
    """The verdict in a word or two."""
    if gate.passed:
        return "passed"
    return "FAILED, forced" if gate.forced else "FAILED"


def key_figures(gate: "Gate") -> str:
    """The figures that decide, with the intervals of the changes."""
    f = gate.figures
    return (
        f"AUC {_change(f.auc_change)}, log loss {_change(f.log_loss_change)}, "
        f"top 10 {f.top10_overlap:.4f} (worst {f.top10_overlap_worst:.2f}), "
        f"tau {f.kendall_tau:.4f}, score difference at most {f.max_difference:.2g}"
    )


def _change(of: "Interval") -> str:
    return f"{of.value:+.3%} ({of.low:+.3%} to {of.high:+.3%})"
