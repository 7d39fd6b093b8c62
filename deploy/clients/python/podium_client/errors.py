"""Every way in which a call can fail. `PodiumError` catches them all; `code` tells them apart."""

from collections.abc import Mapping

from podium_client.replies import Problem


class PodiumError(Exception):
    """A call that brought no reply of use."""

    code: str = "podium_error"
    """Stable: the service's own, or one of this client's."""
    may_repeat: bool = False
    """Whether the same call may well succeed a moment later."""
    retry_after_s: float | None = None
    """How long to leave the service alone first, as far as it says."""


class Unreachable(PodiumError):
    """No connection, or it broke before the reply was complete."""

    code = "unreachable"
    may_repeat = True


class TimedOut(PodiumError):
    """The deadline of the call passed here, whatever the service is doing."""

    code = "timed_out"


class ReplyUnreadable(PodiumError):
    """Something answered, but not as Podium does: with another body, or with a redirect."""

    code = "reply_unreadable"


class Refused(PodiumError):
    """The service has answered that it cannot do this; `problem` is its whole answer."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.code = problem.code
        self.status = problem.status
        self.retry_after_s = problem.retry_after_s
        self.request_id = problem.request_id
        place = f" (at {problem.path})" if problem.path else ""
        super().__init__(f"{problem.code}: {problem.detail}{place}")


class InvalidRequest(Refused):
    """The request is not valid as it is: repeating it helps nobody."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.path = problem.path
        """JSON path of the value that is wrong, such as ``$.candidates[3].id``."""


class NotAllowed(Refused):
    """No key, an unknown one, one without the scope, or a force token that proves nothing."""


class NotFound(Refused):
    """No such item page, experiment, model, version or route."""


class Conflict(Refused):
    """It does not fit how things stand, such as a change made meanwhile; look again."""


class RankingRefused(Refused):
    """Too busy for this ranking, said at the door; `retry_after_s` says when to come again."""

    may_repeat = True


class Unavailable(Refused):
    """The service, or a part of it that this call needs, cannot answer now."""

    may_repeat = True


class DeadlinePassed(Refused):
    """The ranking was taken in but not scored in time, and degraded answers are off."""


class ServiceFailed(Refused):
    """A mistake of the service; it has logged it."""


_BY_STATUS: Mapping[int, type[Refused]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: RankingRefused,
    503: Unavailable,
    504: DeadlinePassed,
}

BY_CODE: Mapping[str, type[Refused]] = {
    "malformed_json": InvalidRequest,
    "invalid_request": InvalidRequest,
    "body_too_large": InvalidRequest,
    "unsupported_media_type": InvalidRequest,
    "method_not_allowed": InvalidRequest,
    "refused": InvalidRequest,
    "unsupported_encoding": InvalidRequest,
    "invalid_inference": InvalidRequest,
    "unauthorised": NotAllowed,
    "forbidden": NotAllowed,
    "force_token_invalid": NotAllowed,
    "force_token_expired": NotAllowed,
    "not_found": NotFound,
    "unknown_item": NotFound,
    "no_candidates": NotFound,
    "unknown_experiment": NotFound,
    "unknown_model": NotFound,
    "unknown_version": NotFound,
    "generation_conflict": Conflict,
    "change_refused": Conflict,
    "definition_differs": Conflict,
    "model_pinned": Conflict,
    "version_not_loaded": Conflict,
    "version_in_use": Conflict,
    "load_refused": Conflict,
    "change_under_way": Conflict,
    "cache_off": Conflict,
    "queue_full": RankingRefused,
    "deadline_unreachable": RankingRefused,
    "deadline_passed": DeadlinePassed,
    "not_ready": Unavailable,
    "engines_failed": Unavailable,
    "events_unavailable": Unavailable,
    "report_unavailable": Unavailable,
    "store_unavailable": Unavailable,
    "cache_unavailable": Unavailable,
    "too_many_watchers": Unavailable,
    "internal_error": ServiceFailed,
}
"""What each of the service's codes is raised as; a code that is newer goes by its status."""


def refusal(problem: Problem) -> Refused:
    """The error that stands for a problem."""
    return (BY_CODE.get(problem.code) or _of_status(problem.status))(problem)


def _of_status(status: int) -> type[Refused]:
    return _BY_STATUS.get(status, InvalidRequest if status < 500 else ServiceFailed)
