"""What both clients share: their settings, and requests made of the arguments of a call."""

import ssl
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

import httpx
from msgspec import Struct

from podium_client.calls import LONGEST_TIMEOUT_MS, Call, T
from podium_client.deadlines import Deadline
from podium_client.errors import TimedOut
from podium_client.requests import (
    ANONYMOUS,
    Candidate,
    FeatureValue,
    Priority,
    RankRequest,
    UserRef,
)
from podium_client.retries import RetryPolicy
from podium_client.tracing import trace_headers


class RankOptions(TypedDict, total=False):
    """What may be said with a ranking beside its candidates; see `RankRequest`."""

    user: str | UserRef | None
    session_id: str | None
    context: Mapping[str, FeatureValue]
    anchor_item: str | None
    k: int
    """Length of the slate; 20 without it."""
    priority: Priority
    explain: bool
    force: Mapping[str, str]
    external: Mapping[str, str]
    force_token: str | None
    request_id: str | None
    timeout_s: float | None
    """Of the whole call, retries included; the client's `rank_timeout_s` without it."""


class PageOptions(TypedDict, total=False):
    """What may be said with an item page beside its item."""

    user_id: str | None
    session_id: str | None
    context: Mapping[str, FeatureValue]
    k: int
    external: Mapping[str, str]
    force_token: str | None
    timeout_s: float | None


class Settings(Struct, frozen=True, kw_only=True):
    """How a client behaves, whatever it asks."""

    rank_timeout_s: float = 0.1
    """Of rankings and item pages, retries included."""
    timeout_s: float = 5.0
    """Of every other call, retries included."""
    network_allowance_s: float = 0.01
    """What the network and both ends' queues may take of a ranking's time. The service is told
    the rest, so that its late but degraded answer still arrives in time."""
    max_connections: int = 100
    """Calls beyond it wait for a connection, for as long as their deadline allows."""
    max_idle_connections: int = 20
    idle_s: float = 4.0
    """For how long an idle connection is kept; less than the 5 s after which servers close it."""
    retry: RetryPolicy = RetryPolicy()

    def __post_init__(self) -> None:
        if not 0 <= self.network_allowance_s < self.rank_timeout_s:
            raise ValueError("network_allowance_s must be at least 0 and below rank_timeout_s")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")


USUAL = Settings()


def timed(call: Call[T], deadline: Deadline, allowance_s: float) -> Call[T]:
    """The call with what is left for the service in it.

    Raises:
        TimedOut: nothing is left for it.
    """
    left_s = deadline.left_s()
    if left_s <= 0:
        raise TimedOut("the deadline passed before the call could be sent")
    if not call.tells_deadline:
        return call
    timeout_ms = int((left_s - allowance_s) * 1000)
    if timeout_ms < 1:
        raise TimedOut(f"{left_s * 1000:.0f} ms are left, and the network is allowed all of them")
    return call.told(min(timeout_ms, LONGEST_TIMEOUT_MS))


def headers_of(call: Call[T]) -> dict[str, str]:
    """The headers of one attempt."""
    typed = {} if call.content is None else {"Content-Type": "application/json"}
    return {**trace_headers(), **call.headers, **typed}


def lasting_headers(api_key: str | None) -> dict[str, str]:
    """The headers of all calls.

    Raises:
        ValueError: no header can carry the key. It is not told: messages end up in logs.
    """
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key: a header cannot carry it; is a line break at its end?")
    key = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"Accept": "application/json", "User-Agent": f"podium-client/{_version()}", **key}


def address(base_url: str) -> httpx.URL:
    """Where the service is.

    Raises:
        ValueError: nothing can be asked there; it would look like a service that is away.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url {base_url!r}: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError(f"base_url must be such as http://podium:8080, got {base_url!r}")
    return url


def checking(url: httpx.URL, tls: ssl.SSLContext | None) -> ssl.SSLContext | bool:
    """What a client trusts. To read all authorities takes longer than a ranking may."""
    if tls is not None:
        return tls
    # Without TLS there is nothing to check, and httpx follows no redirect to where there is.
    return url.scheme == "https"


def _version() -> str:
    try:
        return version("podium-client")
    except PackageNotFoundError:  # from a source folder
        return "source"


def rank_request(candidates: Sequence[str | Candidate], said: RankOptions) -> RankRequest:
    _check_known(said, RankOptions)
    user = said.get("user")
    return RankRequest(
        candidates=tuple(candidates),
        user=_user(user),
        session_id=said.get("session_id"),
        context=dict(said.get("context", {})),
        anchor_item=said.get("anchor_item"),
        k=said.get("k", 20),
        priority=said.get("priority", "normal"),
        explain=said.get("explain", False),
        force=dict(said.get("force", {})),
        external=dict(said.get("external", {})),
        force_token=said.get("force_token"),
        request_id=said.get("request_id"),
    )


def page_query(said: PageOptions) -> dict[str, FeatureValue]:
    _check_known(said, PageOptions)
    return {
        **said.get("context", {}),
        "k": said.get("k", 20),
        "user_id": said.get("user_id"),
        "session_id": said.get("session_id"),
        "force_token": said.get("force_token"),
    }


def _user(user: str | UserRef | None) -> UserRef:
    if user is None:
        return ANONYMOUS
    return user if isinstance(user, UserRef) else UserRef(id=user)


def _check_known(said: Mapping[str, object], options: type) -> None:
    """Refuse what would be passed over: ``**said`` takes any name."""
    unknown = said.keys() - options.__annotations__.keys()
    if unknown:
        raise TypeError(f"there is no {', '.join(sorted(unknown))} to say with this call")
