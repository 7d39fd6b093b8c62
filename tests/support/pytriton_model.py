"""One graph on a real Triton server; run by the Python that PyTriton is installed in.

    python pytriton_model.py GRAPH MODEL PORT ROWS

Serves until it is terminated. Triton of this wheel has the Python backend
alone, so ONNX Runtime computes in a process beside it.
"""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32}


def main(graph, model, port, rows):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    @batch
    def score(**given):
        (scores,) = session.run(["score"], given)
        return {"score": scores[:, None]}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        grpc_address="127.0.0.1",
        grpc_port=port + 1,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=model,
            infer_func=score,
            inputs=[
                Tensor(name=node.name, dtype=TYPES[node.type], shape=(node.shape[1],))
                for node in session.get_inputs()
            ],
            outputs=[Tensor(name="score", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=rows),
        )
        triton.serve()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
