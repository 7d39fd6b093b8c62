"""What is around the service: its address, disk, clock, and the collector of its traces."""

import ctypes
import shutil
from collections.abc import Iterator, Mapping

from service.clock import Clock
from service.doctor.findings import Finding, note, ok, problem
from service.doctor.ready import Unready, ask_ready
from service.engines.memory import MIB, size
from service.errors import StartupError
from service.serving.listener import bind
from service.settings import LoadedSettings, ServerSettings

LITTLE_DISK_BYTES = 1024 * MIB
BUILT_AFTER = 1_767_225_600.0
"""2026-01-01: no clock that is right says less."""
_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""


def address_finding(server: ServerSettings) -> Finding:
    """Whether the address can be listened on; one of a Podium that runs already is fine."""
    where = f"{server.host}:{server.port}"
    if server.port == 0:
        return ok("address", f"a free port of {server.host} is picked")
    try:
        bind(server).close()
    except StartupError as error:
        try:
            ask_ready(f"http://{where}")
        except Unready as reply:
            if not reply.is_podium:
                found, _, advice = str(error).partition("; ")
                return problem("address", found, f"end what uses it, or {advice}")
        return ok("address", f"a Podium runs at {where}")
    return ok("address", f"{where} is free")


def disk_finding(loaded: LoadedSettings) -> Finding:
    """Room for the spool of events and the embedded servers' files."""
    directory = loaded.state_directory
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free, spool = shutil.disk_usage(place).free, loaded.settings.events.max_spool_mb * MIB
    found = f"{size(free)} free for {directory}"
    advice = "make room, or set state_directory to another disk"
    if free < spool:
        return problem("disk", f"{found}, and the event spool may take {size(spool)}", advice)
    if free < spool + LITTLE_DISK_BYTES:
        return note("disk", f"{found}, of which the event spool may take {size(spool)}", advice)
    return ok("disk", found)


def clock_finding(clock: Clock) -> Finding:
    """Whether the time is right, as far as the machine knows by itself."""
    now = clock.wall()
    if now < BUILT_AFTER:
        return problem("clock", "it is years behind", "set it; NTP keeps it right")
    state = _adjtimex()
    if state == _UNSYNCHRONISED:
        advice = "run chrony or systemd-timesyncd, on the host of a container"
        return note("clock", "nothing keeps it in step (the kernel says: unsynchronised)", advice)
    return ok("clock", "is kept in step" if state is not None else "is set")


def _adjtimex() -> int | None:
    """The kernel's view of its clock, read only; None where there is no such call."""
    try:
        read = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError, TypeError):
        return None
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: nothing is set
    state = int(read(buffer))
    return None if state < 0 else state


def collector_findings(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Whether traces get to the collector that the OTEL_* variables name."""
    from service.telemetry.variables import export_settings

    try:
        wanted = export_settings(variables).endpoint_configured
    except StartupError as error:
        yield problem("collector", str(error), "correct the variable, or unset it")
        return
    if not wanted:
        found = "none is configured, so no traces are sent (OTEL_EXPORTER_OTLP_ENDPOINT)"
        yield ok("collector", found)
        return
    yield _collector(*_endpoint(variables), _headers(variables))


def _endpoint(variables: Mapping[str, str]) -> tuple[str, bool]:
    """Where traces go, and whether by gRPC."""
    protocol = variables.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", variables.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    )
    is_grpc = protocol.strip() == "grpc"
    own = variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    base = base or f"http://localhost:{4317 if is_grpc else 4318}"
    return own or (base if is_grpc else f"{base.rstrip('/')}/v1/traces"), is_grpc


def _headers(variables: Mapping[str, str]) -> dict[str, str]:
    """What lets us in."""
    from opentelemetry.util.re import parse_env_headers

    both = variables.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    own = variables.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS", both)
    return dict(parse_env_headers(own, liberal=True))


def _collector(endpoint: str, is_grpc: bool, headers: dict[str, str]) -> Finding:
    import socket
    from urllib.parse import urlsplit

    import httpx

    shown = endpoint.partition("?")[0]
    advice = "start it, or correct OTEL_EXPORTER_OTLP_ENDPOINT"
    try:
        if is_grpc:
            parts = urlsplit(endpoint)
            socket.create_connection((parts.hostname or "", parts.port or 4317), 2.0).close()
            return ok("collector", f"{shown} takes connections")
        # An export of no spans, which is no bytes at all.
        reply = httpx.post(
            endpoint,
            content=b"",
            headers={**headers, "Content-Type": "application/x-protobuf"},
            timeout=2.0,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        return problem("collector", f"{shown} cannot be reached ({reason})", advice)
    if reply.status_code in {401, 403}:
        found = f"{shown} answers {reply.status_code}: it does not let us in"
        return problem("collector", found, "correct OTEL_EXPORTER_OTLP_HEADERS")
    if not reply.is_success:
        return problem("collector", f"{shown} answers {reply.status_code} to traces", advice)
    return ok("collector", f"{shown} takes traces")
