"""A proof of a GPU as lines for people."""

from collections.abc import Iterator

from service.cli.aligned import aligned
from service.doctor.proof.figures import Proof, Timing
from service.engines.memory import size

Rows = list[tuple[str, ...]]

_TITLES = {
    "build": "Plans",
    "load": "Loading",
    "scores": "Scores",
    "timing": "Times",
    "overlap": "Overlap",
    "residents": "Three models",
    "swap": "Hot swap",
    "onnxruntime_cuda": "ONNX Runtime CUDA",
}


def proof_lines(proof: Proof) -> Iterator[str]:
    """Every section with its outcome and its most important figures."""
    gpu, bundle = proof.gpu, proof.bundle
    capability = ".".join(map(str, gpu.compute_capability))
    yield f"{gpu.name} ({capability}, {size(gpu.memory_bytes)}), CUDA {gpu.driver_cuda}"
    yield f"{proof.stack} {proof.tensorrt or ''}".rstrip() + f", {bundle.model}@{bundle.version}"
    tables = {
        "build": _builds,
        "load": _loads,
        "scores": _scores,
        "timing": _timings,
        "overlap": _overlaps,
        "residents": _residents,
        "swap": _swap,
        "onnxruntime_cuda": _comparison,
    }
    for name, section in proof.sections.items():
        yield ""
        yield f"{_TITLES[name]}: {section.outcome}"
        yield from (f"  {reason}" for reason in section.reasons)
        yield from (f"  left out: {reason}" for reason in section.left_out)
        yield from (f"  {line}" for line in tables[name](proof))


def _builds(proof: Proof) -> Iterator[str]:
    rows: Rows = [("precision", "first s", "second s", "found s", "plan", "timing cache, bytes")]
    for one in proof.build.figures or ():
        caches = (one.timing_cache_first_bytes, one.timing_cache_second_bytes)
        kept = " -> ".join("none" if c is None else f"{c:,}" for c in caches)
        second = _number(one.second_s, 2)
        found = f"{one.found_s:.3f}"
        rows.append(
            (one.precision, f"{one.first_s:.2f}", second, found, size(one.plan_bytes), kept)
        )
    yield from _table(rows)


def _loads(proof: Proof) -> Iterator[str]:
    rows: Rows = [("precision", "load s", "predicted", "measured", "graphs")]
    for one in proof.load.figures or ():
        graphs = f"{one.graphs_captured} of {one.graphs_wanted}"
        predicted, measured = size(one.predicted_bytes), size(one.measured_bytes)
        rows.append((one.precision, f"{one.load_s:.2f}", predicted, measured, graphs))
    yield from _table(rows)


def _scores(proof: Proof) -> Iterator[str]:
    rows: Rows = [("precision", "golden", "allowed", "rows", "max to fp32", "mean", "same graph")]
    for one in proof.scores.figures or ():
        deltas = (one.reference_max, one.reference_mean, one.same_graph_max)
        far, mean, same = (f"{delta:.2g}" for delta in deltas)
        golden = (f"{one.golden_max:.2g}", f"{one.tolerance:.2g}")
        rows.append((one.precision, *golden, str(one.rows), far, mean, same))
    yield from _table(rows)


def _timings(proof: Proof) -> Iterator[str]:
    yield from _times(proof.timing.figures or ())


def _times(timings: tuple[Timing, ...]) -> Iterator[str]:
    rows: Rows = [("precision", "graphs", "slots", "rows", "p50 ms", "p95 ms", "p99 ms", "rows/s")]
    for one in timings:
        graphs, slots = "yes" if one.cuda_graphs else "no", str(one.slots)
        times = (_number(ms, 3) for ms in (one.p50_ms, one.p95_ms, one.p99_ms))
        rate = f"{one.rows_per_s:,.0f}"
        rows.append((one.precision, graphs, slots, str(one.rows), *times, rate))
    yield from _table(rows)


def _overlaps(proof: Proof) -> Iterator[str]:
    rows: Rows = [("precision", "rows", "overlapping", "alone ms", "three together ms")]
    for one in proof.overlap.figures or ():
        share = f"{one.overlapping} of {one.rounds}"
        times = (f"{one.alone_ms:.3f}", f"{one.together_ms:.3f}")
        rows.append((one.precision, str(one.rows), share, *times))
    yield from _table(rows)


def _residents(proof: Proof) -> Iterator[str]:
    if found := proof.residents.figures:
        names = ", ".join(f"{one.precision} {size(one.held_bytes)}" for one in found.models)
        yield f"{names}; {size(found.held_bytes)} of {size(found.limit_bytes)} held"
        yield f"refused: {found.refused}"


def _swap(proof: Proof) -> Iterator[str]:
    if found := proof.swap.figures:
        calls = found.calls_before + found.calls_while_loading + found.calls_after
        yield f"{found.old} to {found.new} in {found.load_s:.2f} s"
        yield f"{calls} calls, {found.calls_while_loading} while loading"
        yield f"{found.failed_calls} failed"
        held = (found.old_bytes, found.both_bytes, found.after_bytes)
        yield f"held before, while both were there, after: {', '.join(map(size, held))}"


def _comparison(proof: Proof) -> Iterator[str]:
    if found := proof.onnxruntime_cuda.figures:
        yield from _times(found.timings)


def _table(rows: Rows) -> Iterator[str]:
    """With its heading, or nothing where there is no row."""
    yield from aligned(rows) if len(rows) > 1 else ()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
