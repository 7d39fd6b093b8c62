"""Every failure a caller can see: status, stable code, and facts as fields."""

import re
from typing import ClassVar


class RankingError(Exception):
    """A request that cannot be answered as asked.

    One handler renders all of them as RFC 9457 ``application/problem+json``.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    """Whether the same request may well succeed a moment later."""
    retry_after_s: float | None = None
    path: str | None = None
    """JSON path of the offending value, such as ``$.candidates[3].id``."""


class MalformedBody(RankingError):
    """The body is not JSON."""

    status = 400
    code = "malformed_json"
    title = "The body is not valid JSON"


class InvalidRequest(RankingError):
    """The body is JSON but not a valid request; `path` says where."""

    status = 400
    code = "invalid_request"
    title = "The request is not valid"

    def __init__(self, message: str, path: str | None = None) -> None:
        self.path = path
        super().__init__(message)


class InvalidInference(RankingError):
    """A request of the Open Inference Protocol that is none, or not one for this model."""

    status = 400
    code = "invalid_inference"
    title = "The inference request is not valid"


_PLACED = re.compile(r"(.*) - at `(key` in `)?(\$[^`]*)`", re.DOTALL)


def split_place(error: Exception) -> tuple[str, str]:
    """What msgspec found wrong, and the JSON path of it; ``$`` where it names none."""
    said = _PLACED.fullmatch(str(error))
    if said is None:
        return str(error), "$"
    message, of_key, path = said.groups()
    return (f"a name: {message}" if of_key else message), path


class Unauthorised(RankingError):
    """No key, or one we do not know."""

    status = 401
    code = "unauthorised"
    title = "A valid API key is needed"


class Forbidden(RankingError):
    """A known key without the scope that this asks for."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class ForceTokenInvalid(RankingError):
    """A force token that proves nothing: forged, of another service, or for somebody else."""

    status = 403
    code = "force_token_invalid"
    title = "The force token is not valid"


class ForceTokenExpired(RankingError):
    """A force token that was good once."""

    status = 403
    code = "force_token_expired"
    title = "The force token has expired"


class UnknownItem(RankingError):
    """An item page was asked for an item that the catalogue does not hold."""

    status = 404
    code = "unknown_item"
    title = "The catalogue has no such item"

    def __init__(self, item_id: str) -> None:
        self.item_id = item_id
        super().__init__(f"item {item_id!r} is not in the catalogue of the model that serves it")


class NoCandidates(RankingError):
    """The item is known but nothing can be shown beside it: the catalogue holds it alone."""

    status = 404
    code = "no_candidates"
    title = "The item has no candidates"

    def __init__(self, item_id: str) -> None:
        self.item_id = item_id
        super().__init__(f"the bundle holds no candidates for item {item_id!r}")


class UnknownExperiment(RankingError):
    """No running or known experiment has this key."""

    status = 404
    code = "unknown_experiment"
    title = "No such experiment"

    def __init__(self, key: str, known: tuple[str, ...]) -> None:
        self.key = key
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"there is no experiment {key!r}; the configured ones: {names}")


class ClientGone(RankingError):
    """The client hung up in the middle of its request; nobody reads this answer."""

    status = 499
    code = "client_gone"
    title = "The client hung up"

    def __init__(self) -> None:
        super().__init__("the connection closed before the request was complete")


class BodyTooLarge(RankingError):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"

    def __init__(self, limit_bytes: int, what: str = "the body") -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"{what} is larger than {limit_bytes} bytes")


