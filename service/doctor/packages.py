"""The Python packages that Podium names, and the one that there must be once: ONNX Runtime."""

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from service.doctor.findings import Finding, note, ok, problem
from service.engines.loading import ONNX_RUNTIME_DISTRIBUTIONS

DISTRIBUTION = "podium"
FOR_DEVELOPERS = frozenset({"dev", "verify"})
_REINSTALL = "uninstall both, then install podium[cpu] or podium[gpu]"


def package_findings() -> Iterator[Finding]:
    """Packages without which nothing runs, and the extras."""
    try:
        named = by_extra(requires(DISTRIBUTION) or ())
    except PackageNotFoundError:
        found = "podium itself is not installed, so nothing says what it needs"
        yield note("packages", found, "pip install it: `make serve` does")
        named = {}
    for extra, names in named.items():
        if extra not in FOR_DEVELOPERS:
            yield of_extra(extra, {name: installed_version(name) for name in names})
    yield from onnx_runtime({name: installed_version(name) for name in ONNX_RUNTIME_DISTRIBUTIONS})


def by_extra(requirements: Sequence[str]) -> dict[str, list[str]]:
    """Names of packages by the extra that wants them, ``""`` for all that are always needed."""
    found: dict[str, list[str]] = {"": []}
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", requirement)
        if name:
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def of_extra(extra: str, versions: Mapping[str, str | None]) -> Finding:
    """Whether all packages of an extra are there; an extra may be left out."""
    missing = [name for name, found in versions.items() if found is None]
    there = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    if not extra:
        if missing:
            found = f"missing: {', '.join(missing)}"
            return problem("packages", found, "install podium again")
        return ok("packages", f"all {len(versions)} are there")
    subject = f"extra [{extra}]"
    if not missing:
        return ok(subject, there)
    some = f"{there}; not installed: " if there else "not installed: "
    return note(subject, some + ", ".join(missing), f"if you want it, install podium[{extra}]")


def onnx_runtime(versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """ONNX Runtime: exactly one distribution of it, and one that works."""
    subject = "ONNX Runtime"
    there = [f"{name} {found}" for name, found in versions.items() if found]
    if not there:
        yield problem(subject, "is not installed", "install podium[cpu] or podium[gpu]")
        return
    if len(there) > 1:
        found = f"{' and '.join(there)} are both installed and overwrite each other"
        yield problem(subject, found, _REINSTALL)
        return
    try:
        providers = importlib.import_module("onnxruntime").get_available_providers()
    except (ImportError, AttributeError) as error:
        # What is left when one of two distributions was uninstalled.
        yield problem(subject, f"{there[0]} is broken ({error})", _REINSTALL)
        return
    yield ok(subject, f"{there[0]}, built with {', '.join(providers)}")


def installed_version(distribution: str) -> str | None:
    """Of a Python package; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
