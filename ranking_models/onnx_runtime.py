"""Graphs scored by ONNX Runtime on the CPU: how a session is set up, and a graph as a function."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from ranking_models.errors import InputError
from ranking_models.schema import FeatureBatch, Float32

PROVIDER = "CPUExecutionProvider"
FATAL = 4
"""Log severity. An error is raised with its text; a second copy on stderr helps nobody."""


def open_session(graph: Path | bytes, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """Load a graph, from a file or serialised, as proving and serving both do.

    Args:
        graph: The ONNX model.
        threads: Threads of one call; they sleep while there is nothing to do.

    Raises:
        Exception: the runtime refuses the graph; it has a class of its own,
            of no public module, for every status code.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that spin while they wait take the cores from the event loop and other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = FATAL
    return onnxruntime.InferenceSession(graph, options, providers=[PROVIDER])


def onnx_runtime_scorer(graph: Path | bytes) -> Callable[[FeatureBatch], Float32]:
    """A graph as a plain function that scores batches of any size.

    Raises:
        InputError: ONNX Runtime refuses the graph.
    """
    try:
        session = open_session(graph)
    except Exception as error:
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
