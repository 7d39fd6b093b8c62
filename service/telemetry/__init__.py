"""What Podium tells about itself: traces, metrics and log lines.

Nothing else in the service imports OpenTelemetry or the Prometheus client.
"""

from service.telemetry.asgi import Exchange
from service.telemetry.context import RequestTrace, on_behalf_of
from service.telemetry.logs import configure_logging
from service.telemetry.names import FallbackReason
from service.telemetry.outgoing import BatchTrace, batch_trace, in_batch, outgoing_call
from service.telemetry.ranking import Ranking
from service.telemetry.records import BatchMember, BatchRecord, EngineCall
from service.telemetry.stores import StoreCalls
from service.telemetry.telemetry import Telemetry, create_telemetry
from service.telemetry.tracing import note_failure
from service.telemetry.variables import ExportSettings, export_settings

__all__ = [
    "BatchMember",
    "BatchRecord",
    "BatchTrace",
    "EngineCall",
    "Exchange",
    "ExportSettings",
    "FallbackReason",
    "Ranking",
    "RequestTrace",
    "StoreCalls",
    "Telemetry",
    "batch_trace",
    "configure_logging",
    "create_telemetry",
    "export_settings",
    "in_batch",
    "note_failure",
    "on_behalf_of",
    "outgoing_call",
]
