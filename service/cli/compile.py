"""``podium compile``: a bundle's graph becomes a TensorRT plan for this machine's GPU."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.answers import AsJson, print_json


def compile(  # noqa: A001 - the verb
    bundle: Annotated[
        str, typer.Option(help="A bundle's folder, or name or name@version.", metavar="BUNDLE")
    ],
    precision: Annotated[str, typer.Option(help="Which of the bundle's graphs.")] = "fp16",
    device: Annotated[int, typer.Option(help="The GPU, in CUDA's order.", min=0)] = 0,
    bundles: Annotated[
        Path, typer.Option(help="Folder in which names are looked up.", metavar="DIR")
    ] = Path("bundles"),
    plans: Annotated[
        Path | None,
        typer.Option(
            help="Folder of all plans. Without it: where podium serve looks.", metavar="DIR"
        ),
    ] = None,
    buckets: Annotated[
        str, typer.Option(help="Rows per optimisation profile, rising.")
    ] = "64,128,256,512,1024",
    level: Annotated[
        int, typer.Option(help="How long TensorRT searches for fast kernels.", min=0, max=5)
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Build the TensorRT plan of a bundle for a GPU of this machine, or find it built.

    Example: podium compile --bundle movielens --precision fp16 --buckets 64,256,1024
    """
    from datetime import UTC, datetime

    from ranking_models.bundle import Bundle
    from ranking_models.tensorrt.build import BuildOptions
    from ranking_models.tensorrt.compile import compile_bundle
    from ranking_models.tensorrt.device import cuda_runtime, find_device, load_tensorrt
    from ranking_models.tensorrt.plan_cache import PlanCache
    from service.cli.bundle_location import locate
    from service.clock import SystemClock
    from service.settings import default_plan_directory

    rows = _rows(buckets)
    gpu = find_device(cuda_runtime(), device)  # first: without one TensorRT can end the process
    trt = load_tensorrt()
    compiled = compile_bundle(
        trt,
        Bundle.open(locate(bundles, bundle)),
        precision,
        gpu,
        PlanCache(plans or default_plan_directory()),
        buckets=rows,
        options=BuildOptions(optimisation_level=level),
        created=datetime.fromtimestamp(SystemClock().wall(), UTC),
    )
    if compiled.replaced:
        typer.echo(compiled.replaced, err=True)
    manifest = compiled.plan.manifest
    if as_json:
        return print_json(
            {
                "model": manifest.model,
                "precision": precision,
                "gpu": gpu.name,
                "built": compiled.built,
                "build_s": manifest.build_s,
                "bytes": manifest.plan.bytes,
                "buckets": rows,
                "plan": compiled.plan.path,
            }
        )
    how = f"built in {manifest.build_s:.1f} s" if compiled.built else "is there already"
    size = f"{manifest.plan.bytes:,} bytes, {len(rows)} profiles up to {rows[-1]:,} rows"
    typer.echo(f"{manifest.model} {precision} for {gpu.name}: {how}, {size}")
    return print(compiled.plan.path)


def _rows(buckets: str) -> tuple[int, ...]:
    from ranking_models.errors import InputError

    try:
        return tuple(int(rows) for rows in buckets.split(","))
    except ValueError:
        text = f"--buckets takes whole numbers with commas, such as 64,256; got {buckets!r}"
        raise InputError(text) from None
