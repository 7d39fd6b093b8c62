"""One run of load against one server, with what it cost and who else used the machine."""

import os
import resource
import time
from pathlib import Path

import numpy as np
from msgspec import Struct

from tests.bench.generator import Load, send
from tests.bench.servers import Server
from tests.bench.workload import Work

CHECK_CONNECTIONS = 8
CHECK_S = 1.0
TOLERANCE = 1e-6
"""Of a score, against direct ONNX Runtime on the whole fp32 graph."""


class Run(Struct, frozen=True, kw_only=True):
    """The figures of one run."""

    server: str
    work: str
    phase: str
    connections: int
    rate_per_s: float | None
    """Of the open loop."""
    per_s: float
    """Answers with status 200."""
    p50_ms: float
    p99_ms: float
    statuses: dict[int, int]
    unanswered: int
    broken: int
    cpu_us: float
    """Of the server's processes, per answer."""
    generator_us: float
    """CPU of the load generator, per answer."""
    late_p99_ms: float
    """The generator's own lateness; part of the latencies."""
    other_cores: float
    """Mean of the cores that neither of them used: the noise."""
    in_time_per_s: float
    """Answers with status 200 within the time that the caller gave."""
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    """From when the request was due until it was refused with 429 or 503."""


def check(server: Server, work: Work) -> float:
    """Compare replies with direct ONNX Runtime, several requests at a time.

    Returns:
        The largest difference of a score.

    Raises:
        RuntimeError: a reply is missing or wrong.
    """
    met = send(_load(server, work, CHECK_S, CHECK_CONNECTIONS, keep_replies=True))
    if set(met.latencies) != {200} or len(met.replies) < 10 or met.broken:
        counts = {status: len(values) for status, values in met.latencies.items()}
        raise RuntimeError(f"{server.name} on {work.name}: statuses {counts}")
    try:
        error = max(work.slate_error(i, server.kind.slate(reply)) for i, reply in met.replies)
    except (ValueError, KeyError) as wrong:
        raise RuntimeError(f"{server.name} on {work.name}: {wrong!r}") from wrong
    if error > TOLERANCE:
        raise RuntimeError(f"{server.name} on {work.name}: a score is off by {error:.1e}")
    return error


def measure(
    server: Server,
    work: Work,
    *,
    phase: str,
    seconds: float,
    connections: int,
    rate_per_s: float | None = None,
    seed: int = 1,
    within_s: float = float("inf"),
) -> Run:
    """Run load and account for the machine meanwhile."""
    load = _load(server, work, seconds, connections, rate_per_s=rate_per_s, seed=seed)
    cpu, busy, own, began = server.cpu_s(), _busy_s(), _children_s(), time.perf_counter()
    met = send(load)
    took = time.perf_counter() - began
    cpu, own = server.cpu_s() - cpu, _children_s() - own
    refused = [s for status in (429, 503) for s in met.latencies.get(status, ())]
    answers = max(1, met.answered)
    return Run(
        server=server.name,
        work=work.name,
        phase=phase,
        connections=connections,
        rate_per_s=rate_per_s,
        per_s=met.per_s,
        p50_ms=met.latency_ms(0.5),
        p99_ms=met.latency_ms(0.99),
        statuses={status: len(values) for status, values in met.latencies.items()},
        unanswered=met.unanswered,
        broken=met.broken,
        cpu_us=1e6 * cpu / answers,
        generator_us=1e6 * met.cpu_s / answers,
        late_p99_ms=1e3 * met.late_p99_s,
        other_cores=max(0.0, (_busy_s() - busy - cpu - own) / took),
        in_time_per_s=sum(s <= within_s for s in met.latencies.get(200, ())) / met.seconds,
        refused_p50_ms=1e3 * float(np.quantile(refused, 0.5)) if refused else None,
        refused_p99_ms=1e3 * float(np.quantile(refused, 0.99)) if refused else None,
    )


def _load(
    server: Server,
    work: Work,
    seconds: float,
    connections: int,
    *,
    rate_per_s: float | None = None,
    seed: int = 1,
    keep_replies: bool = False,
) -> Load:
    return Load(
        host="127.0.0.1",
        port=server.port,
        path=server.kind.path,
        bodies=[server.kind.body(body) for body in work.bodies],
        seconds=seconds,
        connections=connections,
        rate_per_s=rate_per_s,
        seed=seed,
        keep_replies=keep_replies,
    )


def _busy_s() -> float:
    """CPU seconds that the machine has worked since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