class UnsupportedMediaType(RankingError):
    """The body is not of a type that this route reads."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported content type"

    def __init__(self, got: str, expected: tuple[str, ...]) -> None:
        self.got, self.expected = got, expected
        # A route that reads a missing body as empty takes no type at all as well.
        named = " or ".join(filter(None, expected))
        super().__init__(f"content type {got or 'missing'!r}; send {named}")


class UnsupportedEncoding(RankingError):
    """The body is compressed in a way that this route does not read."""

    status = 415
    code = "unsupported_encoding"
    title = "Unsupported content encoding"

    def __init__(self, got: str, expected: tuple[str, ...]) -> None:
        self.got, self.expected = got, expected
        super().__init__(f"content encoding {got[:80]!r}; send {' or '.join(expected)}, or none")


class QueueFull(RankingError):
    """The batch queue is at its limit; the job was refused, not dropped."""

    status = 429
    code = "queue_full"
    title = "Too busy"
    retryable = True

    def __init__(self, waiting_rows: int, limit_rows: int, retry_after_s: float) -> None:
        self.waiting_rows, self.limit_rows = waiting_rows, limit_rows
        self.retry_after_s = retry_after_s
        super().__init__(f"{waiting_rows} rows are waiting, the limit is {limit_rows}")


class DeadlineUnreachable(RankingError):
    """The predicted wait is longer than the time that is left; refused at the door."""

    status = 429
    code = "deadline_unreachable"
    title = "Too busy for this deadline"
    retryable = True

    def __init__(self, predicted_ms: float, left_ms: float, retry_after_s: float) -> None:
        self.predicted_ms, self.left_ms = predicted_ms, left_ms
        self.retry_after_s = retry_after_s
        super().__init__(f"scoring would take about {predicted_ms:.0f} ms, {left_ms:.0f} are left")


class DeadlinePassed(RankingError):
    """An admitted request was not scored in time, and degraded answers are off."""

    status = 504
    code = "deadline_passed"
    title = "The deadline passed"
    retryable = True

    def __init__(self, timeout_ms: float, what: str = "slate") -> None:
        self.timeout_ms = timeout_ms
        super().__init__(f"no {what} was ready within {timeout_ms:g} ms")


class NotReady(RankingError):
    """Nothing that could answer is loaded, warm and well."""

    status = 503
    code = "not_ready"
    title = "Not ready"
    retryable = True
    retry_after_s = 1.0


class TooManyWatchers(RankingError):
    """As many live pages are open as this process tells."""

    status = 503
    code = "too_many_watchers"
    title = "Too many watch"
    retryable = True
    retry_after_s = 5.0

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} live pages are open here already; close one")


class EnginesFailed(RankingError):
    """No engine of the deployment could score, and degraded answers are off."""

    status = 503
    code = "engines_failed"
    title = "No engine can score"
    retryable = True
    retry_after_s = 1.0

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        super().__init__(f"no engine of the deployment {deployment!r} could score this request")


class EventsUnavailable(RankingError):
    """Neither the event store nor the spool could keep the events durably."""

    status = 503
    code = "events_unavailable"
    title = "Events cannot be kept"
    retryable = True
    retry_after_s = 1.0


class ReportUnavailable(RankingError):
    """The event store that holds the figures does not answer."""

    status = 503
    code = "report_unavailable"
    title = "The figures cannot be read"
    retryable = True
    retry_after_s = 1.0


class StoreUnavailable(RankingError):
    """The event server that keeps the standings of experiments does not answer."""

    status = 503
    code = "store_unavailable"
    title = "Experiments cannot be changed or read now"
    retryable = True
    retry_after_s = 1.0


class GenerationConflict(RankingError):
    """The experiment was changed since the caller looked at it."""

    status = 409
    code = "generation_conflict"
    title = "The experiment was changed meanwhile"

    def __init__(self, key: str, wanted: int, found: int) -> None:
        self.key, self.wanted, self.found = key, wanted, found
        super().__init__(
            f"experiment {key!r} is at generation {found}, not {wanted}: look at it again"
        )


class ExperimentChangeRefused(RankingError):
    """The change does not fit how the experiment stands; nothing was changed."""

    status = 409
    code = "change_refused"
    title = "The experiment cannot be changed so"


class DefinitionDiffers(RankingError):
    """This replica's file defines the experiment otherwise than the one that is in force."""

    status = 409
    code = "definition_differs"
    title = "Replicas have different definitions"


class UnknownModel(RankingError):
    """No deployment serves a model of this name."""

    status = 404
    code = "unknown_model"
    title = "No such model"


class UnknownVersion(RankingError):
    """There is no bundle of this version."""

    status = 404
    code = "unknown_version"
    title = "No such version"


class ModelPinned(RankingError):
    """Every deployment of this model names its version, so its default moves nothing."""

    status = 409
    code = "model_pinned"
    title = "The settings name the version"


class VersionNotLoaded(RankingError):
    """The version must be loaded before this can be done with it."""

    status = 409
    code = "version_not_loaded"
    title = "The version is not loaded"


class VersionInUse(RankingError):
    """Deployments serve with this version."""

    status = 409
    code = "version_in_use"
    title = "The version is in use"


class LoadRefused(RankingError):
    """A version cannot be loaded as well as the one that serves; that one goes on."""

    status = 409
    code = "load_refused"
    title = "The version cannot be loaded"


class ChangeUnderWay(RankingError):
    """Models are changed one at a time."""

    status = 409
    code = "change_under_way"
    title = "Another change is under way"
    retryable = True
    retry_after_s = 1.0


class CacheOff(RankingError):
    """What serves these pages keeps no scores."""

    status = 409
    code = "cache_off"
    title = "The deployment has no cache"

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        super().__init__(f"the deployment {deployment!r} keeps no scores: its cache is off")


class CacheUnavailable(RankingError):
    """The cache server gives no answer; rankings go on without it."""

    status = 503
    code = "cache_unavailable"
    title = "The cache server does not answer"
    retryable = True
    retry_after_s = 1.0


class EngineFailed(Exception):
    """A device or runtime failed; the chain tries the next engine, callers never see this."""


class OutOfDeviceMemory(EngineFailed):
    """The device refused memory for a call; the engine itself may be well."""


class GoldenMismatch(EngineFailed):
    """An engine answers, but not with the scores of the golden rows."""


class DeadlineExpired(Exception):
    """An admitted job's deadline passed before it was scored; callers get another slate or 504."""


class StartupError(Exception):
    """Podium cannot start as configured; printed as one line, exit code 2."""
