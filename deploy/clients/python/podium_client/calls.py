"""What is sent for each question, and how the answer is read; without sending anything."""

import email.utils
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from podium_client.errors import Refused, ReplyUnreadable, refusal
from podium_client.experiments import DecisionsReply, ExperimentReply, ExperimentsReply, Standing
from podium_client.models import ModelsReply
from podium_client.replies import EventsReply, Problem, RankReply, Readiness
from podium_client.report import Report
from podium_client.requests import ExperimentChange, FeatureValue, FeedbackEvent, RankRequest

T = TypeVar("T")

LONGEST_TIMEOUT_MS = 10_000
"""The longest that a ranking may be told."""
DECISIONS_HEADER = "X-Experiment-Variant"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""How JSON can be none, or not what it should be; the last is nesting without an end."""


class Call(Struct, Generic[T], frozen=True, kw_only=True):
    """One question."""

    method: str
    path: str
    reply: type[T]
    may_repeat: bool
    """Whether to do it twice is as good as to do it once."""
    query: dict[str, str] = {}
    content: Any = None
    """What the body says; None: there is no body."""
    headers: dict[str, str] = {}
    tells_deadline: bool = False
    """Whether the service is told how long it may take."""
    replies_with: tuple[int, ...] = ()
    """Statuses beside success that carry the reply."""

    def told(self, timeout_ms: int) -> "Call[T]":
        """The call as it is sent with so much time left."""
        if isinstance(self.content, RankRequest):
            content = msgspec.structs.replace(self.content, timeout_ms=timeout_ms)
            return msgspec.structs.replace(self, content=content)
        return msgspec.structs.replace(self, query={**self.query, "timeout_ms": str(timeout_ms)})

    def body(self) -> bytes | None:
        return None if self.content is None else msgspec.json.encode(self.content)


def rank(request: RankRequest) -> Call[RankReply]:
    return Call(
        method="POST",
        path="/v1/rank",
        reply=RankReply,
        may_repeat=True,
        content=request,
        tells_deadline=True,
    )


def item_recommendations(
    item_id: str, query: Mapping[str, FeatureValue], external: Mapping[str, str]
) -> Call[RankReply]:
    return Call(
        method="GET",
        path=f"/v1/items/{_quoted(item_id)}/recommendations",
        reply=RankReply,
        may_repeat=True,
        query={name: _text(name, value) for name, value in query.items() if value is not None},
        headers=_decisions(external),
        tells_deadline=True,
    )


def events(reported: Sequence[FeedbackEvent]) -> Call[EventsReply]:
    # Twice is as good as once: every event counts once by its id.
    return Call(
        method="POST", path="/v1/events", reply=EventsReply, may_repeat=True, content=reported
    )


def experiments() -> Call[ExperimentsReply]:
    return _read("/v1/experiments", ExperimentsReply)


def experiment(key: str) -> Call[ExperimentReply]:
    return _read(_of_experiment(key), ExperimentReply)


def report(key: str) -> Call[Report]:
    return _read(f"{_of_experiment(key)}/report", Report, format="json")


def decisions(key: str, limit: int) -> Call[DecisionsReply]:
    return _read(f"{_of_experiment(key)}/decisions", DecisionsReply, limit=str(limit))


def change(key: str, verb: str, wanted: ExperimentChange) -> Call[Standing]:
    return Call(
        method="POST",
        path=f"{_of_experiment(key)}/{verb}",
        reply=Standing,
        may_repeat=False,
        content=wanted,
    )


def models() -> Call[ModelsReply]:
    return _read("/v1/models", ModelsReply)


def health() -> Call[Readiness]:
    return Call(
        method="GET", path="/health/ready", reply=Readiness, may_repeat=True, replies_with=(503,)
    )


def _read(path: str, reply: type[T], **query: str) -> Call[T]:
    return Call(method="GET", path=path, reply=reply, may_repeat=True, query=query)


def _of_experiment(key: str) -> str:
    return f"/v1/experiments/{_quoted(key)}"


def _quoted(step: str) -> str:
    """One step of a path. What is no text at all is for the service to refuse."""
    return quote(step, safe="", errors="surrogatepass")


def _text(name: str, value: FeatureValue) -> str:
    if isinstance(value, list):
        raise ValueError(f"{name}: a page's address cannot hold a list; ask with rank() instead")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _decisions(external: Mapping[str, str]) -> dict[str, str]:
    if not external:
        return {}
    for part in (*external.keys(), *external.values()):
        if not part.isascii() or not part.isprintable() or "," in part or "=" in part:
            raise ValueError(f"external: a header cannot carry {part!r}")
    return {DECISIONS_HEADER: ", ".join(f"{key}={name}" for key, name in external.items())}


def read_reply(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """The answer to a call.

    Raises:
        Refused: the service could not do it.
        ReplyUnreadable: success, but with something else than this call's reply.
    """
    is_success = 200 <= status < 300
    if 300 <= status < 400:
        where = headers.get("location", "nowhere")
        raise ReplyUnreadable(f"{call.method} {call.path}: {status} sends to {where!r}")
    if not is_success and status not in call.replies_with:
        raise _refusal(status, headers, body)
    try:
        return msgspec.json.decode(body, type=call.reply)
    except _UNREADABLE as error:
        if not is_success:
            raise _refusal(status, headers, body) from None
        raise ReplyUnreadable(f"{call.method} {call.path}: {error}") from None


def unsent(call: Call[T], error: UnicodeEncodeError) -> Refused:
    """The error for text that is none, such as half of a character from a broken cookie.

    It stands for the refusal of the service, which no such text can reach.
    """
    problem = Problem(
        type="about:blank",
        title="Bad Request",
        status=400,
        code="invalid_request",
        detail=f"{call.method} {call.path}: {error}",
    )
    return refusal(problem)


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except _UNREADABLE:
        # Not Podium's words: a proxy's, or those of something else at this address.
        said = body[:200].decode(errors="replace").strip()
        problem = Problem(
            type="about:blank",
            title=f"HTTP {status}",
            status=status,
            code=f"http_{status}",
            detail=said or "no explanation",
        )
    after_s = problem.retry_after_s
    if after_s is None or after_s < 0:
        # The body knows fractions; the header is for everybody on the way, and in whole seconds.
        after_s = retry_after_s(headers.get("retry-after"))
        problem = msgspec.structs.replace(problem, retry_after_s=after_s)
    return refusal(problem)


def retry_after_s(header: str | None) -> float | None:
    """Seconds, from a number or a date (RFC 9110, 10.2.3); None where it says neither."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
