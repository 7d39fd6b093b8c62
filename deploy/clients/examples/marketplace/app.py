"""A small marketplace that lets Podium order its shop window.

    pip install -r requirements.txt && pip install --no-deps ../../python
    PODIUM_URL=http://127.0.0.1:8080 uvicorn app:app --port 9000

What it shows: a ranking inside a deadline, and a page without it when Podium is away; a feature
flag that switches rankings off (OpenFeature, the shop's own); an experiment's variant read as a
flag (OpenFeature, from Podium by OFREP) and handed back with a page's ranking; one trace from the
visitor through the shop into Podium (OpenTelemetry); impressions and clicks after the answer.
"""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, unquote, urlencode

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from podium_client import Client, FeedbackEvent, PodiumError, Slate, events
from podium_client.fallback import in_input_order, ranked
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

CATALOGUE = [f"i{number}" for number in range(1, 13)]
"""What the shop window may hold, in the shop's own order."""
PLACES = 6
EXPERIMENT = "model"
RANKINGS = "podium-rankings"
"""The shop's flag: off, every page is in the shop's own order and Podium is not asked."""

tracer = trace.get_tracer("marketplace")


class SwitchedOff(PodiumError):
    """The shop does not want rankings now."""

    code = "switched_off"


@dataclass
class Shop:
    """What the handlers need."""

    podium: Client
    switches: OpenFeatureClient
    experiments: OpenFeatureClient

    def window(self, user: str) -> Slate:
        """The front page's items. Never fails: at worst they are in the shop's order."""
        if not self.switches.get_boolean_value(RANKINGS, True):
            return in_input_order(CATALOGUE, PLACES, SwitchedOff())
        return self.podium.rank_or_input_order(CATALOGUE, user=user, k=PLACES)

    def beside(self, item: str, user: str) -> Slate:
        """What to show beside an item, by the variant that the flag system tells."""
        context = EvaluationContext(targeting_key=user)
        variant = self.experiments.get_string_value(EXPERIMENT, "", context)
        external = {EXPERIMENT: variant} if variant else {}
        try:
            found = self.podium.item_recommendations(
                item, user_id=user, k=PLACES, external=external
            )
        except PodiumError as error:
            return in_input_order([one for one in CATALOGUE if one != item], PLACES, error)
        return ranked(found)

    def report(self, seen: tuple[FeedbackEvent, ...]) -> None:
        """Send what happened. It runs after the page was answered, so nobody waits for it."""
        with contextlib.suppress(PodiumError):  # a lost impression must not cost a page
            self.podium.events(seen)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    url = os.environ.get("PODIUM_URL", "http://127.0.0.1:8080")
    provider = TracerProvider(resource=Resource.create({"service.name": "marketplace"}))
    # Where to: OTEL_EXPORTER_OTLP_ENDPOINT, a collector on this machine without it.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    switch = "off" if os.environ.get("SHOP_RANKINGS") == "off" else "on"
    flags = {RANKINGS: InMemoryFlag(switch, {"on": True, "off": False})}
    api.set_provider(InMemoryProvider(flags), domain="shop")
    api.set_provider(OFREPProvider(url, timeout=0.1), domain="podium")
    with Client(url) as podium:
        app.state.shop = Shop(podium, api.get_client("shop"), api.get_client("podium"))
        yield
    provider.shutdown()


def front(request: Request) -> Response:
    with _traced(request, "GET /"):
        user = _user(request)
        return _page(request, "Shop window", _shop(request).window(user), user)


def item(request: Request) -> Response:
    with _traced(request, "GET /items/{item}"):
        user, name = _user(request), request.path_params["item"]
        return _page(request, f"Item {name}", _shop(request).beside(name, user), user)


def click(request: Request) -> Response:
    """A click arrives in a request of its own: the link carries what its event must say."""
    with _traced(request, "GET /click"):
        said = request.query_params
        try:
            clicked = events.event(
                "click",
                slate_id=said["slate"],
                item_id=said["item"],
                position=int(said["position"]),
                exposure=said.get("exposure"),
            )
        except (KeyError, ValueError):
            return PlainTextResponse("this is no link of ours", status_code=400)
        after = BackgroundTask(_shop(request).report, (clicked,))
        return RedirectResponse(f"/items/{said['item']}", status_code=303, background=after)


def _page(request: Request, title: str, slate: Slate, user: str) -> Response:
    links = "".join(
        f'<li><a href="{escape(_link(slate, name, place))}">{escape(name)}</a></li>'
        for place, name in enumerate(slate.items, start=1)
    )
    page = HTMLResponse(
        f"<!doctype html><title>{escape(title)}</title><h1>{escape(title)}</h1><ol>{links}</ol>",
        headers={
            "X-Ranked": "yes" if slate.is_ranked else f"no: {slate.reason}",
            "X-Variants": _variants(slate),
        },
        background=BackgroundTask(_shop(request).report, events.impressions(slate)),
    )
    page.set_cookie("user", quote(user), httponly=True, samesite="lax")
    return page


def _variants(slate: Slate) -> str:
    known = () if slate.reply is None else slate.reply.experiments
    return ", ".join(f"{one.key}={one.variant} {one.reason}" for one in known)


def _link(slate: Slate, name: str, place: int) -> str:
    if slate.reply is None:
        return f"/items/{name}"
    said = {"slate": slate.reply.slate_id, "item": name, "position": place}
    exposed = {} if slate.exposure is None else {"exposure": slate.exposure}
    return f"/click?{urlencode({**said, **exposed})}"


def _traced(request: Request, name: str) -> contextlib.AbstractContextManager[trace.Span]:
    """The span of a request. The client hands it on, and Podium's own spans become its children."""
    parent = propagate.extract(request.headers)
    return tracer.start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER)


def _user(request: Request) -> str:
    known = request.query_params.get("user") or unquote(request.cookies.get("user", ""))
    return known or uuid.uuid4().hex


def _shop(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop


def health(request: Request) -> Response:
    return PlainTextResponse("ok")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", front),
        Route("/items/{item}", item),
        Route("/click", click),
        Route("/health", health),
    ],
)
