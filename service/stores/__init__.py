"""Redis and Valkey: clients that fail fast, checks of external servers, embedded servers."""

from service.stores.address import address_of
from service.stores.attached import AttachedStores, Stores, down_bits
from service.stores.checks import cache_server_problems, events_server_problems
from service.stores.clients import cache_client, events_client, redacted
from service.stores.embedded import EmbeddedStores, embedded_stores
from service.stores.server import ServerState, ServerStatus

__all__ = [
    "AttachedStores",
    "EmbeddedStores",
    "ServerState",
    "ServerStatus",
    "Stores",
    "address_of",
    "cache_client",
    "cache_server_problems",
    "down_bits",
    "embedded_stores",
    "events_client",
    "events_server_problems",
    "redacted",
]
