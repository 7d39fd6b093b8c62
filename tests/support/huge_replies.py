"""A cache server whose replies would fill the memory of who reads them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

HEADS = [b"*100000000\r\n", b"*1000", b"%100000000\r\n", b"$536870911\r\n"]
"""hiredis makes room for all parts of a reply at once: 800 MB for twelve bytes."""


def huge_reply(
    head: bytes,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Answers the first commands with such a head, and what belongs to it until the client goes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(head)
        if head.endswith(b"1000"):  # in two parts
            await asyncio.sleep(0.01)
            writer.write(b"00000\r\n")
        with contextlib.suppress(ConnectionError):
            while head.startswith(b"$"):
                writer.write(bytes(1_000_000))
                await writer.drain()
            await reader.read()
        writer.close()

    return serve
