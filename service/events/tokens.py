"""Exposure tokens: what a slate carries to its impressions and clicks.

``v1.<key id>.<base64url JSON>.<base64url HMAC-SHA256>``, the HMAC over all the
text before the last dot. A token ties a slate to the variants that made it, so
that nobody can move a click into another variant or make one up.
"""

import base64
import hmac
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import Struct, field

from experiments.events import Arm
from service.events.signing import SigningKeys, base64url, signature_of, signed_token

VERSION = "v1"
_DIGEST_BYTES = 3
_DIGEST_CHARS = 4
MAX_TOKEN_CHARS = 8192
"""The limit of `FeedbackEvent.exposure`; an experiment adds at most about 350, an item 6."""

TokenCode = Literal["token_malformed", "token_unknown_key", "token_forged", "token_expired"]


class TokenRejected(Exception):
    """A token that proves nothing; ``code`` is stable and public."""

    def __init__(self, code: TokenCode, message: str) -> None:
        self.code: TokenCode = code
        super().__init__(message)


class Claims(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token says. The names on the wire are short: tokens travel with every event."""

    slate_id: str = field(name="s")
    issued: int = field(name="i")
    """Unix seconds."""
    expires: int = field(name="e")
    """Unix seconds; from then on the token is refused."""
    arms: tuple[Arm, ...] = field(name="a")
    """Experiment, phase, variant, propensity and the digest of the unit, never the user id."""
    items: str = field(name="k")
    """What the slate holds, from `items_digest`: nothing else can be seen or clicked on it."""
    teams: tuple[str, ...] = field(name="t", default=())
    """The variants whose rankers made an interleaved slate; none for any other slate."""
    picks: str = field(name="p", default="")
    """Whose pick each item of an interleaved slate was: a digit per item, the place in `teams`."""


def items_digest(item_ids: Iterable[str]) -> str:
    """The items of a slate in 4 characters each.

    24 bits tell the items of a slate apart from all others well enough: one
    made-up id in 800,000 passes for an item of a slate of 20.
    """
    return "".join(map(_item_digest, item_ids))


def digested_items(digest: str) -> tuple[str, ...]:
    """The single items of a digest in their order, to be compared with `items_digest` of one."""
    return tuple(digest[at : at + _DIGEST_CHARS] for at in range(0, len(digest), _DIGEST_CHARS))


class ExposureTokens:
    """Signs and verifies. Pure: the time is handed in."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def sign(self, claims: Claims) -> str:
        return signed_token(self._keys, VERSION, claims)

    def verify(self, token: str, now: float) -> Claims:
        """The claims of a token that one of our keys signed.

        Args:
            token: Any text.
            now: Unix seconds.

        Raises:
            TokenRejected: it is not a token, not ours, changed, or too old.
        """
        key, signed, signature = self._parts(token)
        # Texts are compared, not decoded bytes: base64 has several texts for
        # the same bytes, and only the one that we wrote may pass.
        expected = signature_of(key, signed)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise TokenRejected("token_forged", "the signature does not fit the exposure token")
        claims = _claims(signed.rpartition(".")[2])
        if now >= claims.expires:
            raise TokenRejected(
                "token_expired", f"the exposure token expired {now - claims.expires:.0f} s ago"
            )
        return claims

    def _parts(self, token: str) -> tuple[bytes, str, str]:
        """Key, signed text and signature."""
        parts = token.split(".", maxsplit=4) if len(token) <= MAX_TOKEN_CHARS else []
        if len(parts) != 4 or parts[0] != VERSION or not token.isascii():
            raise TokenRejected("token_malformed", "this is not an exposure token of this service")
        key = self._keys.by_id.get(parts[1])
        if key is None:
            raise TokenRejected(
                "token_unknown_key", f"no key {parts[1][:32]!r} is configured for exposure tokens"
            )
        signed, _, signature = token.rpartition(".")
        return key, signed, signature


def _item_digest(item_id: str) -> str:
    return base64url(blake2b(item_id.encode(), digest_size=_DIGEST_BYTES).digest())


def _claims(payload: str) -> Claims:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=="), type=Claims)
    except (ValueError, msgspec.MsgspecError):
        # Signed with our key but not by this release.
        raise TokenRejected("token_malformed", "another release signed these claims") from None
