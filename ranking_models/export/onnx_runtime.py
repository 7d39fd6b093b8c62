"""A graph as a plain function, scored by ONNX Runtime on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from ranking_models.errors import InputError
from ranking_models.schema import FeatureBatch, Float32

_ERRORS_ONLY = 3


def onnx_runtime_scorer(graph: Path | bytes) -> Callable[[FeatureBatch], Float32]:
    """Load a graph, from a file or serialised; the result scores batches of any size.

    Raises:
        InputError: ONNX Runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            graph, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exception types are of no public module
        where = graph if isinstance(graph, Path) else "the exported graph"
        raise InputError(f"{where}: ONNX Runtime does not load it: {_one_line(error)}") from error
    names = [value.name for value in session.get_inputs()]

    def score(batch: FeatureBatch) -> Float32:
        inputs = batch.inputs()
        try:
            (scores,) = session.run(["score"], {name: inputs[name] for name in names})
        except Exception as error:
            raise InputError(f"ONNX Runtime does not run the graph: {_one_line(error)}") from error
        return np.asarray(scores)

    return score


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
