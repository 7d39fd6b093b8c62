"""The definitions that were last read well, for a worker that starts again.

The file may have been broken meanwhile. The other workers keep what they have,
and one that ended for another reason must not be kept from serving by it.
"""

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from experiments.definition import Experiment
from service.rollouts.copy import replace_file

FILE = "definitions.json"
_log = logging.getLogger(__name__)


class _Kept(Struct, frozen=True):
    service: str
    definitions: tuple[Experiment, ...]


class LastGood:
    """The file in the state directory. All workers of a service write the same into it.

    Args:
        directory: The state directory.
        service: The name of this run of the service: what another has left is no help, since
            its settings may have been others.
    """

    def __init__(self, directory: Path, service: str) -> None:
        self.file, self._service = directory / FILE, service

    def read(self) -> tuple[Experiment, ...] | None:
        """What this run of the service has read well before; None if nothing."""
        try:
            kept = msgspec.json.decode(self.file.read_bytes(), type=_Kept)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return kept.definitions if kept.service == self._service else None

    def keep(self, definitions: tuple[Experiment, ...]) -> None:
        """Replace what was kept; what cannot be kept is logged, and serves all the same."""
        try:
            replace_file(self.file, msgspec.json.encode(_Kept(self._service, definitions)))
        except OSError as error:
            _log.warning(
                "%s cannot be written, so a worker that starts again needs a valid file of "
                "experiments: %s",
                self.file,
                error.strerror,
            )
