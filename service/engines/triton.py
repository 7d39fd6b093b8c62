"""A model on a Triton server as an engine: scoring that scales apart from the service.

The server has one model per graph, named by `model_name`. Its inputs and its
output are those of the bundle's graph: FP32 ``dense`` and INT32 ``ids`` and
``multi_<name>``, each ``[rows, columns]``, and FP32 ``score`` of ``[rows]`` or
``[rows, 1]``. That is checked when the engine is loaded; that it is this very
model is proved by the golden rows, as of every engine.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32
from ranking_models.triton.border import OUTPUT, inputs_of, model_name
from service.engines import EngineInfo
from service.engines.triton_server import ModelMetadata, Tensor, TritonServer
from service.errors import EngineFailed
from service.settings import EngineSettings

ANY = -1


def why_absent(settings: EngineSettings) -> str | None:
    """Why no Triton server can be asked; None if one may."""
    if settings.triton_url is None:
        return "the engine triton needs engine.triton_url: host:port of the server's HTTP endpoint"
    try:
        import tritonclient.http  # noqa: F401
    except ImportError as error:
        return f"the engine triton needs tritonclient ({error}): install podium[triton]"
    return None


class TritonEngine:
    """One model of a server.

    Args:
        server: A connection of its own.
        info: What the engine says it is.
        schema: Of the rows.

    Raises:
        EngineFailed: the server cannot be reached, has no such model, or one that
            takes or gives something else.
    """

    def __init__(self, server: TritonServer, info: EngineInfo, schema: FeatureSchema) -> None:
        import tritonclient.http

        self._client: Any = tritonclient.http
        self._server = server
        self._inputs = _inputs_of(schema)
        _check(server.metadata(), self._inputs)
        most = server.config().max_batch_size or info.max_batch_rows
        self._info = msgspec.structs.replace(info, max_batch_rows=min(most, info.max_batch_rows))

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        output = self._client.InferRequestedOutput(OUTPUT, binary_data=True)
        client = self._client.InferenceServerClient
        body, length = client.generate_request_body(self._tensors(batch), outputs=[output])
        reply = self._server.infer(body, length)
        try:
            result = client.parse_response_body(reply.body, header_length=reply.header_length)
            scores = result.as_numpy(OUTPUT)
        except Exception as error:  # whatever a body that is none leads the client to
            raise EngineFailed(f"triton sent no scores: {error}") from error
        rows = batch.rows
        if scores is None or scores.dtype != np.float32 or scores.size != rows:
            got = "none" if scores is None else f"{scores.dtype} {list(scores.shape)}"
            raise EngineFailed(f"triton sent {got} as scores of {rows} rows")
        return np.array(scores, np.float32).reshape(rows)

    def close(self) -> None:
        self._server.close()

    def _tensors(self, batch: FeatureBatch) -> list[Any]:
        given, rows = batch.inputs(), batch.rows
        tensors = []
        for wanted in self._inputs:
            shape = (rows, *wanted.shape[1:])
            array = given.get(wanted.name)
            if array is None or array.shape != shape:
                got = "missing" if array is None else f"{list(array.shape)}"
                raise EngineFailed(f"input {wanted.name!r} is {got}, not {list(shape)}")
            tensor = self._client.InferInput(wanted.name, list(shape), wanted.datatype)
            try:
                tensors.append(tensor.set_data_from_numpy(array, binary_data=True))
            except self._client.InferenceServerException as error:
                raise EngineFailed(f"input {wanted.name!r}: {error.message()}") from error
        return tensors


def open_triton(
    bundle: Bundle, precision: str, settings: EngineSettings, info: EngineInfo
) -> TritonEngine:
    """A bundle's graph of one precision on the server of `settings.triton_url`.

    Raises:
        EngineFailed: no server is named, the package is missing, or as `TritonEngine`.
    """
    if (reason := why_absent(settings)) or settings.triton_url is None:
        raise EngineFailed(reason or "no server is named")
    model = model_name(bundle.manifest, precision)
    server = TritonServer(
        settings.triton_url, model, settings.max_execution_s, key=settings.triton_key
    )
    try:
        return TritonEngine(server, info, bundle.schema)
    except EngineFailed as failure:
        server.close()
        raise EngineFailed(f"model {model}: {failure}") from failure


def _inputs_of(schema: FeatureSchema) -> tuple[Tensor, ...]:
    return tuple(Tensor(t.name, t.datatype, (ANY, t.width)) for t in inputs_of(schema))


def _check(metadata: ModelMetadata, inputs: Sequence[Tensor]) -> None:
    """Refuse a model with another border than the bundle's graph."""
    if {*metadata.inputs} != {*inputs}:
        raise EngineFailed(f"it takes {_listed(metadata.inputs)}, not {_listed(inputs)}")
    scores = [tensor for tensor in metadata.outputs if tensor.name == OUTPUT]
    if not scores or scores[0].datatype != "FP32" or scores[0].shape not in ((ANY,), (ANY, 1)):
        wanted = Tensor(OUTPUT, "FP32", (ANY,))
        raise EngineFailed(f"it gives {_listed(metadata.outputs)}, not {_listed([wanted])}")


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{t.name} {t.datatype}{list(t.shape)}" for t in tensors) or "nothing"
