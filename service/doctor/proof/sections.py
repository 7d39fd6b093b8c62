"""How a proof goes on when a part of it fails, and when its time is over."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ranking_models.errors import InputError
from service.clock import Clock
from service.doctor.proof.figures import Outcome, Section
from service.engines.cuda import DeviceLost
from service.errors import EngineFailed, StartupError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Tell = Callable[[str], None]

_LATE = "the time was over (--seconds gives more)"


class Trouble:
    """What went wrong in one section, which goes on with its next part."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.doubts: list[str] = []
        self.left_out: list[str] = []
        self.is_lost = False
        """CUDA answers nothing any more in this process."""

    @property
    def outcome(self) -> Outcome:
        if self.reasons:
            return "failed"
        return "inconclusive" if self.doubts else "passed"

    def add(self, reason: str) -> None:
        """Something is not as it must be; its figures may still be told."""
        self.reasons.append(reason)

    def doubt(self, reason: str) -> None:
        """Nothing is wrong, and what the section is for could not be shown."""
        self.doubts.append(reason)

    def attempt(
        self,
        what: str,
        act: Callable[Arguments, Result],
        *args: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result | None:
        """The result; None where it failed, and then the reason is kept."""
        if self.is_lost:
            return None
        try:
            return act(*args, **named)
        except Exception as error:  # whatever it is, the other parts are worth having
            self.is_lost = isinstance(error, DeviceLost)
            self.reasons.append(f"{what}: {_told(error)}")
            return None


class Course:
    """Runs sections one after the other, until the device is lost or the time is over.

    Args:
        seconds: For all sections; one that has begun is finished.
        tell: Takes what is done now, for people.
    """

    def __init__(self, clock: Clock, seconds: float, tell: Tell) -> None:
        self._clock, self.tell = clock, tell
        self._end = clock.now() + seconds
        self._lost_in: str | None = None

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - self._clock.now())

    def goes_on(self, what: str, trouble: Trouble, *, needs_s: float = 0.0) -> bool:
        """Whether so much time is left, for one more part of a section; else it is left out."""
        if self.left_s > needs_s:
            return True
        trouble.left_out.append(f"{what}: {_LATE}")
        return False

    def section(self, name: str, act: Callable[[Trouble], Result | None]) -> Section[Result]:
        """Run one section, whatever became of those before."""
        if self._lost_in is not None:
            reason = f"the GPU was lost in {self._lost_in}; only a new process can use it again"
            return not_run(reason)
        if self.left_s <= 0:
            return not_run(_LATE)
        self.tell(name)
        trouble = Trouble()
        figures = trouble.attempt(name, act, trouble)
        if trouble.is_lost:
            self._lost_in = name
        return Section(
            outcome=trouble.outcome,
            reasons=tuple(trouble.reasons or trouble.doubts),
            left_out=tuple(trouble.left_out),
            figures=figures or None,
        )


def not_run(reason: str) -> Section[Result]:
    """A section that this machine has no part for."""
    return Section(outcome="not run", reasons=(reason,))


def _told(error: Exception) -> str:
    """One line: what we say ourselves as it is, anything else with where it was raised."""
    text = " ".join(str(error).split())
    if isinstance(error, EngineFailed | InputError | StartupError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} (at {Path(place.filename).name}:{place.lineno})"
