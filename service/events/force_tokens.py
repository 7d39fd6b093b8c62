"""Force tokens: how somebody looks at a variant without an admin's key.

``f1.<key id>.<base64url JSON>.<base64url HMAC-SHA256>``, the HMAC over all the text before the
last dot. They are signed with the keys of exposure tokens; the two cannot be taken for each
other, because the version at the front is signed as well.
"""

import base64
import hmac

import msgspec
from msgspec import Struct, field

from service.errors import ForceTokenExpired, ForceTokenInvalid
from service.events.signing import SigningKeys, signature_of, signed_token

VERSION = "f1"
MAX_TOKEN_CHARS = 2048
"""The limit of `RankRequest.force_token`."""


class ForceClaims(Struct, frozen=True, kw_only=True):
    """What a force token allows. The names on the wire are short."""

    key: str = field(name="k")
    """Of the experiment."""
    variant: str = field(name="v")
    expires: int = field(name="e")
    """Unix seconds; from then on the token is refused."""
    unit: str | None = field(name="u", default=None)
    """The only user or session that it works for; None: it works for any."""


class ForceTokens:
    """Signs and verifies. Pure: the time is handed in."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def sign(self, claims: ForceClaims) -> str:
        return signed_token(self._keys, VERSION, claims)

    def verify(self, token: str, now: float) -> ForceClaims:
        """The claims of a token that one of our keys signed.

        Args:
            token: Any text.
            now: Unix seconds.

        Raises:
            ForceTokenInvalid: it is not a token, not ours, or changed.
            ForceTokenExpired: it was good once.
        """
        signed, _, given = token.rpartition(".")
        parts = signed.split(".") if len(token) <= MAX_TOKEN_CHARS and token.isascii() else []
        if len(parts) != 3 or parts[0] != VERSION:
            raise ForceTokenInvalid("this is not a force token of this service")
        key = self._keys.by_id.get(parts[1])
        if key is None:
            raise ForceTokenInvalid(f"no key {parts[1][:32]!r} is configured for force tokens")
        # Texts are compared, not decoded bytes: base64 has several texts for the same bytes.
        if not hmac.compare_digest(signature_of(key, signed).encode(), given.encode()):
            raise ForceTokenInvalid("the signature does not fit the force token")
        claims = _claims(parts[2])
        if now >= claims.expires:
            ago = now - claims.expires
            raise ForceTokenExpired(f"the force token expired {ago:.0f} s ago; ask for another")
        return claims


def _claims(payload: str) -> ForceClaims:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=="), type=ForceClaims)
    except (ValueError, msgspec.MsgspecError):
        # Signed with our key but not by this release.
        raise ForceTokenInvalid("another release signed this force token") from None
