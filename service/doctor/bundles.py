"""The models that the settings deploy: whole, scoring as they should, and who can run them."""

from collections.abc import Iterator

from msgspec.structs import replace

from ranking_models.bundle import Bundle, find_bundle
from ranking_models.errors import InputError
from service.clock import SystemClock
from service.deployments import bundle_directory
from service.deployments.activations import Activations
from service.doctor.findings import Finding, note, ok, problem
from service.doctor.plans import plan_directory
from service.engines.loading import ONNX_RUNTIME_CPU, OPENVINO, TRITON, EngineLoader
from service.engines.precisions import precision_of
from service.errors import StartupError
from service.settings import DeploymentSettings, LoadedSettings

_NO_ENGINE = "popularity"
_LOADED_AT_ONCE = frozenset({OPENVINO, TRITON})
"""Engines that are tried: a server may be away, and OpenVINO loads in a second."""


def bundle_findings(loaded: LoadedSettings) -> Iterator[Finding]:
    """Every deployment: its bundle, its golden rows on the CPU, and its engines."""
    engine = replace(loaded.settings.engine, calibrate=False)
    loader = EngineLoader(engine, plan_directory(loaded), SystemClock())
    for name, deployment in loaded.settings.deployments.items():
        scored, bundle = _bundle(loaded, loader, name, deployment)
        yield scored
        if deployment.engines != (_NO_ENGINE,):
            yield from _engines(loader, name, deployment, bundle)


def _bundle(
    loaded: LoadedSettings, loader: EngineLoader, name: str, deployment: DeploymentSettings
) -> tuple[Finding, Bundle | None]:
    """How the bundle is, and the bundle where it is fit to serve."""
    subject = f"deployment {name}"
    try:
        bundle = Bundle.open(find_bundle(bundle_directory(loaded), _reference(loaded, deployment)))
        bundle.graph(deployment.precision)  # without it a deployment does not start
        model = f"{bundle.manifest.name}@{bundle.manifest.version}"
        if deployment.engines == (_NO_ENGINE,):
            return ok(subject, f"{model} is whole"), bundle
        precision = precision_of(ONNX_RUNTIME_CPU, deployment.precision)
        loader.load(ONNX_RUNTIME_CPU, bundle, precision, 1).close()
    except (InputError, StartupError) as error:
        advice = "make the bundle anew or restore it; podium bundle verify looks at it alone"
        return problem(subject, str(error), advice), None
    rows = bundle.golden[0].rows
    found = f"{model} is whole, and its {rows} golden rows score right in {precision}"
    return ok(subject, found), bundle


def _reference(loaded: LoadedSettings, deployment: DeploymentSettings) -> str:
    """The version that was activated, where the settings leave it open."""
    model = deployment.model
    version = None if "@" in model else Activations(loaded.state_directory).version(model)
    return model if version is None else f"{model}@{version}"


def _engines(
    loader: EngineLoader, name: str, deployment: DeploymentSettings, bundle: Bundle | None
) -> Iterator[Finding]:
    """An engine that is absent is a problem only where no other one can take its place.

    Args:
        bundle: ONNX Runtime on the CPU has just scored its golden rows; None: not well.
    """
    subject = f"engines of {name}"
    asked = [e for e in deployment.engines if e != ONNX_RUNTIME_CPU or bundle is not None]
    reasons = {e: _refusal(loader, e, bundle, deployment.precision) for e in asked}
    there = [engine for engine, reason in reasons.items() if reason is None]
    if there:
        yield ok(subject, f"{', '.join(there)} can run here")
    for engine, reason in reasons.items():
        if reason is not None:
            found, advice = f"{engine}: {reason}", f"or leave it out of deployments.{name}.engines"
            yield note(subject, found, advice) if there else problem(subject, found, advice)


def _refusal(loader: EngineLoader, engine: str, bundle: Bundle | None, wanted: str) -> str | None:
    """Why an engine would not serve; None if it would, as far as a second can show."""
    reason = loader.absent(engine)
    if reason is not None or bundle is None or engine not in _LOADED_AT_ONCE:
        return reason
    try:
        loader.load(engine, bundle, precision_of(engine, wanted), 1).close()
    except StartupError as error:
        return str(error)
    return None
