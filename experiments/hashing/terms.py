"""What a hash is told of an experiment, and what it makes of it."""

from collections.abc import Callable

from msgspec import Struct

OUTSIDE = -1
"""Of a unit that does not take part."""

Pick = Callable[[str, bytes], int]
"""Gate and split of one unit, given as text and in UTF-8: the place of its variant among the
variants, or OUTSIDE."""

Inside = Callable[[str, bytes], bool]
"""Whether a unit, given as text and in UTF-8, is in the part of a layer."""


class Terms(Struct, frozen=True, kw_only=True):
    """What gate and split depend on."""

    traffic_bp: int
    """Share of the units that take part, in basis points."""
    weights: tuple[int, ...]
    """The variants divide those units by these."""
    gate_salt: str
    split_salt: str


PLACE = "{unit}"
"""Where a salt holds it, the salt is the whole text to hash, with the id put there."""


def around(salt: str) -> tuple[bytes, bytes]:
    """What stands before and after the id in a salt that holds `PLACE`."""
    before, after = salt.split(PLACE, maxsplit=1)
    return before.encode(), after.encode()
