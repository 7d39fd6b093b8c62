"""The service that the tests ask: the one at ``PODIUM_URL``, else one of this repository."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import podium_client
import pytest
from podium_client import Settings


@pytest.fixture(scope="session")
def base_url():
    if given := os.environ.get("PODIUM_URL"):
        yield given
        return
    from tests.support.server import EXPERIMENTS, serving

    with serving(experiments=EXPERIMENTS) as server:
        yield server.base_url


@pytest.fixture
def client(base_url):
    with podium_client.Client(
        base_url, settings=Settings(rank_timeout_s=10.0, timeout_s=10.0)
    ) as client:
        yield client


class Peer:
    """What is at an address instead of Podium: each connection gets the next of its answers.

    After an answer the connection is closed, unless it is kept; None is silence.
    """

    def __init__(self, *answers: bytes | None, keeps: bool = False) -> None:
        self._answers = list(answers)
        self._keeps = keeps
        self.requests: list[bytes] = []
        """What came, one per connection."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody is at the address any more."""
        for connection in (self._listener, *self._held):
            with contextlib.suppress(OSError):  # closing alone does not wake who waits
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join()

    def _serve(self) -> None:
        # A client that gives up, or the end of the test, may come at any moment.
        with contextlib.suppress(OSError):
            for answer in self._answers:
                connection, _ = self._listener.accept()
                self._held.append(connection)
                self.requests.append(_request(connection))
                if answer is not None:
                    connection.sendall(answer)
                    if not self._keeps:
                        connection.close()
        # Whoever comes now would be let in by the system and wait.
        self._listener.close()


class Peers:
    """Makes peers, and closes them."""

    def __init__(self) -> None:
        self.made: list[Peer] = []

    def __call__(self, *answers: bytes | None, keeps: bool = False) -> Peer:
        self.made.append(Peer(*answers, keeps=keeps))
        return self.made[-1]


@pytest.fixture
def peer() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    for one in peers.made:
        one.close()


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    ]
    while len(body) < sum(lengths):
        body += _more(connection)
    return head + b"\r\n\r\n" + body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError("the client has left")
    return data
