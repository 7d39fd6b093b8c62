"""The machine itself: Python, processor, cores, memory, files."""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from service.doctor.findings import Finding, note, ok, problem
from service.engines.memory import MIB, size
from service.processes.plan import usable_cores

OLDEST_PYTHON = (3, 11)
LEAST_MEMORY_BYTES = 512 * MIB
"""A worker takes some 400 MB with a small model."""
FEW_FILES, TOO_FEW_FILES = 4096, 256
"""Every connection is an open file, and every worker has some hundred more."""

FEATURES = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "AVX-512 BF16": {"avx512_bf16"},
    "AMX int8": {"amx_int8"},
    "AMX bf16": {"amx_bf16"},
    "NEON": {"asimd"},
    "dot product": {"asimddp"},
}
"""What makes scoring on a CPU faster, by any of the names that Linux has for it."""


def machine_findings(root: Path = Path("/")) -> Iterator[Finding]:
    """What the machine has.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    yield _python()
    yield _processor(root)
    yield _cores(root)
    yield _memory(root)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def open_files(limit: int) -> Finding:
    """How many files this process may have open."""
    if limit in {resource.RLIM_INFINITY, -1}:
        return ok("open files", "no limit")
    advice = f"raise it to {FEW_FILES} or more, such as by `ulimit -n` or LimitNOFILE of systemd"
    if limit < TOO_FEW_FILES:
        return problem("open files", f"at most {limit}: too few for workers and callers", advice)
    if limit < FEW_FILES:
        return note("open files", f"at most {limit}, one for every connection", advice)
    return ok("open files", f"at most {limit}")


def _python() -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return problem("Python", found, f"use Python {wanted} or newer")
    return ok("Python", found)


def _processor(root: Path) -> Finding:
    fields = _fields(root / "proc/cpuinfo")
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    if not flags:
        found = f"{name}; the system does not say what it can do"
        return note("processor", found, "podium bench measures what it does")
    has = [feature for feature, names in FEATURES.items() if names & flags]
    found = f"{name}: {', '.join(has) or 'none of the extensions that speed up scoring'}"
    if not has:
        return note("processor", found, "expect a fraction of the speed of a newer processor")
    return ok("processor", found)


def _cores(root: Path) -> Finding:
    usable, there = usable_cores(root), os.cpu_count() or 1
    if usable < there:
        found = f"{usable} of {there} may be used (affinity or control group)"
        return ok("cores", found)
    return ok("cores", f"{usable} usable")


def _memory(root: Path) -> Finding:
    available = _available_bytes(root)
    limits = [limit for limit in (available, _group_left_bytes(root)) if limit is not None]
    if not limits:
        advice = f"see to {size(LEAST_MEMORY_BYTES)} for each worker"
        return note("memory", "the system does not say how much is free", advice)
    free = min(limits)
    where = " in this control group" if available is None or free < available else ""
    if free < LEAST_MEMORY_BYTES:
        advice = f"give it {size(LEAST_MEMORY_BYTES)} for each worker, more for large models"
        return problem("memory", f"{size(free)} free{where}", advice)
    return ok("memory", f"{size(free)} free{where}")


def _available_bytes(root: Path) -> int | None:
    words = _fields(root / "proc/meminfo").get("MemAvailable", "").split()
    return int(words[0]) << 10 if words else None


def _group_left_bytes(root: Path) -> int | None:
    """Of our control group as a container sees it, version 2."""
    group = root / "sys/fs/cgroup"
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    if not limit.isdecimal():
        return None
    return max(0, int(limit) - (int(used) if used.isdecimal() else 0))


def _fields(file: Path) -> dict[str, str]:
    """Lines of the form ``name : value``; of a name's values the first."""
    found: dict[str, str] = {}
    for line in _text(file).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""
