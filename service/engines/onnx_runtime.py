"""ONNX Runtime as an engine, on the CPU: the last resort of a chain, for it works everywhere."""

from pathlib import Path

from ranking_models.onnx_runtime import PROVIDER, open_session
from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo
from service.errors import EngineFailed

OUTPUT = "score"


class OnnxRuntimeEngine:
    """One session of one graph.

    Args:
        graph: The ONNX file.
        info: What the engine says it is.
        threads: Threads of one call; they sleep while there is nothing to do.

    Raises:
        EngineFailed: the runtime cannot load the graph, or would run it elsewhere.
    """

    def __init__(self, graph: Path, *, info: EngineInfo, threads: int) -> None:
        self._info = info
        try:
            self._session = open_session(graph, threads=threads)
        except Exception as error:  # the binding has a class of its own for every status code
            raise EngineFailed(_first_line(error)) from error
        running = self._session.get_providers()
        if running[:1] != [PROVIDER]:
            raise EngineFailed(f"asked for {PROVIDER}, ONNX Runtime runs {', '.join(running)}")
        self._inputs = tuple(node.name for node in self._session.get_inputs())

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        given = batch.inputs()
        try:
            # Arrays as FeatureBatch promises them are read where they are, without a copy.
            feed = {name: given[name] for name in self._inputs}
        except KeyError as missing:
            raise EngineFailed(f"the graph wants input {missing}, the batch has none") from missing
        try:
            scores: Float32 = self._session.run([OUTPUT], feed)[0]
        except Exception as error:
            raise EngineFailed(_first_line(error)) from error
        return scores


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
