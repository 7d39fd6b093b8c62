"""``/v1/experiments``: what runs, and what it has shown so far."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from experiments.definition import Experiment
from experiments.report import Report, render_html
from experiments.source import ExperimentSource
from service.api.access import Access
from service.api.given import Given
from service.api.openapi import ReportOperation
from service.errors import InvalidRequest, UnknownExperiment
from service.messages import ExperimentReply, ExperimentsReply
from service.rollouts.live import LiveExperiments
from service.rollouts.reporting import ExperimentReports


@get("/v1/experiments", operation_id="experiments", summary="Experiments", tags=["experiments"])
async def experiments(
    request: Request[Any, Any, Any],
    source: Given[LiveExperiments],
    access: Given[Access],
) -> ExperimentsReply:
    """Every experiment as it is in force, whether it is the newest, and the digest of all."""
    access.require(request, "read")
    assigner = source.current()
    return ExperimentsReply(
        experiments=tuple(_in_force(found, source) for found in assigner.experiments),
        config_digest=assigner.digest,
        source=source.status(),
    )


@get(
    "/v1/experiments/{key:str}",
    operation_id="experiment",
    summary="One experiment",
    tags=["experiments"],
)
async def experiment(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    source: Given[LiveExperiments],
    access: Given[Access],
) -> ExperimentReply:
    """The definition that is in force, with what was decided besides put in."""
    access.require(request, "read")
    return _in_force(find_experiment(source, key), source)


def _in_force(found: Experiment, source: LiveExperiments) -> ExperimentReply:
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    standing, unready = source.standing(found.key), source.unready.get(found.key)
    return ExperimentReply(**fields, standing=standing, unready=unready)


@get(
    "/v1/experiments/{key:str}/report",
    operation_class=ReportOperation,
    operation_id="experimentReport",
    summary="The figures of an experiment",
    tags=["experiments"],
    responses={200: ResponseSpec(Report, description="The report", generate_examples=False)},
)
async def report(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    experiment_reports: Given[ExperimentReports],
    access: Given[Access],
) -> Response[Report] | Response[str]:
    """The verdict, and all that it rests on: as JSON, or with ``Accept: text/html`` as a page."""
    access.require(request, "read")
    page = _wants_page(request)
    found = await experiment_reports.report(
        key, with_statistics=_truth(request, "statistics") and not page
    )
    if not page:
        return Response(found, headers={"Vary": "Accept"})
    html = await asyncio.to_thread(render_html, found)
    return Response(html, media_type="text/html", headers=_PAGE_HEADERS)


_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}
"""The page holds all that it needs, and nothing that it holds can run."""


def _wants_page(request: Request[Any, Any, Any]) -> bool:
    wanted: str | None = request.query_params.get("format")
    if wanted not in (None, "json", "html"):
        raise InvalidRequest(f"format must be json or html, got {wanted[:40]!r}", "$.format")
    if wanted is None:
        return request.accept.best_match(["application/json", "text/html"]) == "text/html"
    return wanted == "html"


def _truth(request: Request[Any, Any, Any], name: str) -> bool:
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidRequest(f"{name} must be true or false, got {text[:40]!r}", f"$.{name}")
    return text == "true"


def find_experiment(source: ExperimentSource, key: str) -> Experiment:
    """The experiment of this key.

    Raises:
        UnknownExperiment: there is none; names those that there are.
    """
    known = {experiment.key: experiment for experiment in source.current().experiments}
    if key not in known:
        raise UnknownExperiment(key, tuple(known))
    return known[key]
