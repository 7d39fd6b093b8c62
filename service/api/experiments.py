"""``/v1/experiments``: what runs, and what it has shown so far."""

from typing import Any

from litestar import Request, get
from litestar.params import FromPath

from experiments.definition import Experiment
from experiments.report import Report, build_report
from experiments.source import ExperimentSource
from service.api.access import Access
from service.api.given import Given
from service.clock import Clock
from service.errors import UnknownExperiment
from service.events.statistics import ReadStatistics
from service.messages import ExperimentsReply


@get("/v1/experiments", operation_id="experiments", summary="Experiments", tags=["experiments"])
async def experiments(
    request: Request[Any, Any, Any],
    source: Given[ExperimentSource],
    access: Given[Access],
) -> ExperimentsReply:
    """Every experiment as it is defined, and the digest of all definitions together."""
    access.require(request, "read")
    assigner = source.current()
    return ExperimentsReply(experiments=assigner.experiments, config_digest=assigner.digest)


@get(
    "/v1/experiments/{key:str}",
    operation_id="experiment",
    summary="One experiment",
    tags=["experiments"],
)
async def experiment(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    source: Given[ExperimentSource],
    access: Given[Access],
) -> Experiment:
    """The definition that is in force."""
    access.require(request, "read")
    return find_experiment(source, key)


@get(
    "/v1/experiments/{key:str}/report",
    operation_id="experimentReport",
    summary="The figures of an experiment",
    tags=["experiments"],
)
async def report(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    source: Given[ExperimentSource],
    statistics: Given[ReadStatistics],
    access: Given[Access],
    clock: Given[Clock],
) -> Report:
    """Users, CTR and latency per variant with intervals, and the difference to control."""
    access.require(request, "read")
    found = find_experiment(source, key)
    # The backlog first: what is added up between the two reads is then told as
    # missing and is there, and not the other way round.
    backlog = await statistics.backlog()
    sums = await statistics.read(found)
    return build_report(found, sums, as_of=clock.wall(), backlog=backlog)


def find_experiment(source: ExperimentSource, key: str) -> Experiment:
    """The experiment of this key.

    Raises:
        UnknownExperiment: there is none; names those that there are.
    """
    known = {experiment.key: experiment for experiment in source.current().experiments}
    if key not in known:
        raise UnknownExperiment(key, tuple(known))
    return known[key]
