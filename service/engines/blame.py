"""What went wrong with a batch, and whose fault it is: an engine's or a request's."""

from collections.abc import Sequence

import numpy as np

from service.engines.bisection import Bisection
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
        self._spoiled: list[tuple[EngineLink, float]] = []  # and the share of a call's rows
        self._short_of_memory: set[EngineLink] = set()
        # Places of engines that failed as a whole, in order, and how many jobs failed together.
        self._suspects: list[tuple[int, int]] = []
        self._bisection: Bisection | None = None
        self._piece: Sequence[int] = ()  # the jobs that the bisection asked for
        self._nobody_scored_all = False
        self._well: set[EngineLink] = set()  # scored something of this batch
        self._vouched: dict[EngineLink, bool] = {}  # whether golden rows were right
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

    def spoiled(self, link: EngineLink, text: str, share: float) -> None:
        """A call gave this share of its rows no probability."""
        self.noted(link, text, "invalid_scores")
        self._spoiled.append((link, share))

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

    def scored(self, link: EngineLink) -> None:
        """A call gave scores."""
        self._well.add(link)
        if self._bisection is not None:
            self._bisection.scored()

    def next_half(self, rows: Indexes) -> tuple[int, Indexes] | EngineLink | None:
        """Find the guilty among the jobs that failed together: whom to ask for which rows next.

        The last engine that failed is asked, as those before it were asked first
        already; for what it scores in no piece, the one before it is.

        Args:
            rows: Those without a score that somebody waits for; one or more.

        Returns:
            An engine's place and its rows; or an engine to be asked for golden rows, as it may
            be dead; None when there is nothing left to find out.
        """
        self._nobody_scored_all = True
        job_of_row = self._jobs.job_of(rows)
        while self._suspects:
            place, failed_together = self._suspects[-1]
            link = self._links[place]
            if self._bisection is None:
                if failed_together == 1:
                    self._suspects.pop()
                    continue  # it failed alone: there is nobody else to blame
                self._bisection = Bisection(np.unique(job_of_row).tolist())
            if link.serves and self._bisection.in_doubt and self._may_vouch(link):
                return link
            piece = self._bisection.take() if link.serves else None
            if piece is None:
                self._bisection = None
                self._suspects.pop()
                continue
            piece_rows = rows[np.isin(job_of_row, piece)]
            if len(piece_rows):  # else nobody waits for these jobs any more
                self._piece = piece
                return place, piece_rows
        return None

    def accused(self) -> EngineLink | None:
        """An engine that this batch would cost its use; golden rows may vouch for it.

        A request that is alone in its batch has no neighbours to acquit the engine, nor have
        those that are all guilty, and it may be another engine that scored the neighbours.
        Somebody who sends poison again and again would otherwise take the engine from everybody
        else. Golden rows are few, and are asked only before the failure that would cost the
        engine its use. Where the next engine scored all, there is no request to suspect.
        """
        suspects = [link for link, share in self._spoiled if link.is_on_the_brink(share)]
        if self._nobody_scored_all or self._jobs.jobs == 1:
            unproved = (link for link in self._accused if link not in self._well)
            suspects += [link for link in unproved if link.is_on_the_brink()]
        unasked = (link for link in suspects if link not in self._vouched)
        return next((link for link in unasked if self._may_vouch(link)), None)

    def vouched(self, link: EngineLink, right: bool) -> None:
        """An engine was asked for golden rows."""
        self._vouched[link] = right
        if right:
            link.forgive()
            if self._bisection is not None:
                self._bisection.vouch()

    def settle(self, now: float) -> None:
        """Count what is the engines' fault. By the thread that calls them.

        An engine that scores the neighbours is well: one poisonous request must not open its
        breaker.
        """
        vouched = {link for link, right in self._vouched.items() if right}
        for link, share in self._spoiled:
            if link not in vouched:
                link.blame_in_part(share, now)
        for link, started in self._accused.items():
            if not (link in self._well or link in vouched):
                link.blame(started=started, now=now)

    def _may_vouch(self, link: EngineLink) -> bool:
        """Whether golden rows may show that an engine is well."""
        disproved = not self._vouched.get(link, True)
        return not (link.golden is None or disproved or link in self._short_of_memory)

    def _tell_bisection(self) -> None:
        if self._bisection is not None:
            self._bisection.failed(self._piece)
