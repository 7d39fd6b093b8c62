"""What an engine gets done while a backlog waits: the ground for refusing a job at the door.

Refusing early beats expiring late: the caller hears at once that it should
retry or go without, and no engine time is spent on an answer nobody waits for.
A wrong refusal is worse than a wrong admission, so the estimate leans to
optimism: deadlines catch what it lets through.
"""

WEIGHT = 0.2
"""Of the newest full batch in the mean: about the last ten batches count."""


class DrainRate:
    """Rows per second that one instance scores under a backlog; learnt, unknown at first.

    Only full batches tell: small ones cost more per row, and a backlog does
    not leave in small batches. But any batch that was faster than the estimate
    raises it. Without that, one very slow batch could make the estimate so low
    that everything is refused, no batch is full again, and nothing is learnt.

    The mean is over rates and not over times for the same reason: a pause of
    the machine is an outlier of a time, and nearly nothing among rates.
    """

    def __init__(self) -> None:
        self.rows_per_s: float | None = None

    def learn(self, rows: int, seconds: float, *, full: bool) -> None:
        """Take in a batch of so many rows that took so long."""
        if seconds <= 0:
            return  # shorter than the clock can tell
        seen, known = rows / seconds, self.rows_per_s
        if known is None:
            self.rows_per_s = seen if full else None
        elif full or seen > known:
            self.rows_per_s = known + WEIGHT * (seen - known)
