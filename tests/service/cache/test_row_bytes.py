"""What a row takes in a real server, by its own account; the bench measures 100,000 of them."""

import numpy as np
import pytest
from redis import Redis

from ranking_models.schema import FeatureBatch
from service.cache.row_codec import encode_rows
from service.cache.row_keys import row_space
from tests.support.store_servers import redis_7
from tests.support.valkey import ValkeyServer

MOST_BYTES = 220


@pytest.mark.parametrize("binary", [lambda: None, redis_7], ids=["embedded", "redis-7"])
def test_a_row_of_sixteen_segments_takes_at_most_220_bytes(binary):
    context = FeatureBatch(dense=np.zeros((1, 2), np.float32), ids=np.ones((1, 3), np.int32))
    space = row_space(score_hash="0123456789abcdef" * 4, epoch=12, context=context, arm="e:a")
    positions = np.arange(999_990, 1_000_010)
    values = encode_rows(
        space.tags(positions),
        np.zeros((len(positions), 16), np.uint16),
        created_s=1.7e9,
        computed_s=0.001,
    )
    with (
        ValkeyServer(binary=binary()) as server,
        Redis(unix_socket_path=str(server.socket_path)) as client,
    ):
        for position, value in zip(positions.tolist(), values, strict=True):
            client.set(space.key(position), value, px=900_000)
        taken = [client.memory_usage(space.key(position)) for position in positions.tolist()]

    assert max(taken) <= MOST_BYTES
