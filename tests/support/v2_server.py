"""A server of the Open Inference Protocol (v2 REST, with Triton's binary tensors) on loopback.

It computes with ONNX Runtime, and can be told to misbehave.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import open_session

HEADER = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.float32, "INT32": np.int32}
_NAMES = {"tensor(float)": "FP32", "tensor(int32)": "INT32"}


class V2Server:
    """Serves the fp32 graph of a bundle under one name.

    Attributes:
        metadata, config: What it says of the model; config None: there is no such path.
        requests: Method and path of each, in order.
        headers: Those of each, with names in lower case.
        connections: How many were opened.
        answer: What it does with the next batch: "scores" them, "refuses" ("refuses badly": in
            bytes that are no text), is "silent" until the server ends, "hangs up", or sends
            "rubbish", a "length" that is none, or "doubles".
        keep_alive: Whether a connection outlives an answer; if not, it is closed without a
            word, as after an idle time.
    """

    def __init__(self, bundle: Bundle, model: str) -> None:
        self._session = open_session(bundle.graph("fp32"))
        self.model, self.answer, self.keep_alive = model, "scores", True
        self.metadata: dict[str, Any] = {
            "name": model,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [self._declared(node) for node in self._session.get_inputs()],
            "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
        }
        self.config: dict[str, Any] | None = {"name": model, "max_batch_size": 0}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.ending = threading.Event()
        self.address = ""

    def scores(self, request: dict[str, Any], tensors: bytes) -> np.ndarray:
        """What the graph gives for the inputs of a request."""
        given, at = {}, 0
        for tensor in request["inputs"]:
            size = tensor["parameters"]["binary_data_size"]
            values = np.frombuffer(tensors[at : at + size], _TYPES[tensor["datatype"]])
            given[tensor["name"]] = values.reshape(tensor["shape"])
            at += size
        (scores,) = self._session.run(["score"], given)
        return np.asarray(scores)

    def _declared(self, node: Any) -> dict[str, Any]:
        return {"name": node.name, "datatype": _NAMES[node.type], "shape": [-1, node.shape[1]]}


@contextlib.contextmanager
def v2_server(bundle: Bundle, model: str) -> Iterator[V2Server]:
    """Run a `V2Server` on a free port of loopback."""
    served = V2Server(bundle, model)

    class Handler(_Handler):
        server_of_model = served

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served.address = f"127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            served.ending.set()
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of_model: V2Server

    def setup(self) -> None:
        self.server_of_model.connections += 1
        super().setup()
        self.connection.settimeout(5)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True  # the client gave up, as some tests want it to

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        pass

    def do_GET(self) -> None:
        served = self.server_of_model
        served.requests.append((self.command, self.path))
        served.headers.append({name.lower(): value for name, value in self.headers.items()})
        path = f"/v2/models/{served.model}"
        if self.path == path:
            self._json(200, served.metadata)
        elif self.path == f"{path}/config" and served.config is not None:
            self._json(200, served.config)
        else:
            self._json(404, {"error": f"Request for unknown model: {self.path}"})

    def do_POST(self) -> None:
        served = self.server_of_model
        served.requests.append((self.command, self.path))
        served.headers.append({name.lower(): value for name, value in self.headers.items()})
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers[HEADER])
        match served.answer:
            case "refuses":
                self._json(400, {"error": "no such luck"})
            case "silent":
                served.ending.wait(5)
                self.close_connection = True
            case "hangs up":
                self.close_connection = True
            case "rubbish":
                self._send(200, b"\x00rubbish", {HEADER: "4"})
            case "length":
                self._send(200, b"{}", {HEADER: "-4"})
            case "refuses badly":
                self._send(500, b'{"error":"\xff"}', {})
            case answer:
                scores = served.scores(json.loads(body[:length]), body[length:])
                self._scores(scores if answer == "scores" else scores.astype(np.float64))

    def _scores(self, scores: np.ndarray) -> None:
        raw = scores.tobytes()
        output = {
            "name": "score",
            "datatype": "FP32" if scores.dtype == np.float32 else "FP64",
            "shape": list(scores.shape),
            "parameters": {"binary_data_size": len(raw)},
        }
        head = json.dumps({"model_name": self.server_of_model.model, "outputs": [output]}).encode()
        self._send(200, head + raw, {HEADER: str(len(head))})

    def _json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        # Decided before the client can know the answer, and the test change its mind.
        self.close_connection = self.close_connection or not self.server_of_model.keep_alive
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
