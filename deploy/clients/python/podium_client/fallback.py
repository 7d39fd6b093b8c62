"""A slate whatever happens: Podium's order, or the one in which the candidates came."""

from collections.abc import Sequence

from msgspec import Struct

from podium_client.errors import PodiumError
from podium_client.replies import RankReply
from podium_client.requests import Candidate


class Slate(Struct, frozen=True, kw_only=True):
    """Item ids in the order to show them."""

    items: tuple[str, ...]
    reply: RankReply | None
    """Podium's whole answer; None for a slate in input order."""
    error: PodiumError | None = None
    """Why it is in input order."""

    @property
    def is_ranked(self) -> bool:
        """Whether Podium ordered it."""
        return self.reply is not None

    @property
    def reason(self) -> str | None:
        """The error's code where Podium did not order it: ``timed_out``, ``queue_full``, ..."""
        return None if self.error is None else self.error.code

    @property
    def exposure(self) -> str | None:
        """None for a slate in input order: nobody was exposed to a variant."""
        return None if self.reply is None else self.reply.exposure


def ranked(reply: RankReply) -> Slate:
    return Slate(items=tuple(item.id for item in reply.items), reply=reply)


def in_input_order(candidates: Sequence[str | Candidate], k: int, error: PodiumError) -> Slate:
    """The first k as they came."""
    ids = (one if isinstance(one, str) else one.id for one in candidates)
    return Slate(items=tuple(ids)[: max(k, 0)], reply=None, error=error)
