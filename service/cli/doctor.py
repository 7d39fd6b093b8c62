"""``podium doctor``: what this machine has for serving, and what its GPU really does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.doctor.findings import Examination
    from service.doctor.proof.figures import Proof
    from service.settings import LoadedSettings


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file (TOML). Without it: the demonstration.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of lines.")] = False,
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

    Example: podium doctor --gpu-proof --out gpu.json
    """
    from service.settings import demo_settings_file, load_settings

    loaded = load_settings(config or demo_settings_file())
    if gpu_proof:
        return _prove(loaded, bundle, device, seconds, out, as_json=as_json)
    if not (bundle is None and device is None and seconds is None and out is None):
        raise typer.BadParameter("--bundle, --device, --seconds and --out go with --gpu-proof")
    return _examine(loaded, as_json=as_json)


def _examine(loaded: "LoadedSettings", *, as_json: bool) -> int:
    import msgspec

    from service.doctor.examine import examine

    found = examine(loaded)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _print(found)
    return 1 if found.problems else 0


def _print(found: "Examination") -> None:
    from service.cli.aligned import aligned

    rows = [
        (one.state, one.subject, f"{one.found}{f': {one.advice}' if one.advice else ''}")
        for one in found.findings
    ]
    for line in aligned(rows):
        typer.echo(line)
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
        typer.echo(encode_proof(proof).decode(), nl=False)
    else:
        for line in proof_lines(proof):
            typer.echo(line)
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
