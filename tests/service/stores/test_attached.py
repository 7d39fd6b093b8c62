"""A worker sees its parent's servers as they are, without touching them."""

from service.settings import RedisSettings
from service.stores import AttachedStores, EmbeddedStores, ServerStatus, down_bits


class Stores:
    """Servers in the given states."""

    cache_url = events_url = ""

    def __init__(self, *states):
        self._states = states

    def status(self):
        return tuple(ServerStatus(name="s", state=state) for state in self._states)


def embedded(tmp_path, **redis):
    return EmbeddedStores(tmp_path, redis=RedisSettings(**redis), max_memory_mb=1)


def test_it_names_the_servers_that_the_parent_says_are_down(tmp_path):
    parents = embedded(tmp_path)
    down = 0
    seen = AttachedStores(embedded(tmp_path), lambda: down)
    assert (seen.cache_url, seen.events_url) == (parents.cache_url, parents.events_url)
    assert [server.state for server in seen.status()] == ["attached", "attached"]

    down = down_bits(Stores("running", "down"))

    assert [(s.name, s.state) for s in seen.status()] == [("cache", "attached"), ("events", "down")]
    assert not list(tmp_path.iterdir())


def test_servers_of_the_users_own_are_not_its_business(tmp_path):
    seen = AttachedStores(embedded(tmp_path, url="redis://far"), lambda: 0)

    assert seen.status() == ()
    assert seen.events_url == "redis://far"


def test_every_server_has_a_bit_of_its_own():
    assert down_bits(Stores("running", "attached")) == 0
    assert down_bits(Stores("down", "running")) == 1
    assert down_bits(Stores("down", "down")) == 3
