"""Everything that serving needs, looked at once."""

import os
from collections.abc import Iterator
from pathlib import Path

from service.clock import SystemClock
from service.doctor.bundles import bundle_findings
from service.doctor.findings import Examination, Finding, ok, problem
from service.doctor.gpu import gpu_findings
from service.doctor.machine import machine_findings
from service.doctor.packages import package_findings
from service.doctor.plans import plan_directory, plan_finding
from service.doctor.stores import store_findings
from service.doctor.surroundings import (
    address_finding,
    clock_finding,
    collector_findings,
    disk_finding,
)
from service.settings import LoadedSettings, otel_variables


def examine(loaded: LoadedSettings) -> Examination:
    """Look at this machine as the service with these settings would find it; takes seconds."""
    return Examination(findings=tuple(_findings(loaded)))


def _findings(loaded: LoadedSettings) -> Iterator[Finding]:
    yield from machine_findings()
    yield from package_findings()
    yield address_finding(loaded.settings.server)
    yield _state(loaded.state_directory)
    yield disk_finding(loaded)
    yield clock_finding(SystemClock())
    yield from collector_findings(otel_variables())
    yield from store_findings(loaded.settings)
    yield from bundle_findings(loaded)
    yield from gpu_findings()
    yield plan_finding(plan_directory(loaded))


def _state(directory: Path) -> Finding:
    """Whether the state directory is there, or can be made; nothing is made now."""
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return ok("state directory", f"{directory} can be written")
    advice = "give us the right to, or set state_directory to another place"
    return problem("state directory", f"{directory} cannot be written", advice)
