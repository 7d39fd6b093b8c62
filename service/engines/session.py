"""One graph of a bundle in one session of ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from onnxruntime import RunOptions

from ranking_models.errors import first_line
from ranking_models.onnx_runtime import PROVIDER, open_session
from ranking_models.schema import Float32
from service.errors import EngineFailed


class Graph:
    """A graph as a function of arrays by name. One thread calls it at a time.

    Arrays go in as they are. Bound buffers (`io_binding`) save about 4 us of a
    call (``python -m tests.bench engine``), and copying inputs into them and
    scores out of them costs that again; nor does it pay to do without the
    runtime's arena or its memory plans, which stay as they are by default.

    Args:
        file: The ONNX model.
        output: The one result that is wanted.
        threads: Threads of one call; they sleep while there is nothing to do.

    Raises:
        EngineFailed: the runtime cannot load the graph, or would run it elsewhere.
    """

    def __init__(self, file: Path, *, output: str, threads: int) -> None:
        try:
            self._session = open_session(file, threads=threads)
        except Exception as error:  # the binding has a class of its own for every status code
            raise EngineFailed(first_line(error)) from error
        running = self._session.get_providers()
        if running[:1] != [PROVIDER]:
            raise EngineFailed(f"asked for {PROVIDER}, ONNX Runtime runs {', '.join(running)}")
        self._shapes = {node.name: node.shape for node in self._session.get_inputs()}
        self._inputs = tuple(self._shapes)
        self._outputs = [output]
        self._options = RunOptions()  # the runtime would make new ones for every call

    def width(self, name: str) -> int | None:
        """Columns of an input; None if the graph has none of that name."""
        shape = self._shapes.get(name)
        return None if shape is None else int(shape[1])

    def __call__(self, given: Mapping[str, npt.NDArray[Any]]) -> Float32:
        """The output for arrays, of which the graph takes those that it knows.

        Raises:
            EngineFailed: an array is missing or of the wrong shape, or the runtime failed.
        """
        try:
            # C-contiguous arrays are read where they are, without a copy.
            feed = {name: given[name] for name in self._inputs}
        except KeyError as missing:
            raise EngineFailed(f"the graph wants input {missing}, the batch has none") from missing
        try:
            out: Float32 = self._session.run(self._outputs, feed, self._options)[0]
        except Exception as error:
            raise EngineFailed(first_line(error)) from error
        return out
