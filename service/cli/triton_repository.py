"""``podium export --triton-repository``: graphs of a bundle as models of a Triton server."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from service.cli.answers import print_json, print_lines
from service.cli.bundle_location import locate
from service.settings import BatchPolicy

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle
    from ranking_models.triton.repository import TritonModel

Repository = Annotated[
    Path | None,
    typer.Option(
        "--triton-repository",
        help="Write every --precision of the bundle as a model of a Triton server into this "
        "folder too; with --bundle alone, only that.",
        metavar="DIR",
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--triton-settings",
        help="Settings whose [batching] the server is to follow. Without it: the defaults.",
        metavar="FILE",
    ),
]
Instances = Annotated[
    int | None,
    typer.Option(
        "--triton-instances",
        help="Copies of a model, of each GPU if on GPUs. Without it: as [batching] says, or 1.",
        min=1,
        max=1024,
    ),
]
OnGpu = Annotated[
    bool, typer.Option("--triton-gpu", help="Run the graph on the server's GPUs, not its CPU.")
]
PlanFolder = Annotated[
    Path | None,
    typer.Option(
        "--triton-plan",
        help="A plan that podium compile built, in place of the one graph of --precision.",
        metavar="DIR",
    ),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-triton-cache", help="Keep answers out of the server's response cache."),
]


class TritonTarget(NamedTuple):
    """Where to write models, and how they are to run."""

    repository: Path
    settings: Path | None
    instances: int | None
    on_gpu: bool
    plan: Path | None
    no_cache: bool
    precisions: tuple[str, ...]


def target_of(
    repository: Path | None,
    settings: Path | None,
    instances: int | None,
    on_gpu: bool,
    plan: Path | None,
    no_cache: bool,
    precisions: tuple[str, ...],
) -> TritonTarget | None:
    """What the options ask for; None if no repository is named.

    Raises:
        typer.BadParameter: they do not go together.
    """
    if repository is None:
        if settings or instances or on_gpu or plan or no_cache:
            raise typer.BadParameter("the --triton options need --triton-repository: where to")
        return None
    precisions = tuple(dict.fromkeys(chain.from_iterable(map(_graphs_of, precisions))))
    if "bf16" in precisions:
        raise typer.BadParameter("Triton has no bf16, which is fp32 as OpenVINO computes it")
    if plan is not None and len(precisions) != 1:
        raise typer.BadParameter("--triton-plan is of one precision: name it with --precision")
    return TritonTarget(repository, settings, instances, on_gpu, plan, no_cache, precisions)


def export_models(target: TritonTarget, out: Path, reference: str, *, as_json: bool) -> None:
    """Write models of a bundle that there is, and tell of them.

    Raises:
        InputError, StartupError: as `write_models`; or there is no such bundle.
    """
    from ranking_models.bundle import Bundle

    bundle = Bundle.open(locate(out, reference))
    models = write_models(target, bundle)
    if as_json:
        name = f"{bundle.manifest.name}@{bundle.manifest.version}"
        return print_json({"model": name, "triton": documents(models)})
    return print_lines(told(models))


def write_models(target: TritonTarget, bundle: "Bundle") -> tuple["TritonModel", ...]:
    """Write one model for each precision, if every one of them can be.

    Raises:
        InputError: one of them cannot be written. None is, unless it is the disk that fails.
        StartupError: the settings cannot be read.
    """
    from ranking_models.tensorrt.plan_cache import read_plan
    from ranking_models.triton.repository import RepositoryOptions, planned_model, write_model

    policy = _policy(target.settings)
    preferred = policy.preferred_batch_rows
    options = RepositoryOptions(
        max_batch_rows=policy.max_batch_rows or bundle.manifest.max_batch_rows,
        preferred_batch_rows=() if preferred is None else (preferred,),
        max_queue_delay_s=policy.max_queue_delay_s,
        preserve_ordering=policy.preserve_ordering,
        instances=target.instances or policy.instances or 1,
        device="gpu" if target.on_gpu else "cpu",
        response_cache=not target.no_cache,
        plan=None if target.plan is None else read_plan(target.plan),
    )
    for name in target.precisions:  # or the first would be in the way of a second try
        planned_model(target.repository, bundle, name, options)
    return tuple(
        write_model(target.repository, bundle, name, options) for name in target.precisions
    )


def told(models: Sequence["TritonModel"]) -> tuple[str, ...]:
    """What was written, for people."""
    return tuple(
        f"wrote {model.path} for Triton's {model.config.backend} backend, "
        f"batches of at most {model.config.max_batch_size:,} rows"
        for model in models
    )


def documents(models: Sequence["TritonModel"]) -> list[dict[str, object]]:
    """What was written, for programs."""
    return [
        {
            "name": model.name,
            "path": model.path,
            "backend": model.config.backend,
            "max_batch_size": model.config.max_batch_size,
        }
        for model in models
    ]


def _graphs_of(precision: str) -> tuple[str, ...]:
    return ("int8-cpu", "int8-trt") if precision == "int8" else (precision,)


def _policy(file: Path | None) -> BatchPolicy:
    if file is None:
        return BatchPolicy()
    from service.settings import load_settings

    return load_settings(file).settings.batching
