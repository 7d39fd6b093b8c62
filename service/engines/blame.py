"""What went wrong with a batch, and whose fault it is: an engine's or a request's."""

from collections.abc import Sequence

import numpy as np

from service.clock import Clock
from service.engines.bisection import Bisection
from service.engines.check import Check
from service.engines.link import Call, EngineLink
from service.engines.parts import Indexes, Parts
from service.telemetry import FallbackReason


class Blame:
    """Made when the first thing goes wrong; most batches never need it.

    Args:
        links: The chain, in order.
        jobs: The rows of the batch, job by job.
    """

    def __init__(self, links: Sequence[EngineLink], jobs: Parts) -> None:
        self._links, self._jobs = links, jobs
        self._texts: dict[str, None] = {}  # in order, each once
        self._accused: dict[EngineLink, float] = {}  # and when its first failed call began
        self._short_of_memory: set[EngineLink] = set()
        # Places of engines that failed as a whole, in order, and how many jobs failed together.
        self._suspects: list[tuple[int, int]] = []
        self._bisection: Bisection | None = None
        self._piece: Sequence[int] = ()  # the jobs that the bisection asked for
        self._acquitted = False
        self.fallback: FallbackReason | None = None
        """Why it is not the first engine that scored everything; the first reason stands."""

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def passed_by(self, link: EngineLink) -> None:
        """An engine gets no calls at present."""
        state = link.state
        match state.status:
            case "loading" | "refused" | "hung" as reason:
                self.noted(link, f"{link.info.name}: {reason}: {state.problem}", reason)
            case _:
                self.noted(link, f"{link.info.name}: left alone: {state.problem}", "left_alone")

    def noted(self, link: EngineLink, text: str, reason: FallbackReason) -> None:
        """Something went wrong for which there is nobody to blame here."""
        self._texts[text] = None
        if link is self._links[0] and self.fallback is None:
            self.fallback = reason

    def failed(self, call: Call, text: str, reason: FallbackReason) -> None:
        """A call gave no probability; that is every row's own affair, not its neighbours'."""
        self.noted(call.link, text, reason)
        self._accused.setdefault(call.link, call.started_at)

    def failed_as_a_whole(
        self, place: int, call: Call, rows: Indexes | None, text: str, reason: FallbackReason
    ) -> None:
        """A call for some rows (None: all) gave no scores; one of the requests may be why."""
        if self._bisection is None:
            asked = np.arange(self._jobs.rows) if rows is None else rows
            self._suspects.append((place, len(np.unique(self._jobs.job_of(asked)))))
        if reason == "memory":
            self._short_of_memory.add(call.link)
        self.failed(call, text, reason)
        self._tell_bisection()

    def hung(self, call: Call) -> None:
        """A call did not come back; its engine is left alone already."""
        self.noted(call.link, call.link.state.problem, "hung")
        self._tell_bisection()

    def scored(self) -> None:
        """A call gave scores."""
        if self._bisection is not None:
            self._bisection.scored()

    def next_half(self, rows: Indexes) -> tuple[int, Indexes] | None:
        """Find the guilty among the jobs that failed together: whom to ask for which rows next.

        The last engine that failed is asked, as those before it were asked first
        already; only if it scores nothing at all, the one before it is.

        Args:
            rows: Those without a score that somebody waits for; one or more.
        """
        job_of_row = self._jobs.job_of(rows)
        while self._suspects and not self._acquitted:
            place, failed_together = self._suspects[-1]
            if self._bisection is None:
                if failed_together == 1:
                    self._suspects.pop()
                    continue  # it failed alone: there is nobody else to blame
                self._bisection = Bisection(np.unique(job_of_row).tolist())
            piece = self._bisection.take() if self._links[place].serves else None
            if piece is None:
                self._acquitted, self._bisection = self._bisection.acquits, None
                self._suspects.pop()
                continue
            piece_rows = rows[np.isin(job_of_row, piece)]
            if len(piece_rows):  # else nobody waits for these jobs any more
                self._piece = piece
                return place, piece_rows
        return None

    def settle(self, clock: Clock) -> None:
        """Count what is the engines' fault. By the thread that calls them.

        An engine that scores the neighbours is well, and the request that fails alone is what
        the others tripped over too: one poisonous request must not open anybody's breaker.
        """
        # The search may have ended early, as nobody waits for the guilty any more.
        acquitted = self._acquitted or (self._bisection is not None and self._bisection.acquits)
        if acquitted:
            return
        for link, started in self._accused.items():
            if not self._is_vouched_for(link, clock):
                link.blame(started=started, now=clock.now())

    def _is_vouched_for(self, link: EngineLink, clock: Clock) -> bool:
        """Whether golden rows say that it was the request and not the engine.

        A request that is alone in its batch has no neighbours to acquit the engine. Somebody who
        sends poison again and again would otherwise take the engine from everybody else. Golden
        rows are few, and are asked only before the failure that would cost the engine its use.
        """
        if self._jobs.jobs > 1 or link.golden is None or link in self._short_of_memory:
            return False
        if not link.is_on_the_brink:
            return False
        Check(link, link.golden, clock).proceed()
        return link.status == "ready"

    def _tell_bisection(self) -> None:
        if self._bisection is not None:
            self._bisection.failed(self._piece)
