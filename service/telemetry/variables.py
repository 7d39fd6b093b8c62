"""What the standard OTEL_* variables ask for, as far as Podium's own behaviour depends on it.

The OpenTelemetry SDK reads the rest itself when the exporter is made:
endpoint, headers, certificates, compression, time-out, sampler, resource.
"""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from service.errors import StartupError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

Protocol = Literal["http/protobuf", "grpc"]


class ExportSettings(Struct, frozen=True, kw_only=True):
    """Where spans go and how many may be under way.

    The defaults of the queue are not the SDK's: its 2,048 spans are full
    after 0.4 s at 1,000 requests a second, and it waits 5 s.
    """

    endpoint_configured: bool = False
    """Whether spans are recorded and sent at all."""
    protocol: Protocol = "http/protobuf"
    """HTTP goes to port 4318 of most collectors, gRPC to port 4317."""
    sampler_configured: bool = False
    """Whether OTEL_TRACES_SAMPLER decides about sampling, and not our setting."""
    max_queue_spans: int = 16_384
    max_batch_spans: int = 2_048
    delay_ms: int = 1_000


def export_settings(variables: Mapping[str, str]) -> ExportSettings:
    """Read the OTEL_* variables; an empty one counts as absent, as the specification says.

    Args:
        variables: The environment, or as much of it as starts with OTEL_.

    Raises:
        StartupError: one line that names the variable, what it may be and what it is.
    """
    given = {name: value.strip() for name, value in variables.items() if value.strip()}
    queue = _positive(given, "OTEL_BSP_MAX_QUEUE_SIZE", 16_384)
    return ExportSettings(
        endpoint_configured=_is_exported(given),
        protocol=_protocol(given),
        sampler_configured="OTEL_TRACES_SAMPLER" in given,
        max_queue_spans=queue,
        # A queue smaller than a batch is refused by the SDK; a small queue
        # that somebody asked for means small batches.
        max_batch_spans=min(_positive(given, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 2_048), queue),
        delay_ms=_positive(given, "OTEL_BSP_SCHEDULE_DELAY", 1_000),
    )


def _is_exported(given: Mapping[str, str]) -> bool:
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = given.get("OTEL_TRACES_EXPORTER")
    if exporter == "none":
        return False
    if exporter not in (None, "otlp"):
        raise StartupError(f"OTEL_TRACES_EXPORTER may be otlp or none, it is {exporter!r}")
    endpoints = [name for name in _ENDPOINTS if name in given]
    for name in endpoints:
        _check_url(name, given[name])
    return bool(endpoints) or exporter == "otlp"


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise StartupError(f"{name} must be a URL such as http://127.0.0.1:4318, it is {url!r}")


def _protocol(given: Mapping[str, str]) -> Protocol:
    for name in _PROTOCOLS:
        if given.get(name) == "grpc":
            return "grpc"
        if given.get(name) == "http/protobuf":
            return "http/protobuf"
        if name in given:
            raise StartupError(
                f"{name} must be http/protobuf (port 4318 of most collectors) or grpc "
                f"(port 4317), it is {given[name]!r}"
            )
    return "http/protobuf"


def _positive(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise StartupError(f"{name} must be a whole number above 0, it is {text!r}")
    return int(text)
