"""The graph beside this file as a model of Triton's Python backend; run by that backend.

Every batch is noted in the file that TRITON_SEEN names: how many requests it
has, and the inputs of the first.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["TRITON_SITE_PACKAGES"])  # the backend's own interpreter has none

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, args):
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.names = [node.name for node in self.session.get_inputs()]

    def execute(self, requests):
        given = [self.inputs_of(request) for request in requests]
        with Path(os.environ["TRITON_SEEN"]).open("a") as seen:
            first = {name: values.tolist() for name, values in given[0].items()}
            seen.write(json.dumps([len(requests), first]) + "\n")
        return [self.answer(inputs) for inputs in given]

    def inputs_of(self, request):
        tensors = {n: backend.get_input_tensor_by_name(request, n) for n in self.names}
        return {name: tensor.as_numpy() for name, tensor in tensors.items()}

    def answer(self, inputs):
        (scores,) = self.session.run(["score"], inputs)
        return backend.InferenceResponse([backend.Tensor("score", scores)])
