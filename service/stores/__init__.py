"""Redis and Valkey: clients that fail fast, checks of external servers, embedded servers."""

from service.stores.address import address_of, place_of
from service.stores.attached import AttachedStores, Stores, down_bits
from service.stores.checks import (
    cache_problems,
    cache_server_problems,
    events_server_problems,
)
from service.stores.clients import cache_client, cluster_clients, events_client, node_client
from service.stores.embedded import EmbeddedStores, embedded_stores
from service.stores.names import connected
from service.stores.replies import ReplyBounds
from service.stores.server import ServerState, ServerStatus
from service.stores.url import StoreUrl, redacted, store_url

__all__ = [
    "AttachedStores",
    "EmbeddedStores",
    "ReplyBounds",
    "ServerState",
    "ServerStatus",
    "StoreUrl",
    "Stores",
    "address_of",
    "cache_client",
    "cache_problems",
    "cache_server_problems",
    "cluster_clients",
    "connected",
    "down_bits",
    "embedded_stores",
    "events_client",
    "events_server_problems",
    "node_client",
    "place_of",
    "redacted",
    "store_url",
]
