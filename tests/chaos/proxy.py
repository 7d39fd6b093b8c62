"""A `FaultProxy` in a process of its own, so that it costs neither the load nor the service.

``python -m tests.chaos.proxy SOCKET`` prints its URL, and ends with its
standard input. For every line of JSON, a `Fault`, it prints how many replies it has
spoiled so far.
"""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tests.support.fault_proxy import Fault, FaultProxy


class ProxyProcess:
    """A running proxy; a context that ends it."""

    def __init__(self, server: Path) -> None:
        self._server = server

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", str(self._server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.url = self._answer().decode()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def spoil(self, fault: Fault) -> int:
        """From now on this happens to replies; how many were spoiled until now."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(fault) + b"\n")
        self._process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


async def _main(server: Path) -> None:
    async with FaultProxy(server) as proxy:
        print(proxy.url, flush=True)
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            proxy.fault = msgspec.json.decode(line, type=Fault)
            print(proxy.spoiled, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
