"""A real service with a real cache server that can be harmed."""

import http.client
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, Self

import httpx
import msgspec
from msgspec import Struct
from redis import Redis

from ranking_models.bundle import Bundle, write_bundle
from tests.chaos.proxy import ProxyProcess
from tests.chaos.questions import CANDIDATES, Question, questions
from tests.support.bundles import tiny_contents, with_parts
from tests.support.server import SETTINGS, Server, launched, make_home
from tests.support.store_servers import Cluster, TcpServer, running_cluster
from tests.support.valkey import ValkeyServer, wait_until

SECRET = "chaos-secret-7d1f"
USER = "podium"
GRANTED = "~podium:* resetchannels -@all +get +mget +set +del +ping +info"
_POLL_S = 0.02

SiteKind = Literal["server", "proxied", "cluster", "jumping"]
Mode = Literal["exact", "segment_rescore", "off"]
SURFACES: dict[Mode, str] = {"exact": "default", "segment_rescore": "rescored", "off": "uncached"}
TOP = 5
"""Candidates that the segment's order leaves to be scored exactly."""
Client = Literal["lean", "redis-py"]
CacheState = Literal["well", "not written to", "left alone"]
"""As `/health/ready` says."""


class Options(Struct, frozen=True, kw_only=True):
    """How the service is set up."""

    client: Client = "lean"
    ttl_s: float = 2.0
    """Short, so that entries are written and expire all the time."""
    first_level_ttl_s: float = 0.0
    """0: every request asks the cache server."""
    pool_size: int = 32
    absent: bool = False
    """The cache server is not there when the service starts."""


class Site:
    """The service and its cache server, and the ways to harm the latter."""

    def __init__(self, server: Server, valkey: ValkeyServer) -> None:
        self.server = server
        self.valkey = valkey
        self.proxy: ProxyProcess | None = None
        self.cluster: Cluster | None = None
        self.clock: Path | None = None
        """Says how far the service's clock is ahead."""
        self._admin = Redis(unix_socket_path=str(valkey.socket_path))

    def asked(self, count: int, mode: Mode = "exact") -> list[Question]:
        """Questions for the service's model, for the deployment with this cache mode."""
        bundle = Bundle.open(next((self.server.home / "bundles" / "tiny").iterdir()))
        k = TOP if mode == "segment_rescore" else CANDIDATES
        return questions(bundle, count=count, surface=SURFACES[mode], k=k)

    def admin(self) -> Redis:
        """A client of the cache server that may do everything."""
        return self._admin

    def cache_health(self) -> dict[str, str]:
        """What `/health/ready` says of the cache."""
        reply = self.server.client.get("/health/ready")
        assert reply.status_code == 200, "a failing cache must not turn traffic away"
        health: dict[str, str] = reply.json()["components"]["cache"]
        return health

    @property
    def cache_state(self) -> CacheState:
        return state_of(self.cache_health())

    def failures(self) -> dict[str, int]:
        """What the metrics say that the cache could not do, by reason."""
        page = self.server.client.get("/metrics").text
        found = [line for line in page.splitlines() if line.startswith("podium_cache_failures_")]
        return {
            line.split('reason="')[1].split('"')[0]: int(float(line.split()[-1]))
            for line in found
            if 'reason="' in line
        }

    @property
    def cpu_s(self) -> float:
        """CPU time of the service so far."""
        stat = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / 100  # Linux counts in hundredths, everywhere


def state_of(health: dict[str, str]) -> CacheState:
    """What the health of the cache means."""
    if health["status"] == "ok":
        return "well"
    return "left alone" if health["detail"].startswith("left alone") else "not written to"


class Watch:
    """Looks all the time what `/health/ready` says of the cache; a context that stops."""

    def __init__(self, site: Site) -> None:
        url = httpx.URL(site.server.base_url)
        assert url.port is not None
        # Plainer than httpx, which would take a tenth of a core from what is measured.
        self._connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
        self.changes: list[tuple[float, CacheState]] = []
        """When the cache was first seen in a state, on the monotonic clock."""
        self.alone: list[tuple[float, float]] = []
        """Times in which every look saw it left alone: from the first look to the last."""
        self.refused = 0
        """Looks at which the service wanted no traffic."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def first(self, state: CacheState, *, after_s: float) -> float | None:
        """When it was first seen in a state from a time on; that time if it was so already."""
        before = [seen for at, seen in self.changes if at <= after_s]
        if before and before[-1] == state:
            return after_s
        return next((at for at, seen in self.changes if at > after_s and seen == state), None)

    def _look(self) -> None:
        last = None
        while not self._over.wait(_POLL_S):
            self._connection.request("GET", "/health/ready")
            reply = self._connection.getresponse()
            health = msgspec.json.decode(reply.read())["components"]["cache"]
            self.refused += reply.status != 200
            state, seen_s = state_of(health), time.monotonic()
            if state == "left alone":
                since_s = self.alone.pop()[0] if state == last else seen_s
                self.alone.append((since_s, seen_s))
            if state != last:
                self.changes.append((seen_s, state))
                last = state


@contextmanager
def site(kind: SiteKind, options: Options) -> Iterator[Site]:
    """A site of its own, ready to serve."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="podium-chaos-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        events = stack.enter_context(ValkeyServer(appendonly="yes"))
        cluster, proxy, clock = None, None, None
        if kind == "cluster":
            cluster = stack.enter_context(running_cluster())
            valkey: ValkeyServer = cluster.masters[0]
            url = cluster.url
        else:
            valkey, url = _one_server(directory)
            stack.callback(valkey.stop)
            if not options.absent:
                valkey.start()
        if kind == "proxied":
            proxy = stack.enter_context(ProxyProcess(valkey.socket_path))
            url = proxy.url
        environ, program = {}, ("-m", "service")
        if kind == "jumping":
            clock = directory / "clock"
            clock.write_text("0")
            environ, program = {"JUMPING_CLOCK": str(clock)}, ("-m", "tests.chaos.jumping_clock")
        home = make_home(settings=SETTINGS + _settings(url, events.url, kind, options))
        shutil.rmtree(home / "bundles")
        with_segments = msgspec.structs.replace(with_parts(tiny_contents()), split=None)
        write_bundle(home / "bundles", with_segments)
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        server = stack.enter_context(launched(home, environ=environ, program=program))
        running = Site(server, valkey)
        running.proxy, running.cluster, running.clock = proxy, cluster, clock
        if not options.absent:
            wait_until(
                lambda: running.cache_state == "well", why=lambda: str(running.cache_health())
            )
        yield running


def _one_server(directory: Path) -> tuple[ValkeyServer, str]:
    """A server whose user may do what the cache needs, and nothing else."""
    users = directory / "users.acl"
    users.write_text(f"user default on nopass ~* &* +@all\nuser {USER} on >{SECRET} {GRANTED}\n")
    valkey = TcpServer(aclfile=str(users))
    return valkey, f"redis://{USER}:{SECRET}@127.0.0.1:{valkey.port}"


def _settings(url: str, events_url: str, kind: SiteKind, options: Options) -> str:
    client = "redis-py" if kind == "cluster" else options.client
    return f"""
rescored = "rescored"
[deployments.rescored]
model = "tiny"
cache = "segment_rescore"
rescore_top = {TOP}
[redis]
url = "{url}"
events_url = "{events_url}"
client = "{client}"
pool_size = {options.pool_size}
[cache]
slates = "always"
ttl_s = {options.ttl_s}
first_level_ttl_s = {options.first_level_ttl_s}
"""
