"""The metrics page of one process."""

from service.telemetry import Telemetry
from service.telemetry.merging import encode_snapshot, merged_page


def page_of(telemetry: Telemetry, accept: str = "") -> tuple[bytes, str]:
    """The page and its content type."""
    return merged_page([encode_snapshot(list(telemetry.metrics.families()))], accept)
