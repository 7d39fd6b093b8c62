"""Variants that come with a request: forced by a token, or decided elsewhere by a header."""

import msgspec

from service.errors import ForceTokenInvalid
from service.events.force_tokens import ForceTokens
from service.messages import RankRequest

DECISIONS_HEADER = "x-experiment-variant"
"""``key=variant[, key=variant]``: as the field ``external``, which wins over it."""


def redeemed(asked: RankRequest, tokens: ForceTokens, now: float) -> RankRequest:
    """The request with what its force token allows put into ``force``.

    Args:
        asked: What it forces otherwise has been allowed already, and wins.
        tokens: That verify.
        now: Unix seconds.

    Raises:
        ForceTokenInvalid: the token proves nothing, or is for somebody else.
        ForceTokenExpired: the token was good once.
    """
    if asked.force_token is None:
        return asked
    claims = tokens.verify(asked.force_token, now)
    if claims.unit not in (None, asked.user.id, asked.session_id):
        raise ForceTokenInvalid("the force token is for another user or session")
    forced = {claims.key: claims.variant, **asked.force}
    return msgspec.structs.replace(asked, force=forced, force_token=None)


def decided_elsewhere(asked: RankRequest, headers: list[str]) -> RankRequest:
    """The request with the decisions of its headers beside those of its body.

    What a header says is never an error: a part that names nothing of ours, or
    cannot be read, is counted with the decisions that are ignored.
    """
    if not headers:
        return asked
    parts = [part.strip() for header in headers for part in header.split(",")]
    pairs = [part.partition("=") for part in parts if part]
    given = {key.strip(): variant.strip() for key, _, variant in pairs}
    return msgspec.structs.replace(asked, external={**given, **asked.external})
