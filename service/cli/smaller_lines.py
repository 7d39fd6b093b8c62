"""A smaller model beside the one it was made from: what a person reads."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.cli.aligned import aligned
from service.cli.answers import print_json, print_lines
from service.cli.export_progress import drawn_export
from service.cli.gate_lines import key_figures, verdict
from service.cli.run_answer import run_answer
from service.cli.training_progress import drawn_progress

if TYPE_CHECKING:
    from ranking_models.compression import Origin
    from ranking_models.run import TrainedRun


def judged_and_saved(origin: "Origin", run: "TrainedRun", *, force: bool, as_json: bool) -> None:
    """Hold a smaller run against its origin, say how it is, and save it if it may be.

    Raises:
        GateFailed: it fails its gate and is not forced; nothing is written.
        InputError: it cannot be written.
    """
    from ranking_models.compression import baseline_auc, proven
    from ranking_models.gates import enforce
    from ranking_models.run import save_run

    with drawn_progress(sys.stderr) as training:
        baseline = baseline_auc(origin, training)
    with drawn_export(sys.stderr) as bars:
        bars.begin("measuring the gate")
        run = proven(origin, run, baseline=baseline, progress=bars.step)
    if not as_json:
        print_lines(smaller_lines(origin.run, run))
    assert run.lineage is not None
    assert run.lineage.gate is not None
    gate = enforce(run.lineage.gate, what=run.name, force=force)
    save_run(replace(run, lineage=replace(run.lineage, gate=gate)), force=force)
    if as_json:
        return print_json({**run_answer(run), "parent": run_answer(origin.run), "gate": gate})
    print(f"wrote {run.directory} ({run.architecture.name})")
    return print(f"next: podium export --run {run.directory}{' --force' * (not gate.passed)}")


def smaller_lines(parent: "TrainedRun", run: "TrainedRun") -> Iterator[str]:
    """Sizes, quality and the gate of a run that `proven` has judged."""
    assert run.lineage is not None
    gate = run.lineage.gate
    assert gate is not None
    rows = [
        ("", parent.name, run.name),
        ("parameters", _count(parent), _count(run)),
        *_matrices(parent, run),
        ("AUC", f"{parent.quality.auc:.4f}", f"{run.quality.auc:.4f}"),
        ("log loss", f"{parent.quality.log_loss:.4f}", f"{run.quality.log_loss:.4f}"),
    ]
    yield from (f"  {line}" for line in aligned(rows))
    yield f"  gate {verdict(gate)} on {gate.evidence}"
    yield f"    {key_figures(gate)}"
    yield f"    AUC {gate.figures.auc:.5f}, logistic regression {gate.figures.baseline_auc:.5f}"
    for failure in gate.failures:
        yield f"    failed: {failure}"


def _count(run: "TrainedRun") -> str:
    return f"{sum(weights.size for weights in run.weights.values()):,}"


def _matrices(parent: "TrainedRun", run: "TrainedRun") -> Iterator[tuple[str, str, str]]:
    """The matrices of either that the other has not, or not in that size."""
    for name in dict.fromkeys((*parent.weights, *run.weights)):
        before, after = _shape(parent, name), _shape(run, name)
        if before != after:
            yield name.removeprefix("body."), before, after


def _shape(run: "TrainedRun", name: str) -> str:
    """Such as 128 x 64; nothing where it has no such matrix."""
    weights = run.weights.get(name)
    if weights is None or weights.ndim < 2:
        return ""
    return " x ".join(str(size) for size in weights.shape)
