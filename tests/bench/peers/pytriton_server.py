"""PyTriton with Triton's batching: up to 64 requests or 5 ms; bodies are KServe v2 JSON.

Candidate lists of different lengths cannot be one batch's tensor, so the
request travels as text: one BYTES element in, one out.
"""

import os

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from ranker import Ranker, decode

RANKER = Ranker()


@batch
def rank(request):
    slates = RANKER.rank([decode(text) for (text,) in request.tolist()])
    return {"slate": np.array([[slate] for slate in slates], dtype=object)}


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="ranker",
            infer_func=rank,
            inputs=[Tensor(name="request", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="slate", dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=5_000)
            ),
        )
        triton.serve()
