"""The load of the benchmarks: rank requests, by `service.loadgen.generator`.

``python -m tests.bench generator`` measures what a request costs it.
"""

from msgspec import Struct

from service.errors import StartupError
from service.loadgen import generator
from service.loadgen.generator import Met

MOST_CONNECTIONS = 2_048
LONGEST_S = 120.0


class Load(Struct, frozen=True, kw_only=True):
    """What to send. ``rate_per_s`` None is the closed loop."""

    host: str
    port: int
    path: str
    bodies: list[bytes]
    """Sent in turn."""
    seconds: float
    connections: int
    """Open loop: the most requests under way."""
    rate_per_s: float | None = None
    seed: int = 1
    keep_replies: bool = False
    """Return what was replied, to be checked."""

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= MOST_CONNECTIONS or not 0 < self.seconds <= LONGEST_S:
            raise ValueError(f"at most {MOST_CONNECTIONS} connections and {LONGEST_S:g} s")


def send(load: Load) -> Met:
    """Run the load in a process of its own.

    Raises:
        RuntimeError: the process failed, with its own words.
    """
    head = f"POST {load.path} HTTP/1.1\r\nhost: {load.host}:{load.port}\r\n"
    head += "content-type: application/json\r\ncontent-length: "
    request = generator.Load(
        host=load.host,
        port=load.port,
        requests=[f"{head}{len(body)}\r\n\r\n".encode() + body for body in load.bodies],
        pages=0,
        order=[*range(len(load.bodies))],
        seconds=load.seconds,
        connections=load.connections,
        rate_per_s=load.rate_per_s,
        seed=load.seed,
        keep_replies=load.keep_replies,
    )
    try:
        return generator.send(request)
    except StartupError as error:
        raise RuntimeError(str(error)) from error
