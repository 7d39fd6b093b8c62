"""The same graphs on ONNX Runtime's CUDA provider."""

from ranking_models.bundle import Bundle
from service.clock import Clock
from service.doctor.proof.figures import Comparison, Scores, SessionLoad, Timing
from service.doctor.proof.rig import Effort, batches_of, precisions_of
from service.doctor.proof.scores import compare
from service.doctor.proof.sections import Course, Trouble
from service.doctor.proof.timing import AtOnce, Timer
from service.engines.loading import ONNX_RUNTIME_CUDA, EngineLoader

_SHARE = 0.9
"""Of the time that is left: nothing comes after this."""


def compare_onnx_runtime_cuda(
    loader: EngineLoader,
    bundle: Bundle,
    buckets: tuple[int, ...],
    *,
    clock: Clock,
    effort: Effort,
    course: Course,
    trouble: Trouble,
) -> Comparison | None:
    """Scores and times of every precision that it runs; None where there was nothing to tell."""
    precisions = precisions_of(bundle, ONNX_RUNTIME_CUDA)
    cell_s = min(effort.cell_s, _SHARE * course.left_s / (len(precisions) * len(buckets)))
    timer = Timer(clock, effort, cell_s)
    loads: list[SessionLoad] = []
    scores: list[Scores] = []
    timings: list[Timing] = []

    def one(precision: str) -> None:
        began = clock.now()
        loaded = loader.load(ONNX_RUNTIME_CUDA, bundle, precision, 1)
        loads.append(
            SessionLoad(
                precision=precision,
                load_s=clock.now() - began,
                predicted_bytes=loaded.predicted_bytes,
                measured_bytes=loaded.used_bytes,
            )
        )
        try:
            engine = loaded.engines[0]
            scores.append(compare(engine, bundle, buckets, effort.score_rows, trouble))
            for rows in buckets:
                timings.append(
                    timer.time(
                        [AtOnce(engine)],
                        batches_of(bundle, rows),
                        engine=ONNX_RUNTIME_CUDA,
                        precision=precision,
                        cuda_graphs=False,
                    )
                )
        finally:
            loaded.close()

    for precision in precisions:
        if course.goes_on(precision, trouble):
            course.tell(f"onnxruntime_cuda {precision}")
            trouble.attempt(precision, one, precision)
    if not loads:
        return None
    return Comparison(loads=tuple(loads), scores=tuple(scores), timings=tuple(timings))
