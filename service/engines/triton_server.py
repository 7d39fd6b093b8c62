"""One connection to a Triton server: what it says of a model, and its answers, within a time.

`tritonclient` writes and reads the tensors, the standard library carries them.
The client's own transport does not suit an engine: its sockets belong to the
thread that opened them, while an engine is loaded on one thread and called on
another; and it sends a request again when a connection breaks, so that nobody
knows how long a call takes.
"""

import http.client
import select
import time
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from service.errors import EngineFailed
from service.telemetry import outgoing_call

T = TypeVar("T")

CHUNK_BYTES = 1 << 16
HEADER_LENGTH = "Inference-Header-Content-Length"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""How JSON can be none, or not what it should be; the last is nesting without an end."""
_NO_ACCESS = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


class Tensor(Struct, frozen=True):
    """An input or output as the server declares it."""

    name: str
    datatype: str
    """FP32, INT32 and so on."""
    shape: tuple[int, ...]
    """-1 where any length will do."""


class ModelMetadata(Struct, frozen=True):
    """What a model takes and gives; the server says more, which nobody here needs."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class ModelConfig(Struct, frozen=True):
    """How the server runs a model."""

    max_batch_size: int = 0
    """Rows of one call; 0: the model takes any number, and the server does not batch."""


class Reply(Struct, frozen=True):
    """A body, and how much of it is JSON when tensors follow."""

    body: bytes
    header_length: int | None


class _Problem(Struct, frozen=True):
    error: str


class _NotThere(EngineFailed):
    """The server knows no such path."""


class TritonServer:
    """Requests about one model over one connection, which is made anew when it is broken.

    One thread calls it at a time, and any thread may. No request is sent twice.

    Args:
        address: ``host:port`` of the HTTP endpoint.
        model: Its name on the server.
        timeout_s: For a whole request: connecting, sending and the reply.
        key: API key; None: the server asks for none.

    Raises:
        EngineFailed: it is no address.
    """

    def __init__(
        self, address: str, model: str, timeout_s: float, *, key: str | None = None
    ) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._access = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._model = f"/v2/models/{quote(model, safe='')}"
        try:
            parts = urlsplit(f"//{address}")
            self._http = http.client.HTTPConnection(parts.hostname or "", parts.port)
        except ValueError as error:
            raise EngineFailed(f"triton at {address}: {error}") from error

    def metadata(self) -> ModelMetadata:
        """What the model takes and gives.

        Raises:
            EngineFailed: the server cannot be reached, or has no such model.
        """
        return self._read("", ModelMetadata)

    def config(self) -> ModelConfig:
        """How the model runs; of a server that does not say, nothing."""
        try:
            return self._read("/config", ModelConfig)
        except _NotThere:
            return ModelConfig()

    def infer(self, body: bytes, header_length: int | None) -> Reply:
        """One batch.

        Args:
            body: JSON, then the tensors.
            header_length: Bytes of the JSON; None: there is nothing else.

        Raises:
            EngineFailed: the server cannot be reached, is too slow, or refuses.
        """
        headers = {} if header_length is None else {HEADER_LENGTH: str(header_length)}
        return self._request("POST", "/infer", body, headers)

    def close(self) -> None:
        """Close the connection; a later request opens another one."""
        self._http.close()

    def _read(self, path: str, kind: type[T]) -> T:
        """What the server says of the model."""
        try:
            return msgspec.json.decode(self._request("GET", path).body, type=kind)
        except _UNREADABLE as error:
            raise EngineFailed(f"triton at {self._address}: {error}") from error

    def _request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        ends_at = time.monotonic() + self._timeout_s
        target = self._model + path
        try:
            with outgoing_call(method, self._http.host, self._http.port, target) as call:
                self._connect(ends_at)
                said = {**self._access, **(headers or {}), **call.headers}
                self._http.request(method, target, body, said)
                self._wait_until(ends_at)
                response = self._http.getresponse()
                call.status = response.status
                content = bytearray()
                while part := response.read(CHUNK_BYTES):
                    content += part
                    self._wait_until(ends_at)
        except (OSError, http.client.HTTPException) as error:
            self.close()  # half a reply may be in it
            raise EngineFailed(f"triton at {self._address}: {_words(error)}") from error
        if response.status != http.client.OK:
            raise self._refusal(response.status, bytes(content))
        length = response.getheader(HEADER_LENGTH)
        if length and not length.isdecimal():
            raise EngineFailed(f"triton at {self._address}: {HEADER_LENGTH} is {length[:40]!r}")
        return Reply(bytes(content), int(length) if length else None)

    def _connect(self, ends_at: float) -> None:
        """Have an open connection: the server may have closed it while nobody asked."""
        connection = self._http
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            self.close()
        if connection.sock is None:
            connection.timeout = self._timeout_s
            connection.connect()
        self._wait_until(ends_at)

    def _wait_until(self, ends_at: float) -> None:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self._http.sock is not None:  # none: the server closes after this reply
            self._http.sock.settimeout(left)

    def _refusal(self, status: int, content: bytes) -> EngineFailed:
        try:
            said = msgspec.json.decode(content, type=_Problem).error
        except _UNREADABLE:
            said = "without a word"
        kind = _NotThere if status == http.client.NOT_FOUND else EngineFailed
        where = " (its key is engine.triton_key)" if status in _NO_ACCESS else ""
        return kind(f"triton at {self._address} answers {status}: {said}{where}")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
