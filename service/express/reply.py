"""What the express lane sends back: slates and problems, as the route does."""

from typing import Final

import msgspec
from msgspec import Struct

from service.api.problems import MEDIA_TYPE, problem_of, retry_after, told_of_defect
from service.errors import RankingError
from service.messages import RankRequest
from service.ranker import Ranked
from service.telemetry import note_failure

_encode = msgspec.json.Encoder().encode
SLATE_FIELDS: Final = b"content-type: application/json\r\ncontent-length: %d\r\n"
_PROBLEM = b"content-type: %b\r\ncontent-length: %%d\r\n" % MEDIA_TYPE.encode()


class Reply(Struct, frozen=True):
    """What goes back."""

    status: int
    headers: bytes
    """Each field ends with CRLF."""
    body: bytes
    ranked: Ranked | None = None
    """What is left to do after the reply."""


def slate(ranked: Ranked) -> Reply:
    """The reply with a slate."""
    body = _encode(ranked.reply)
    return Reply(200, SLATE_FIELDS % len(body), body, None if ranked.is_done else ranked)


def refusal(error: Exception, asked: RankRequest | None) -> Reply:
    """The problem that the caller of the current request is told of.

    Args:
        error: A mistake of our own is logged, and told without details.
        asked: None: the request was not understood.
    """
    if not isinstance(error, RankingError):
        error = told_of_defect(error)
    note_failure(error)
    problem = problem_of(error, None if asked is None else asked.request_id)
    body = _encode(problem)
    headers = _PROBLEM % len(body)
    if problem.retry_after_s is not None:
        headers = b"retry-after: %b\r\n%b" % (retry_after(problem.retry_after_s).encode(), headers)
    return Reply(problem.status, headers, body)
