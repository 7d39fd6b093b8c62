"""What people ask of a cluster: all of its primaries answer, as a user with few rights."""

import pytest

from service.settings import RedisSettings
from service.warming.opening import open_cache_server
from tests.support.store_servers import expect_ok, running_cluster

RIGHTS = (  # as deploy/settings.example.toml has them
    "~podium:* -@all +get +mget +set +del +ping +select +info +cluster|slots +asking "
    "+incrby +pttl +dbsize +scan +command"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url():
    with running_cluster() as cluster:
        for server in cluster.servers:
            expect_ok(server, "ACL", "SETUSER", "podium", "on", ">geheim", *RIGHTS.split())
        yield cluster.url.replace("://", "://podium:geheim@")


async def test_a_cluster_is_purged_counted_and_summed_up(url):
    async with open_cache_server(url, RedisSettings(connect_timeout_s=2.0)) as server:
        epoch = await server.purge()
        for number in range(30):
            await server.keep(f"podium:{epoch}:h:R:{number}", b"value", 100)

        counted, figures = await server.count(epoch), await server.figures()

        assert counted.slates == 30
        assert figures.nodes == 3
        assert figures.keys >= 31
        assert (await server.held(f"podium:{epoch}:h:R:7")).value == b"value"
