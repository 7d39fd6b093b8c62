"""When a worker that ended is started again, and when there is no sense in it. Pure."""

from typing import Final

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
STEADY_AFTER_S: Final = 10.0
"""A worker that served for so long had no trouble at its start."""
MOST_EARLY_ENDS: Final = 3


class Restarts:
    """The restarts of one worker."""

    def __init__(self) -> None:
        self.early_ends = 0
        """Times in a row that it ended before it could serve."""
        self._delay_s = FIRST_DELAY_S

    def after(self, served_s: float | None) -> float:
        """Seconds to wait before the next start.

        Args:
            served_s: How long it served; None if it never could.
        """
        self.early_ends = self.early_ends + 1 if served_s is None else 0
        if served_s is not None and served_s >= STEADY_AFTER_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s

    @property
    def hopeless(self) -> bool:
        """Whether another start would hardly end otherwise."""
        return self.early_ends >= MOST_EARLY_ENDS
