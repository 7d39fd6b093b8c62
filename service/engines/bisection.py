"""Which requests to blame for a batch that fails: ask for halves, and halves of halves. Pure."""

from collections import deque
from collections.abc import Sequence


class Bisection:
    """Splits the jobs of a failed batch until those that fail alone stand alone.

    Large pieces first: a half that scores shows at once that the engine is well.
    A dead device must not be asked twice for every job, so the search is in doubt
    when nothing but failures came back, and ends unless somebody vouches for the
    engine; one or two guilty jobs never make that many in a row.

    Args:
        jobs: In order, those whose rows failed together; one, if nobody waits for the others any
            more.
    """

    def __init__(self, jobs: Sequence[int]) -> None:
        self._pieces = deque(_halves(jobs) if len(jobs) > 1 else (jobs,))
        self._most_in_a_row = 2 + (len(jobs) - 1).bit_length()
        self._in_a_row = 0

    @property
    def in_doubt(self) -> bool:
        """Whether the engine may be dead: there is more to ask, but too much failed in a row."""
        return bool(self._pieces) and self._in_a_row >= self._most_in_a_row

    def vouch(self) -> None:
        """The engine works after all: the search goes on, and is in doubt later than before."""
        self._most_in_a_row *= 2
        self._in_a_row = 0

    def take(self) -> Sequence[int] | None:
        """The jobs to ask for next; None when there is nothing left to find out, or in doubt."""
        if not self._pieces or self.in_doubt:
            return None
        return self._pieces.popleft()

    def scored(self) -> None:
        """The piece just taken was scored."""
        self._in_a_row = 0

    def failed(self, piece: Sequence[int]) -> None:
        """The piece just taken failed as a whole again."""
        self._in_a_row += 1
        if len(piece) > 1:
            self._pieces.extend(_halves(piece))


def _halves(jobs: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    middle = len(jobs) // 2
    return jobs[:middle], jobs[middle:]
