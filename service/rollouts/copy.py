"""The last known standings in a file, for a start while the event server is away."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from experiments.standing import Standing

FILE = "standings.json"
_log = logging.getLogger(__name__)


class StandingCopy:
    """The file in the state directory. All workers of a machine write the same into it.

    Args:
        directory: The state directory.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / FILE

    def read(self) -> Mapping[str, Standing]:
        """What was kept; nothing where there is no file, or none that can be read."""
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=dict[str, Standing])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning(
                "%s cannot be read, so no standings are known from it: %s", self.file, error
            )
            return {}

    def keep(self, standings: Mapping[str, Standing]) -> None:
        """Replace what was kept, whole or not at all.

        Raises:
            OSError: the file cannot be written; what was kept before is still there.
        """
        replace_file(self.file, msgspec.json.encode(standings, order="sorted"))


def replace_file(file: Path, content: bytes) -> None:
    """Write a file of a state directory anew, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
