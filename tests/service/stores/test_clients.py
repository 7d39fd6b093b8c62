import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.cache.opening import score_store
from service.cache.store import StoredEntry
from service.clock import SystemClock
from service.errors import StartupError
from service.settings import CacheSettings, EventSettings, RedisSettings
from service.stores import cache_client, cluster_clients, events_client, place_of, redacted
from tests.support.store_servers import free_port, redis_7
from tests.support.valkey import ValkeyServer

PATIENT = RedisSettings(connect_timeout_s=5.0)
EVENTS = EventSettings(timeout_s=0.05)
FAR_BELOW_RETRIES_S = 1.0
"""With redis-py's default of 10 retries each of these calls takes 4 to 5 seconds."""


async def elapsed_s(call, *errors: type[Exception]) -> float:
    began = time.monotonic()
    with pytest.raises(errors):
        await call
    return time.monotonic() - began


@pytest.mark.parametrize("make", ["cache", "events"])
def test_clients_never_retry(make):
    client = (
        cache_client("redis://h", PATIENT)
        if make == "cache"
        else events_client("redis://h", PATIENT, EVENTS)
    )
    connection = client.connection_pool.make_connection()

    assert connection.retry.get_retries() == 0


async def test_a_frozen_event_server_costs_one_timeout(valkey):
    async with events_client(valkey.url, PATIENT, EVENTS) as client:
        await client.ping()
        valkey.freeze()
        took_s = await elapsed_s(client.ping(), RedisTimeoutError)
        valkey.thaw()

    assert took_s < FAR_BELOW_RETRIES_S


async def test_a_dead_server_costs_one_failed_connection(valkey):
    async with events_client(valkey.url, PATIENT, EVENTS) as client:
        await client.ping()
        valkey.kill()
        took_s = await elapsed_s(client.ping(), RedisConnectionError)

    assert took_s < FAR_BELOW_RETRIES_S


async def test_waiting_for_a_connection_to_the_event_server_is_bounded(valkey):
    async with events_client(valkey.url, PATIENT, EVENTS) as client:
        pool = client.connection_pool
        held = [await pool.get_connection() for _ in range(pool.max_connections)]
        took_s = await elapsed_s(client.ping(), RedisConnectionError)
        for connection in held:
            await pool.release(connection)

    assert took_s < FAR_BELOW_RETRIES_S


@pytest.mark.parametrize("password", ["plain", "p@ss/w:rd#?&%"])
async def test_user_and_password_in_a_url_work(valkey, password):
    async with Redis.from_url(valkey.url) as operator:
        await operator.acl_setuser("podium", enabled=True, passwords=f"+{password}", keys="*")
        await operator.execute_command("ACL SETUSER podium +@all")
    url = valkey.url.replace("unix://", f"unix://podium:{quote(password, safe='')}@")

    async with cache_client(url, PATIENT) as client:
        assert await client.acl_whoami() == "podium"


# --- TLS ---------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A self-signed certificate for localhost with its key, made by openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    both = tmp_path / "localhost.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(both), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([openssl, *command.split(), *names, *files], check=True, capture_output=True)
    both.write_text(both.read_text() + (tmp_path / "cert.pem").read_text())
    return both


