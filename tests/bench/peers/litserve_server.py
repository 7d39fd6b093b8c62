"""LitServe with its batching: up to 64 requests or 5 ms, its fast queue."""

import os

import litserve
import msgspec
from fastapi import Response
from ranker import Ranker, Request


class RankAPI(litserve.LitAPI):
    def setup(self, device):
        self._ranker = Ranker()

    def decode_request(self, request):
        return msgspec.convert(request, Request)

    def predict(self, inputs):
        return self._ranker.rank(inputs)

    def encode_response(self, output):
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    api = RankAPI(max_batch_size=64, batch_timeout=0.005, api_path="/v1/rank")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
