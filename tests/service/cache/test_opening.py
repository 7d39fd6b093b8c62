"""Which client talks to the servers of a URL."""

import pytest

from service.cache.opening import score_store
from service.clock import SystemClock
from service.errors import StartupError
from service.settings import CacheSettings, RedisSettings

ONE = ["redis://h", "redis://u:geheim@h:1/2", "unix:///run/v.sock?db=1"]
OTHER = [
    "rediss://u:geheim@h",
    "redis://u:geheim@h?socket_keepalive=1",
    "redis+sentinel://u:geheim@h/shop",
    "redis+cluster://u:geheim@h,i",
]


def client_of(url: str, **settings: object) -> str:
    redis = RedisSettings(**settings)
    store = score_store(url, cache=CacheSettings(), redis=redis, clock=SystemClock())
    return store.status().client


@pytest.mark.parametrize("url", ONE)
def test_one_server_without_tls_gets_the_lean_client_unless_told_otherwise(url):
    assert client_of(url) == "lean"
    assert client_of(url, client="lean") == "lean"
    assert client_of(url, client="redis-py") == "redis-py"


@pytest.mark.parametrize("url", OTHER)
def test_all_else_is_for_redis_py(url):
    assert client_of(url) == "redis-py"
    with pytest.raises(StartupError, match=r'set redis\.client to "auto"') as refused:
        client_of(url, client="lean")
    assert "geheim" not in str(refused.value)


def test_a_cluster_may_be_told_by_a_setting():
    redis = RedisSettings(url="redis://h:7001", cluster=True)
    store = score_store("redis://h:7001", cache=CacheSettings(), redis=redis, clock=SystemClock())

    assert store.status().client == "redis-py"


@pytest.mark.parametrize("url", ["http://h", "redis://u:geheim@h:port", "redis://h/0?nonsense=1"])
@pytest.mark.parametrize("client", ["auto", "redis-py"])
def test_what_is_no_url_is_refused_whoever_would_talk(url, client):
    with pytest.raises(StartupError, match=r"^redis\.url ") as refused:
        client_of(url, client=client)
    assert "geheim" not in str(refused.value)
