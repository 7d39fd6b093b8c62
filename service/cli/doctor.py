"""``podium doctor``: what this machine has for serving, and what its GPU really does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.aligned import aligned
from service.cli.answers import AsJson, print_json, print_json_text, print_lines
from service.cli.running_service import address_of
from service.cli.settings_flags import settings_file

if TYPE_CHECKING:
    from service.doctor.findings import Examination
    from service.doctor.proof.figures import Proof
    from service.settings import LoadedSettings


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file (TOML). Without it: the demonstration.", metavar="FILE"),
    ] = None,
    as_json: AsJson = False,
    ready: Annotated[
        bool,
        typer.Option(
            "--ready",
            help="Only ask a running service whether it takes traffic: for health checks. Where "
            "it listens is in the settings, or --url.",
        ),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help="For --ready: where the service listens.", metavar="URL"),
    ] = None,
    gpu_proof: Annotated[
        bool, typer.Option("--gpu-proof", help="Prove and measure the GPU; takes minutes.")
    ] = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="For the proof: a bundle's folder, or name or name@version. Without it: that of "
            "the first deployment.",
            metavar="BUNDLE",
        ),
    ] = None,
    device: Annotated[
        int | None,
        typer.Option(help="For the proof: the GPU, in CUDA's order.", min=0, max=1_023),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="For the proof: about how long it may take. 240 without it.", min=1),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="For the proof: a file for its JSON.", metavar="FILE")
    ] = None,
) -> int:
    """Say what this machine has for serving, what is missing, and what to do about it.

    The exit code is 1 if something must be mended; notes alone leave it at 0.

    Examples: podium doctor --config podium.toml

    podium doctor --ready

    podium doctor --gpu-proof --out gpu.json
    """
    from service.settings import load_settings

    if ready and gpu_proof:
        raise typer.BadParameter("give either --ready or --gpu-proof")
    if url is not None and (config is not None or not ready):
        raise typer.BadParameter("--url goes with --ready, and in place of --config")
    if ready and url is not None:
        return _ask(url, as_json=as_json)
    loaded = load_settings(settings_file(config))
    if ready:
        return _ask(address_of(loaded), as_json=as_json)
    if gpu_proof:
        return _prove(loaded, bundle, device, seconds, out, as_json=as_json)
    if not (bundle is None and device is None and seconds is None and out is None):
        raise typer.BadParameter("--bundle, --device, --seconds and --out go with --gpu-proof")
    return _examine(loaded, as_json=as_json)


def _ask(url: str, *, as_json: bool) -> int:
    from ranking_models.errors import InputError
    from service.doctor.ready import Unready, ask_ready

    try:
        reply = ask_ready(url)
    except Unready as reason:
        raise InputError(str(reason)) from None
    if as_json:
        print_json({"url": url, "status": reply.status, "components": reply.components})
    else:
        print(f"{url}: {reply.status}")
    return 0


def _examine(loaded: "LoadedSettings", *, as_json: bool) -> int:
    from service.doctor.examine import examine

    found = examine(loaded)
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 1 if found.problems else 0


def _print(found: "Examination") -> None:
    rows = [
        (one.state, one.subject, f"{one.found}{f' -> {one.advice}' if one.advice else ''}")
        for one in found.findings
    ]
    print_lines(aligned(rows))
    problems = "1 problem" if found.problems == 1 else f"{found.problems} problems"
    typer.echo(problems if found.problems else "ready to serve")


def _prove(
    loaded: "LoadedSettings",
    bundle: str | None,
    device: int | None,
    seconds: float | None,
    out: Path | None,
    *,
    as_json: bool,
) -> int:
    import tempfile

    from msgspec.structs import replace

    from ranking_models.bundle import Bundle
    from service.cli.bundle_location import locate
    from service.cli.proof_lines import proof_lines
    from service.clock import SystemClock
    from service.deployments import bundle_directory
    from service.doctor.proof.figures import encode_proof
    from service.doctor.proof.rig import Effort
    from service.doctor.proof.run import prove_gpu

    settings, clock = loaded.settings, SystemClock()
    began = clock.now()
    _require_place(out)
    reference = bundle or next(iter(settings.deployments.values())).model
    engine = settings.engine if device is None else replace(settings.engine, device=device)
    with tempfile.TemporaryDirectory(prefix="podium-gpu-proof-") as plans:
        proof = prove_gpu(
            Bundle.open(locate(bundle_directory(loaded), reference)),
            engine,
            Path(plans),
            clock=clock,
            tell=lambda what: typer.echo(f"{clock.now() - began:6.1f} s  {what}", err=True),
            effort=Effort() if seconds is None else Effort(seconds=seconds),
        )
    if out is not None:
        _write(out, encode_proof(proof))
    if as_json:
        print_json_text(encode_proof(proof))
    else:
        print_lines(proof_lines(proof))
    return _verdict(proof)


def _verdict(proof: "Proof") -> int:
    """Failures go to standard error, after everything else."""
    for failure in proof.failures:
        typer.echo(f"podium: the proof failed: {failure}", err=True)
    return 1 if proof.failures else 0


def _require_place(out: Path | None) -> None:
    """Before minutes of work, not after."""
    from ranking_models.errors import InputError

    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"{out}: there is no such folder to write to")


def _write(out: Path, content: bytes) -> None:
    from ranking_models.errors import InputError

    try:
        out.write_bytes(content)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from error
