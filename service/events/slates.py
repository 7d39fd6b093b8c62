"""Slate ids that prove where they come from: ULIDs with a keyed checksum inside.

A ULID has 48 bits of time and 80 that are free. Here 40 of those are random
and 40 are a MAC over time and randomness, so that "is this slate ours?" needs
no memory of the slates served. A guessed id passes once in 2^40 tries, and
would win nothing: attribution to a variant needs a signed exposure token.
"""

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
DRAWN_IDS = 64

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two digits at a time: the standard library's base32 costs as much as the rest of an id.
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
_BASE_32 = str.maketrans(_DIGITS, "0123456789abcdefghijklmnopqrstuv")
"""To the digits that `int` reads."""


class SlateIds:
    """Makes slate ids and recognises those of any configured key."""

    def __init__(self, keys: SigningKeys) -> None:
        # Derived, so that a checksum never is a signature of something else.
        macs = {
            key_id: hashlib.blake2b(
                digest_size=MAC_BYTES, key=hmac.digest(key, b"podium slate id", "sha256")
            )
            for key_id, key in keys.by_id.items()
        }
        self._signing = macs[keys.signing]
        self._random = b""  # drawn in advance: asking the kernel costs as much as all the rest
        self._all = tuple(macs.values())

    def new(self, wall: float) -> str:
        """A fresh id.

        Args:
            wall: Unix seconds; ids of different milliseconds sort by time.
        """
        if not self._random:
            self._random = secrets.token_bytes(RANDOM_BYTES * DRAWN_IDS)
        random, self._random = self._random[:RANDOM_BYTES], self._random[RANDOM_BYTES:]
        milliseconds = int(wall * 1000)
        mac = _mac(self._signing, milliseconds.to_bytes(TIME_BYTES, "big") + random)
        return f"{_ten_digits(milliseconds)}{_sixteen_digits(random + mac)}"

    def issued_here(self, slate_id: str) -> bool:
        """Whether one of our keys made this id; any text is a valid question."""
        if ULID.fullmatch(slate_id) is None:
            return False
        data = _bytes(slate_id)
        stamp, mac = data[:-MAC_BYTES], data[-MAC_BYTES:]
        return any(hmac.compare_digest(_mac(keyed, stamp), mac) for keyed in self._all)


def _mac(keyed: hashlib.blake2b, stamp: bytes) -> bytes:
    begun = keyed.copy()  # the key has been taken in: half the work
    begun.update(stamp)
    return begun.digest()


def _ten_digits(milliseconds: int) -> str:
    """Of 48 bits; the first two of its 50 are 0."""
    n, pairs = milliseconds, _PAIRS
    return (
        f"{pairs[n >> 40]}{pairs[n >> 30 & 1023]}{pairs[n >> 20 & 1023]}"
        f"{pairs[n >> 10 & 1023]}{pairs[n & 1023]}"
    )


def _sixteen_digits(ten_bytes: bytes) -> str:
    n, pairs = int.from_bytes(ten_bytes, "big"), _PAIRS
    return (
        f"{pairs[n >> 70]}{pairs[n >> 60 & 1023]}{pairs[n >> 50 & 1023]}{pairs[n >> 40 & 1023]}"
        f"{pairs[n >> 30 & 1023]}{pairs[n >> 20 & 1023]}{pairs[n >> 10 & 1023]}{pairs[n & 1023]}"
    )


def _bytes(text: str) -> bytes:
    return int(text.translate(_BASE_32), 32).to_bytes(TIME_BYTES + RANDOM_BYTES + MAC_BYTES, "big")