@pytest.fixture
async def tls_port(valkey: ValkeyServer, certificate: Path) -> AsyncIterator[int]:
    """A port that ends TLS in front of the server (which is built without)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def end_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_unix_connection(valkey.socket_path)
        await asyncio.gather(pipe(reader, behind[1]), pipe(behind[0], writer))

    server = await asyncio.start_server(end_tls, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_tls_works_and_loads_certificates_once(tls_port, certificate, monkeypatch):
    """Per connection it would take 20-35 ms of the event loop: more than a lookup may take."""
    contexts = []
    make = ssl.create_default_context
    monkeypatch.setattr(
        ssl, "create_default_context", lambda *a, **k: contexts.append(1) or make(*a, **k)
    )
    url = f"rediss://localhost:{tls_port}/0?ssl_ca_certs={quote(str(certificate))}"

    async with cache_client(url, PATIENT) as client:
        assert all(await asyncio.gather(*(client.ping() for _ in range(5))))
        assert len(client.connection_pool._available_connections) == 5

    assert len(contexts) == 1


async def test_tls_refuses_a_server_that_nobody_vouches_for(tls_port):
    async with cache_client(f"rediss://localhost:{tls_port}", PATIENT) as client:
        with pytest.raises(RedisConnectionError, match="certificate"):
            await client.ping()


async def test_certificates_come_from_the_settings_too(tls_port, certificate):
    url = f"rediss://localhost:{tls_port}"
    redis = RedisSettings(
        url=url,
        connect_timeout_s=5.0,
        tls_ca=str(certificate),
        tls_cert=str(certificate),
        tls_key=str(certificate),
    )

    async with cache_client(url, redis) as client, events_client(url, redis, EVENTS) as events:
        assert await client.ping()
        assert await events.ping()


async def test_a_store_over_tls_goes_through_redis_py(tls_port, certificate):
    url = f"rediss://localhost:{tls_port}"
    redis = RedisSettings(url=url, connect_timeout_s=5.0, tls_ca=str(certificate))
    store = score_store(url, cache=CacheSettings(timeout_s=5.0), redis=redis, clock=SystemClock())
    await store.start()
    await store.put([StoredEntry("podium:0:a", b"value", 10.0)])

    assert store.status().client == "redis-py"
    assert (await store.get(["podium:0:a"])).values == (b"value",)
    await store.stop()


async def test_a_server_that_wants_to_know_us_is_shown_our_certificate(certificate):
    files = {name: str(certificate) for name in ("tls_cert_file", "tls_key_file")}
    port = free_port()
    with ValkeyServer(
        binary=redis_7(), tls_port=str(port), tls_ca_cert_file=str(certificate), **files
    ):
        url = f"rediss://localhost:{port}"
        known = RedisSettings(
            url=url, connect_timeout_s=5.0, tls_ca=str(certificate), tls_cert=str(certificate)
        )
        async with cache_client(url, known) as client:
            assert await client.ping()
        stranger = RedisSettings(url=url, connect_timeout_s=5.0, tls_ca=str(certificate))
        async with cache_client(url, stranger) as client:
            with pytest.raises(RedisConnectionError):
                await client.ping()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "rediss://h", "tls_key": "k"}, "tls_key needs tls_cert"),
        ({"url": "redis://h", "tls_ca": "c"}, "there is none"),
        ({"tls_cert": "c"}, "there is none"),
        ({"cluster": True}, "cluster needs url"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given, why):
    with pytest.raises(ValueError, match=why):
        RedisSettings(**given)


# --- messages ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://podium@host", "redis://podium@host"),
        ("redis://:geheim@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://podium:geheim@host:6379/0", "rediss://podium:***@host:6379/0"),
        ("redis://podium:ge/he#im@x@host:6379", "redis://podium:***@host:6379"),
        ("unix://podium:geheim@/run/valkey.sock?db=1", "unix://podium:***@/run/valkey.sock?db=1"),
        ("unix:///run/v.sock?password=geheim&db=1", "unix:///run/v.sock?password=***&db=1"),
        ("redis://host:6379?password=ge@heim", "redis://host:6379?password=***"),
        ("rediss://host?ssl_password=geheim", "rediss://host?ssl_password=***"),
    ],
)
def test_urls_are_shown_without_their_passwords(url, shown):
    assert redacted(url) == shown


@given(st.text(min_size=1))
def test_no_password_is_shown_however_it_is_spelled(password):
    marked = f"<{password}>"

    assert marked not in redacted(f"redis://podium:{marked}@host:6379/0")


@pytest.mark.parametrize(
    "url",
    [
        "http://podium:geheim@host",
        "redis://podium:ge/heim@host:6379",
        "redis://podium:geheim@host:port",
        "redis://podium:geheim@host/0?nonsense=1",
        "redis://podium:geheim@host/0?db=x",
        "rediss://podium:geheim@host?ssl_ca_certs=/nowhere.pem",
        "localhost:6379",
        "redis+cluster://podium:geheim@",
        "redis+cluster://podium:geheim@host/1",
        "redis+cluster://podium:geheim@host:port",
        "redis+sentinel://podium:geheim@host:26379",
        "redis+sentinel://podium:ge/heim@host:26379/shop",
        "redis+nonsense://podium:geheim@host:26379/shop",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_start_in_one_line(url):
    with pytest.raises(StartupError) as refused:
        cluster_clients(url, RedisSettings())

    message = str(refused.value)
    assert message.startswith("redis.url ")
    assert "\n" not in message
    assert "heim" not in message


def test_the_event_url_is_named_by_its_setting():
    with pytest.raises(StartupError, match=r"^redis\.events_url "):
        events_client("http://host", RedisSettings(), EVENTS)


def test_events_are_not_kept_in_a_cluster():
    redis = RedisSettings(url="redis://podium:geheim@host", cluster=True)

    with pytest.raises(StartupError, match=r"set redis\.events_url to one server") as refused:
        events_client("redis://podium:geheim@host", redis, EVENTS)

    assert "geheim" not in str(refused.value)


def test_where_one_server_is_needed_a_cluster_is_refused():
    with pytest.raises(StartupError, match="names a cluster"):
        cache_client("redis+cluster://host", RedisSettings())


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://podium:geheim@h:1/2", ("h", 1, 2)),
        ("unix:///run/v.sock?db=1", ("/run/v.sock", None, 1)),
        ("redis+cluster://a:1,b:2", ("a", 1, 0)),
        ("redis+sentinel://a:1,b:2/shop/3", ("a", 1, 3)),
    ],
)
def test_telemetry_is_told_where_a_url_leads(url, place):
    assert place_of(url, RedisSettings()) == place


def test_nothing_that_finds_a_master_by_sentinel_retries_either():
    client = cache_client("redis+sentinel://a,b/shop", PATIENT)
    pool = client.connection_pool
    sentinels = pool.sentinel_manager.sentinels

    connections = [p.make_connection() for p in (pool, *(s.connection_pool for s in sentinels))]

    assert len(connections) == 3
    assert all(connection.retry.get_retries() == 0 for connection in connections)
