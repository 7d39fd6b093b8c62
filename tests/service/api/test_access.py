"""Keys and scopes: who may call what."""

import hashlib

import pytest
from litestar.testing import RequestFactory

from service.api.access import Access
from service.errors import Forbidden, Unauthorised
from service.settings import ApiKey, AuthSettings


def request(*, key=None, client="127.0.0.1", **headers):
    if key:
        headers["authorization"] = f"Bearer {key}"
    built = RequestFactory().get("/", headers=headers)
    built.scope["client"] = (client, 5000)
    return built


def access(*scopes):
    digest = hashlib.sha256(b"secret").hexdigest()
    return Access(AuthSettings(keys=(ApiKey(name="backend", sha256=digest, scopes=scopes),)))


def test_without_keys_everyone_may_rank_and_only_loopback_may_force():
    free = Access(AuthSettings())

    free.require(request(client="10.1.2.3"), "rank")
    free.require(request(client="127.0.0.1"), "admin")
    free.require(request(client="::1"), "admin")
    with pytest.raises(Forbidden, match="loopback"):
        free.require(request(client="10.1.2.3"), "admin")
    with pytest.raises(Forbidden):
        free.require(request(client="testclient"), "admin")


@pytest.mark.parametrize(
    "header",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"X-Forwarded-For": ""},
        {"forwarded": "for=127.0.0.1"},
        {"x-forwarded-proto": "http"},
        {"x-forwarded-host": "podium.example"},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
    ],
)
def test_behind_a_proxy_nobody_is_loopback(header):
    """A proxy on the same machine makes strangers look local, and headers can be made up."""
    free = Access(AuthSettings())

    with pytest.raises(Forbidden, match="direct loopback"):
        free.require(request(client="127.0.0.1", **header), "admin")
    free.require(request(client="127.0.0.1", **header), "rank")


def test_a_key_may_do_what_its_scopes_say():
    access("rank").require(request(key="secret"), "rank")
    with pytest.raises(Forbidden, match="'admin'"):
        access("rank").require(request(key="secret"), "admin")


@pytest.mark.parametrize("key", [None, "wrong", "secre", "secret2"])
def test_with_keys_nobody_passes_without_one_not_even_loopback(key):
    with pytest.raises(Unauthorised):
        access("rank", "admin").require(request(key=key), "rank")


def test_who_changes_something_is_known_by_the_name_of_the_key():
    assert access("admin").author(request(key="secret"), "admin") == "key:backend"
    assert Access(AuthSettings()).author(request(), "admin") == "loopback"
    with pytest.raises(Forbidden):
        access("read").author(request(key="secret"), "admin")
    with pytest.raises(Forbidden):
        Access(AuthSettings()).author(request(client="10.1.2.3"), "admin")
