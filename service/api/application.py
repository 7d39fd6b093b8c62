"""The HTTP application: every route, and what its handlers are handed."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException

from service.api import (
    api_docs,
    cache,
    dashboard,
    events,
    experiment_changes,
    experiments,
    force_tokens,
    health,
    items,
    models,
    ofrep,
    open_inference,
    rank,
)
from service.api.openapi import openapi_config
from service.api.problems import HANDLERS, from_framework
from service.settings import ServerSettings


def application(dependencies: Mapping[str, object], settings: ServerSettings) -> Litestar:
    """The application.

    Args:
        dependencies: What handlers can ask for, by the name of their parameter.
        settings: For the largest body.
    """

    def provide(value: object) -> Provide:
        return Provide(lambda: value, use_cache=True, sync_to_thread=False)

    return Litestar(
        route_handlers=[
            rank.rank,
            items.recommendations,
            events.events,
            experiments.experiments,
            experiments.experiment,
            experiments.report,
            *experiment_changes.VERBS,
            experiment_changes.decisions,
            force_tokens.force_token,
            cache.warm,
            cache.flush,
            cache.view,
            cache.entry,
            models.loaded,
            models.load,
            models.activate,
            models.unload,
            ofrep.evaluate_flag,
            ofrep.evaluate_flags,
            open_inference.routes(settings),
            health.live,
            health.ready,
            health.metrics,
            *dashboard.ROUTES,
            *api_docs.ROUTES,
        ],
        dependencies={name: provide(value) for name, value in dependencies.items()},
        exception_handlers={**HANDLERS, HTTPException: _from_framework},
        openapi_config=openapi_config(version("podium")),
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
    )


def _from_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What no route serves is refused in the words of the protocol that was meant."""
    if open_inference.is_open_inference(request.scope["path"]):
        return open_inference.framework_refusal(request, error)
    return from_framework(request, error)
