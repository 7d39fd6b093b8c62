"""How long entries are good for, and who computes them anew when: pure, no clock of its own.

Until its soft end an entry is as good as computed. From there to its hard end it
is given out all the same while somebody computes it anew; then it is gone.

Source:
    Vattani, Chierichetti, Lowenstein (2015), "Optimal probabilistic cache stampede
    prevention", PVLDB 8(8): XFetch, in `is_due`.
"""

from math import log
from typing import Literal

from msgspec import Struct

State = Literal["fresh", "stale", "gone"]


class Lifetimes(Struct, frozen=True, kw_only=True):
    """What the settings say of ages, in seconds."""

    ttl_s: float
    """The soft one."""
    jitter: float
    """Each key's lifetimes are these times 1 - jitter to 1 + jitter."""
    hard_factor: float
    """The hard one is so many times the soft one."""
    refresh_beta: float
    """How eagerly entries are computed anew before their soft end; 0: not before it."""

    def soft_s(self, tag: bytes) -> float:
        """The soft end of a key's entries, the same for every reader, so that all agree.

        Args:
            tag: Digest of the key, so that entries of one moment do not end in one moment.
        """
        spread = int.from_bytes(tag[:4], "little") / 2**31 - 1  # -1 to 1
        return self.ttl_s * (1 + self.jitter * spread)

    def hard_s(self, soft_s: float) -> float:
        """The hard end that goes with a soft one."""
        return soft_s * self.hard_factor

    def state(self, age_s: float, soft_s: float) -> State:
        """How an entry of this age is."""
        if age_s < soft_s:
            return "fresh"
        return "stale" if age_s < self.hard_s(soft_s) else "gone"

    def is_due(self, age_s: float, soft_s: float, computed_s: float, draw: float) -> bool:
        """Whether this reader should have the entry computed anew.

        From the soft end on everybody should. Shortly before it each reader may: the closer
        the end and the longer it takes to compute, the more likely.

        Args:
            age_s: Of the entry.
            soft_s: Its soft end.
            computed_s: How long it took to compute.
            draw: Random, 0 to 1 (excluded).
        """
        if age_s >= soft_s:
            return True
        return age_s - computed_s * self.refresh_beta * log(1 - draw) >= soft_s
