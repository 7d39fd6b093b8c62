"""The folder of compiled TensorRT plans."""

from pathlib import Path

import msgspec

from ranking_models.tensorrt.plan_cache import MANIFEST, PLAN, PlanManifest
from service.doctor.findings import Finding, note, ok
from service.engines.memory import size
from service.settings import PLANS, LoadedSettings


def plan_directory(loaded: LoadedSettings) -> Path:
    """Where these settings keep compiled plans."""
    configured = loaded.settings.engine.plan_directory
    return loaded.state_directory / PLANS if configured is None else loaded.path(configured)


def plan_finding(directory: Path) -> Finding:
    """What is in it, and what of that is damaged; digests are checked when a plan is loaded."""
    folders = sorted(file.parent for file in directory.glob(f"*/{MANIFEST}"))
    if not folders:
        return ok("plans", f"none in {directory} yet: TensorRT's first load builds them")
    whole = {folder: manifest for folder in folders if (manifest := _manifest(folder))}
    bytes_of_all = sum(manifest.plan.bytes for manifest in whole.values())
    gpus = sorted({manifest.source.gpu for manifest in whole.values()})
    found = f"{len(whole)} in {directory}, {size(bytes_of_all)}"
    found += f", for {', '.join(gpus)}" if gpus else ""
    damaged = [folder.name for folder in folders if folder not in whole]
    if damaged:
        advice = "delete them; they are built again when they are needed"
        return note("plans", f"{found}; damaged: {', '.join(damaged)}", advice)
    return ok("plans", found)


def _manifest(folder: Path) -> PlanManifest | None:
    """None if the plan is not what its manifest says."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=PlanManifest)
        same_size = (folder / PLAN).stat().st_size == manifest.plan.bytes
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return manifest if same_size else None
