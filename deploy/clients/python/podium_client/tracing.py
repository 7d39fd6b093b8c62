"""The caller's trace, handed on as W3C trace context where OpenTelemetry is installed."""

try:
    from opentelemetry import propagate
except ImportError:

    def trace_headers() -> dict[str, str]:
        """Nothing to hand on: there is no tracing in this process."""
        return {}

else:

    def trace_headers() -> dict[str, str]:
        """``traceparent`` and what else the process propagates; empty outside of a span."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier
