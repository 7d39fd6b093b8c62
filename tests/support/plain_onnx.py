"""A graph run by ONNX Runtime as anybody would, without a line of this project."""

import numpy as np
import numpy.typing as npt
import onnxruntime

from ranking_models.schema import FeatureBatch


def plain_scores(graph: bytes, rows: FeatureBatch) -> npt.NDArray[np.float32]:
    """Scores of the rows, with the runtime's default settings."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    arrays = rows.inputs()
    (scores,) = session.run(None, {v.name: arrays[v.name] for v in session.get_inputs()})
    return scores
