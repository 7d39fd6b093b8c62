"""A typed client of Podium: ordered slates inside a deadline, and the page without them.

`Client` blocks, `AsyncClient` awaits; both ask the same. `events` builds impressions and clicks.
"""

from podium_client import events
from podium_client.asking import PageOptions, RankOptions, Settings
from podium_client.async_client import AsyncClient
from podium_client.client import Client
from podium_client.errors import (
    Conflict,
    DeadlinePassed,
    InvalidRequest,
    NotAllowed,
    NotFound,
    PodiumError,
    RankingRefused,
    Refused,
    ReplyUnreadable,
    ServiceFailed,
    TimedOut,
    Unavailable,
    Unreachable,
)
from podium_client.fallback import Slate
from podium_client.replies import EventsReply, RankReply, Readiness
from podium_client.requests import Candidate, FeedbackEvent, UserRef
from podium_client.retries import RetryPolicy

__all__ = [
    "AsyncClient",
    "Candidate",
    "Client",
    "Conflict",
    "DeadlinePassed",
    "EventsReply",
    "FeedbackEvent",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "PageOptions",
    "PodiumError",
    "RankOptions",
    "RankReply",
    "RankingRefused",
    "Readiness",
    "Refused",
    "ReplyUnreadable",
    "RetryPolicy",
    "ServiceFailed",
    "Settings",
    "Slate",
    "TimedOut",
    "Unavailable",
    "Unreachable",
    "UserRef",
    "events",
]
