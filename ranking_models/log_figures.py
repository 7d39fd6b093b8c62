"""What a log is, for the manifest of a model that was made from it."""

from datetime import UTC, datetime

from ranking_models.logs import Logs
from ranking_models.manifest import DataSource


def data_source(logs: Logs) -> DataSource:
    """Its name, licence, sizes and time span."""

    def rfc3339(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

    return DataSource(
        name=logs.declared.name,
        licence=logs.declared.licence,
        interactions=len(logs.label),
        users=len(logs.users.ids),
        items=len(logs.items.ids),
        first_event=rfc3339(float(logs.seconds.min())),
        last_event=rfc3339(float(logs.seconds.max())),
    )
