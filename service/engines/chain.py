"""Engines in order: what one cannot score, the next one does, in the same call.

A call that fails goes to the next engine whole. Rows with a score that is no
probability go alone: their neighbours keep the scores that they have. What
fails as a whole on every engine is cut in halves until only the guilty job
fails. An engine that keeps failing is left alone, see `EngineLink`.
"""

from collections.abc import Sequence

from service.clock import Clock
from service.engines import Engine, EngineInfo
from service.engines.link import EngineLink
from service.engines.parts import Parts
from service.engines.rows import JobRows
from service.engines.run import Run
from service.engines.scored import ScoredBatch
from service.engines.state import EngineState
from service.settings import EngineSettings


class EngineChain:
    """The engines of one instance, in order.

    One thread scores at a time; all else may be asked from any thread.

    Args:
        links: In order. A bare engine gets a link of its own.
        clock: Of deadlines and of how long calls take.
        settings: For links that are made here, and the bound of a call's time.
    """

    def __init__(
        self,
        links: Sequence[EngineLink | Engine],
        clock: Clock,
        settings: EngineSettings | None = None,
    ) -> None:
        if not links:
            raise ValueError("a chain needs at least one engine")
        self.settings = settings or EngineSettings()
        self.links = tuple(
            link
            if isinstance(link, EngineLink)
            else EngineLink(link, settings=self.settings, clock=clock)
            for link in links
        )
        self._clock = clock

    @property
    def first(self) -> EngineInfo:
        """The engine that scores when nothing fails, loaded or not."""
        return self.links[0].info

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Those that are loaded."""
        return tuple(link.engine for link in self.links if link.engine is not None)

    @property
    def max_batch_rows(self) -> int:
        """Most rows of a call of the engine that serves now; those after it get cuts."""
        return self._serving.max_batch_rows

    @property
    def best_batch_rows(self) -> int:
        """Rows per call at which the engine that serves now is at its best."""
        serving = self._serving
        return serving.best_batch_rows or serving.max_batch_rows

    def states(self) -> tuple[EngineState, ...]:
        return tuple(link.state for link in self.links)

    def score(self, rows: JobRows) -> ScoredBatch:
        """Score the rows of one job at once, on this thread.

        Raises:
            EveryEngineFailed: no engine scored any row; the text has each one's reason.
        """
        run = self.start([rows])
        run.proceed()
        return run.result()

    def start(self, jobs: Sequence[JobRows], deadlines: Sequence[float] | None = None) -> Run:
        """A batch for this chain, to be scored by whoever lets it `proceed`.

        Args:
            jobs: One or more, with one row or more each.
            deadlines: Of each job; after it no further engine is asked for its rows.
        """
        return Run(self.links, Parts(jobs), deadlines, self._clock, self.settings.max_execution_s)

    @property
    def _serving(self) -> EngineInfo:
        return next((link.info for link in self.links if link.serves), self.first)
