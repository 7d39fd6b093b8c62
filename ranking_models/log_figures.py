"""What a log is, for the manifest of a model that was made from it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ranking_models.manifest import DataSource

if TYPE_CHECKING:  # which brings pyarrow
    from ranking_models.logs import Logs


def data_source(logs: "Logs") -> DataSource:
    """Its name, licence, sizes and time span."""
    return DataSource(
        name=logs.declared.name,
        licence=logs.declared.licence,
        interactions=len(logs.label),
        users=len(logs.users.ids),
        items=len(logs.items.ids),
        first_event=rfc3339(float(logs.seconds.min())),
        last_event=rfc3339(float(logs.seconds.max())),
    )


def rfc3339(seconds: float) -> str:
    """Unix time as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
