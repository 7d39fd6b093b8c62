"""Models, their versions and the GPU's memory, as ``/v1/models`` tells of them."""

from collections.abc import Collection

from service.deployments.deployment import Deployment
from service.engines.memory import MemoryState
from service.messages import GpuMemory, MemoryHold, ModelReport, VersionReport


def version_of(deployment: Deployment) -> tuple[str, str]:
    """The model and the version that a deployment serves with."""
    manifest = deployment.bundle.manifest
    return manifest.name, manifest.version


def model_reports(
    serving: Collection[Deployment], loaded: Collection[Deployment]
) -> tuple[ModelReport, ...]:
    """Every model with its versions, by name.

    Args:
        serving: Deployments that get requests.
        loaded: These, and those that only stand by.
    """
    versions = sorted({version_of(deployment) for deployment in loaded})
    return tuple(
        ModelReport(
            name=model,
            versions=tuple(_version(m, v, serving) for m, v in versions if m == model),
        )
        for model in sorted({model for model, _ in versions})
    )


def _version(model: str, version: str, serving: Collection[Deployment]) -> VersionReport:
    users = [d for d in serving if version_of(d) == (model, version)]
    return VersionReport(
        version=version,
        default=any(user.settings.model == model for user in users),
        deployments=tuple(user.name for user in users),
    )


def gpu_memory(state: MemoryState) -> GpuMemory | None:
    """What models hold of the GPU; None where none was ever loaded on one."""
    if state.limit_bytes is None:
        return None
    return GpuMemory(
        limit_bytes=state.limit_bytes,
        held_bytes=sum(hold.bytes for hold in state.holds),
        holds=tuple(MemoryHold(model=hold.model, bytes=hold.bytes) for hold in state.holds),
    )
