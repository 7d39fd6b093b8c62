"""A service in memory that ranks by rule, keeps what it was told, and fails when asked to."""

from collections.abc import Callable

import httpx
import msgspec
import pytest

from ranking_models.marketplace import Marketplace, MarketplaceSpec
from service.messages import (
    CacheReport,
    EventResult,
    EventsReply,
    ExperimentRef,
    FeedbackEvent,
    ModelRef,
    RankedItem,
    RankReply,
    RankRequest,
    Timing,
)

SPEC = MarketplaceSpec(seed=7, items=300, users=200, sellers=20, categories=6, segments=3)
Failure = Callable[[int, httpx.Request], httpx.Response | None]


class MemoryService:
    """Keeps the candidates' order for even units and reverses it for odd ones.

    Requests and events must decode as the real service decodes them.
    """

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.ranked: list[RankRequest] = []
        self.replies: dict[str, RankReply] = {}
        self.sessions: list[str] = []
        """Of each reply."""
        self.events: list[FeedbackEvent] = []
        self.fail: Failure = lambda _number, _request: None
        """Gives the response that replaces the proper one, or raises."""

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if failure := self.fail(len(self.requests), request):
            return failure
        if request.url.path == "/v1/events":
            return self._take(request)
        if request.url.path == "/v1/rank":
            asked = msgspec.json.decode(request.content, type=RankRequest)
            self.ranked.append(asked)
            self.sessions.append(str(asked.session_id))
            return self._reply(asked.candidate_ids(), asked.user.id or asked.session_id, asked.k)
        anchor = request.url.path.removeprefix("/v1/items/").removesuffix("/recommendations")
        query = request.url.params
        self.sessions.append(query["session_id"])
        near = [f"i{(int(anchor[1:]) + step) % SPEC.items:05d}" for step in range(1, 30)]
        return self._reply(near, query.get("user_id", query["session_id"]), int(query["k"]))

    def _reply(self, candidates: list[str], unit: str | None, k: int) -> httpx.Response:
        odd = int(str(unit).rpartition("-")[2].removeprefix("u")) % 2
        slate = candidates[::-1] if odd else candidates
        reply = RankReply(
            slate_id=f"slate-{len(self.replies)}",
            items=tuple(RankedItem(item, 0.5, at + 1) for at, item in enumerate(slate[:k])),
            model=ModelRef(name="rule", version="1", precision="fp32", engine="none"),
            experiments=(
                ExperimentRef(
                    key="order", phase=1, variant="reversed" if odd else "kept", reason="SPLIT"
                ),
            ),
            exposure=f"token-{len(self.replies)}",
            cache=CacheReport(result="miss", hits=0, misses=len(candidates)),
            degraded="popularity" if len(self.replies) == 3 else None,
            timing_ms=Timing(total=1.0),
        )
        self.replies[reply.slate_id] = reply
        return httpx.Response(200, content=msgspec.json.encode(reply))

    def _take(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == "application/json"
        taken = msgspec.json.decode(request.content, type=list[FeedbackEvent])
        self.events += taken
        results = tuple(EventResult(event_id=e.event_id, status="accepted") for e in taken)
        return httpx.Response(202, content=msgspec.json.encode(EventsReply(results=results)))


@pytest.fixture(scope="session")
def marketplace() -> Marketplace:
    return Marketplace.generate(SPEC)


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
async def client(service):
    transport = httpx.MockTransport(service.answer)
    async with httpx.AsyncClient(base_url="http://memory", transport=transport) as client:
        yield client
