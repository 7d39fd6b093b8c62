"""Slate ids that prove where they come from: ULIDs with a keyed checksum inside.

A ULID has 48 bits of time and 80 that are free. Here 40 of those are random
and 40 are a MAC over time and randomness, so that "is this slate ours?" needs
no memory of the slates served. A guessed id passes once in 2^40 tries, and
would win nothing: attribution to a variant needs a signed exposure token.
"""

import base64
import hashlib
import hmac
import re
import secrets

from service.events.signing import SigningKeys

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""Crockford's base32 as we write it; the first digit holds 3 bits."""

TIME_BYTES = 6
RANDOM_BYTES = 5
MAC_BYTES = 5

_RFC_4648 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_CROCKFORD = bytes.maketrans(_RFC_4648, _CROCKFORD)
_FROM_CROCKFORD = bytes.maketrans(_CROCKFORD, _RFC_4648)
# 20 bytes are a whole number of base32 digits; an id is the last 26 of the 32.
_PADDED_BYTES = 20
_PADDING_DIGITS = 6


class SlateIds:
    """Makes slate ids and recognises those of any configured key."""

    def __init__(self, keys: SigningKeys) -> None:
        # Derived, so that a checksum never is a signature of something else.
        derived = {
            key_id: hmac.digest(key, b"podium slate id", "sha256")
            for key_id, key in keys.by_id.items()
        }
        self._signing = derived[keys.signing]
        self._all = tuple(derived.values())

    def new(self, wall: float) -> str:
        """A fresh id.

        Args:
            wall: Unix seconds; ids of different milliseconds sort by time.
        """
        stamp = int(wall * 1000).to_bytes(TIME_BYTES, "big") + secrets.token_bytes(RANDOM_BYTES)
        return _text(stamp + _mac(self._signing, stamp))

    def issued_here(self, slate_id: str) -> bool:
        """Whether one of our keys made this id; any text is a valid question."""
        if ULID.fullmatch(slate_id) is None:
            return False
        data = _bytes(slate_id)
        stamp, mac = data[:-MAC_BYTES], data[-MAC_BYTES:]
        return any(hmac.compare_digest(_mac(key, stamp), mac) for key in self._all)


def _mac(key: bytes, stamp: bytes) -> bytes:
    return hashlib.blake2b(stamp, digest_size=MAC_BYTES, key=key).digest()


def _text(data: bytes) -> str:
    padded = base64.b32encode(data.rjust(_PADDED_BYTES, b"\0"))
    return padded.translate(_TO_CROCKFORD)[_PADDING_DIGITS:].decode()


def _bytes(text: str) -> bytes:
    padded = b"0" * _PADDING_DIGITS + text.encode()
    return base64.b32decode(padded.translate(_FROM_CROCKFORD))[
        -TIME_BYTES - RANDOM_BYTES - MAC_BYTES :
    ]
