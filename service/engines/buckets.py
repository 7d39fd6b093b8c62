"""The batch sizes that an engine prepares for; it pads a batch to the next of them."""

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.settings import EngineSettings


def buckets_of(bundle: Bundle, settings: EngineSettings) -> tuple[int, ...]:
    """Those of the settings that the bundle was checked for; a larger one is an untested shape.

    Raises:
        InputError: all of them are larger.
    """
    checked = bundle.manifest.max_batch_rows
    buckets = tuple(rows for rows in settings.row_buckets if rows <= checked)
    if not buckets:
        named = ", ".join(map(str, settings.row_buckets))
        raise InputError(
            f"none of engine.row_buckets ({named}) is within the {checked} rows that "
            f"{bundle.manifest.name}@{bundle.manifest.version} was checked with"
        )
    return buckets
