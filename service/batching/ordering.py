"""Answers in the order of arrival, for those who set ``preserve_ordering``.

A job whose rows are scored is held until every job of its deployment that came
before it has ended, however it ended.
"""

from service.batching.jobs import ScoreJob


class ReplyOrder:
    """The jobs of each deployment that have not ended, in the order of arrival."""

    def __init__(self) -> None:
        # Job to whether it is scored and held, for each deployment.
        self._lines: dict[str, dict[ScoreJob, bool]] = {}

    def arrived(self, job: ScoreJob) -> None:
        self._lines.setdefault(job.deployment, {})[job] = False

    def holds(self, job: ScoreJob) -> bool:
        """Is this job scored, and not answered yet?"""
        return self._lines.get(job.deployment, {}).get(job, False)

    def scored(self, job: ScoreJob) -> list[ScoreJob]:
        """The jobs that may be answered now that this one is scored, in order."""
        self._lines[job.deployment][job] = True
        return self._released(job.deployment)

    def ended(self, job: ScoreJob) -> list[ScoreJob]:
        """The jobs that may be answered now that this one has ended in another way."""
        self._lines[job.deployment].pop(job, None)
        return self._released(job.deployment)

    def _released(self, deployment: str) -> list[ScoreJob]:
        line, released = self._lines[deployment], []
        for job, is_scored in line.items():
            if not is_scored:
                break
            released.append(job)
        for job in released:
            del line[job]
        if not line:
            del self._lines[deployment]
        return released
