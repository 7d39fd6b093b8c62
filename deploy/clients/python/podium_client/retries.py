"""Whether a failed call is tried again, and when; it neither sends nor waits.

Only what may safely be done twice is repeated: rankings, everything that reads, and events, which
count once by their id. Changes of experiments never are. A repetition also needs a reason to hope
(no connection, or a refusal that says to come again), time before the deadline, and the budget.
"""

import random
import threading

from msgspec import Struct

from podium_client.deadlines import Deadline
from podium_client.errors import PodiumError


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How often, how soon, and for how large a part of all calls."""

    most: int = 1
    """Repetitions of one call; 0 repeats nothing."""
    backoff_s: float = 0.02
    """The longest pause before the first repetition; it doubles with each."""
    budget_share: float = 0.1
    """Repetitions per call, over all calls of a client: while nothing answers, they add so much
    load and no more."""
    budget_burst: int = 10
    """Repetitions that may be saved up for a bad moment."""


class RetryBudget:
    """Saves a part of a repetition per call, and spends whole ones. Any thread may use it."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._share, self._most = policy.budget_share, float(policy.budget_burst)
        self._saved = self._most
        self._lock = threading.Lock()

    def save(self) -> None:
        """For every call that is begun."""
        with self._lock:
            self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Whether there was one to spend."""
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True


class Attempts:
    """The attempts of one call."""

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, deadline: Deadline, *, may_repeat: bool
    ) -> None:
        self._policy, self._budget, self._deadline = policy, budget, deadline
        self._left = policy.most if may_repeat else 0
        self._backoff_s = policy.backoff_s
        budget.save()

    def pause_s(self, failure: PodiumError, *, needed_s: float) -> float | None:
        """How long to wait before the next attempt; None: there is none.

        Args:
            failure: How the last attempt ended.
            needed_s: What an attempt takes at least.
        """
        if not self._left or not failure.may_repeat:
            return None
        pause = self._pause_s(failure.retry_after_s)
        if pause + needed_s >= self._deadline.left_s() or not self._budget.spend():
            return None
        self._left -= 1
        return pause

    def _pause_s(self, retry_after_s: float | None) -> float:
        # All who were refused at the same moment would come again at the same moment.
        backoff_s, self._backoff_s = self._backoff_s, 2 * self._backoff_s
        jitter = random.uniform(0, backoff_s)  # noqa: S311 - spreads load, guards nothing
        if retry_after_s is None:
            return jitter
        return retry_after_s + jitter
