"""The blocking client."""

import contextlib
import ssl
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx

from podium_client import calls, fallback
from podium_client.asking import (
    USUAL,
    PageOptions,
    RankOptions,
    Settings,
    address,
    checking,
    headers_of,
    lasting_headers,
    page_query,
    rank_request,
    timed,
)
from podium_client.calls import Call, T
from podium_client.deadlines import Deadline, TimeLeft
from podium_client.errors import PodiumError, ReplyUnreadable, TimedOut, Unreachable
from podium_client.experiments import DecisionsReply, ExperimentReply, ExperimentsReply, Standing
from podium_client.fallback import Slate
from podium_client.models import ModelsReply
from podium_client.replies import EventsReply, RankReply, Readiness
from podium_client.report import Report
from podium_client.requests import Candidate, ExperimentChange, FeedbackEvent
from podium_client.retries import Attempts, RetryBudget


class Client:
    """Asks one Podium address; threads may share it.

    Every method raises `PodiumError` when it brings no reply, but `rank_or_input_order`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        settings: Settings = USUAL,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """A client of the service at an address.

        Args:
            base_url: Such as ``http://podium:8080``. Proxies named in the environment are not
                used: they have no business between a ranking and its deadline.
            api_key: Needed where the service has keys.
            settings: Timeouts, connections, retries.
            tls: What to trust, and which certificate to show; the usual authorities without it.

        Raises:
            ValueError: it is no address, or no header can carry the key.
        """
        url = address(base_url)
        self._settings = settings
        self._budget = RetryBudget(settings.retry)
        self._connections = threading.Semaphore(settings.max_connections)
        self._http = httpx.Client(
            base_url=url,
            headers=lasting_headers(api_key),
            limits=httpx.Limits(
                # We count them: who gives up in httpx's own queue may take a connection with it,
                # until it has none left to give (encode/httpcore#1093).
                max_connections=None,
                max_keepalive_connections=settings.max_idle_connections,
                keepalive_expiry=settings.idle_s,
            ),
            timeout=None,  # noqa: S113 - every call has its own deadline
            verify=checking(url, tls),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; calls under way fail."""
        self._http.close()

    def rank(self, candidates: Sequence[str | Candidate], **said: Unpack[RankOptions]) -> RankReply:
        """Order candidates for a user."""
        call = calls.rank(rank_request(candidates, said))
        return self._ask(call, said.get("timeout_s"))

    def rank_or_input_order(
        self, candidates: Sequence[str | Candidate], **said: Unpack[RankOptions]
    ) -> Slate:
        """Order candidates for a user, or leave them as they came.

        Whatever the service does, refuse or not answer, there is a slate inside the deadline;
        `Slate.reason` says why it is in input order, and it holds no exposure token.
        """
        candidates = tuple(candidates)  # an iterator would be empty when it is needed again
        try:
            return fallback.ranked(self.rank(candidates, **said))
        except PodiumError as error:
            return fallback.in_input_order(candidates, said.get("k", 20), error)

    def item_recommendations(self, item_id: str, **said: Unpack[PageOptions]) -> RankReply:
        """Rank the candidates that the model's bundle holds for an item's page."""
        call = calls.item_recommendations(item_id, page_query(said), said.get("external", {}))
        return self._ask(call, said.get("timeout_s"))

    def events(
        self, reported: Sequence[FeedbackEvent], *, timeout_s: float | None = None
    ) -> EventsReply:
        """Report impressions and clicks, a thousand at most: one result for each, in order.

        What is accepted is on disk. A rejected or late event raises nothing; look at its status.
        """
        return self._ask(calls.events(tuple(reported)), timeout_s)

    def experiments(self, *, timeout_s: float | None = None) -> ExperimentsReply:
        """Every experiment as it is in force."""
        return self._ask(calls.experiments(), timeout_s)

    def experiment(self, key: str, *, timeout_s: float | None = None) -> ExperimentReply:
        """One experiment as it is in force."""
        return self._ask(calls.experiment(key), timeout_s)

    def report(self, key: str, *, timeout_s: float | None = None) -> Report:
        """The verdict on an experiment, and all that it rests on."""
        return self._ask(calls.report(key), timeout_s)

    def decisions(
        self, key: str, *, limit: int = 50, timeout_s: float | None = None
    ) -> DecisionsReply:
        """What was decided about an experiment, newest first."""
        return self._ask(calls.decisions(key, limit), timeout_s)

    def start(
        self,
        key: str,
        *,
        reason: str = "",
        if_generation: int | None = None,
        timeout_s: float | None = None,
    ) -> Standing:
        """Start an experiment, or go on with it. Changes are sent once and never repeated."""
        wanted = ExperimentChange(reason=reason, if_generation=if_generation)
        return self._ask(calls.change(key, "start", wanted), timeout_s)

    def pause(
        self,
        key: str,
        *,
        reason: str = "",
        if_generation: int | None = None,
        timeout_s: float | None = None,
    ) -> Standing:
        """Assign nobody for now."""
        wanted = ExperimentChange(reason=reason, if_generation=if_generation)
        return self._ask(calls.change(key, "pause", wanted), timeout_s)

    def ramp(
        self,
        key: str,
        *,
        stage: int | None = None,
        traffic_bp: int | None = None,
        reason: str = "",
        if_generation: int | None = None,
        timeout_s: float | None = None,
    ) -> Standing:
        """Move the traffic to a stage, to a share in basis points, or to the next stage."""
        wanted = ExperimentChange(
            stage=stage, traffic_bp=traffic_bp, reason=reason, if_generation=if_generation
        )
        return self._ask(calls.change(key, "ramp", wanted), timeout_s)

    def promote(
        self,
        key: str,
        *,
        variant: str | None = None,
        reason: str = "",
        if_generation: int | None = None,
        timeout_s: float | None = None,
    ) -> Standing:
        """Serve everybody by one variant; it need not be named where there is one treatment."""
        wanted = ExperimentChange(variant=variant, reason=reason, if_generation=if_generation)
        return self._ask(calls.change(key, "promote", wanted), timeout_s)

    def rollback(
        self,
        key: str,
        *,
        reason: str = "",
        if_generation: int | None = None,
        timeout_s: float | None = None,
    ) -> Standing:
        """Serve everybody by the surface's own deployment until it is started again."""
        wanted = ExperimentChange(reason=reason, if_generation=if_generation)
        return self._ask(calls.change(key, "rollback", wanted), timeout_s)

    def stop(
        self,
        key: str,
        *,
        reason: str = "",
        if_generation: int | None = None,
        timeout_s: float | None = None,
    ) -> Standing:
        """End an experiment."""
        wanted = ExperimentChange(reason=reason, if_generation=if_generation)
        return self._ask(calls.change(key, "stop", wanted), timeout_s)

    def models(self, *, timeout_s: float | None = None) -> ModelsReply:
        """What is loaded, and how it is."""
        return self._ask(calls.models(), timeout_s)

    def health(self, *, timeout_s: float | None = None) -> Readiness:
        """Whether traffic should come; a service that is not ready says so and raises nothing."""
        return self._ask(calls.health(), timeout_s)

    def _ask(self, call: Call[T], timeout_s: float | None) -> T:
        usual_s = self._settings.rank_timeout_s if call.tells_deadline else self._settings.timeout_s
        deadline = Deadline(usual_s if timeout_s is None else timeout_s)
        allowance_s = self._settings.network_allowance_s
        attempts = Attempts(
            self._settings.retry, self._budget, deadline, may_repeat=call.may_repeat
        )
        while True:
            try:
                return self._attempt(timed(call, deadline, allowance_s), deadline)
            except PodiumError as failure:
                pause_s = attempts.pause_s(failure, needed_s=allowance_s)
                if pause_s is None or self._http.is_closed:
                    raise
            time.sleep(pause_s)

    def _attempt(self, call: Call[T], deadline: Deadline) -> T:
        if not self._connections.acquire(timeout=max(deadline.left_s(), 0)):
            raise TimedOut(f"{call.method} {call.path}: no connection was free in time")
        try:
            with contextlib.closing(
                self._http.send(self._request(call, deadline), stream=True)
            ) as response:
                body = _read(response, deadline)
        except UnicodeEncodeError as error:
            raise calls.unsent(call, error) from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"{call.method} {call.path}: {type(error).__name__}") from error
        except httpx.DecodingError as error:
            raise ReplyUnreadable(f"{call.method} {call.path}: {error}") from error
        except httpx.RequestError as error:
            words = str(error) or type(error).__name__
            raise Unreachable(f"{call.method} {call.path}: {words}") from error
        finally:
            self._connections.release()
        return calls.read_reply(call, response.status_code, response.headers, body)

    def _request(self, call: Call[T], deadline: Deadline) -> httpx.Request:
        return self._http.build_request(
            call.method,
            call.path,
            params=call.query or None,
            content=call.body(),
            headers=headers_of(call),
            extensions={"timeout": TimeLeft(deadline)},
        )


def _read(response: httpx.Response, deadline: Deadline) -> bytes:
    """The whole body; a sender that trickles is held to the deadline too."""
    pieces = []
    for piece in response.iter_bytes():
        pieces.append(piece)
        if deadline.left_s() <= 0:
            raise httpx.ReadTimeout("the body was not complete in time", request=response.request)
    return b"".join(pieces)
