"""Which version of a model an operator made its default: a small file that outlives restarts.

``models.json`` in the state directory, model to version. A model that is not
in it serves its newest version, as without the file. All workers read it when
they start; one change at a time is made, whoever of them was asked.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from service.errors import ChangeUnderWay, LoadRefused

FILE = "models.json"
_LOCK = "models.lock"
_log = logging.getLogger(__name__)


class Activations:
    """The file, and the right to change it.

    Args:
        directory: The state directory.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / FILE
        self._lock = directory / _LOCK

    def version(self, model: str) -> str | None:
        """The version that was made the default; None if none was."""
        return self._read().get(model)

    def keep(self, model: str, version: str) -> None:
        """Remember a model's default.

        Raises:
            LoadRefused: the file cannot be written; nothing was changed.
        """
        unfinished = self.file.with_suffix(".new")
        try:
            with unfinished.open("wb") as file:
                file.write(msgspec.json.encode({**self._read(), model: version}, order="sorted"))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.file)
        except OSError as error:
            raise LoadRefused(f"{self.file} cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Be the only one that changes models, of all workers; the kernel frees it if we die.

        Raises:
            ChangeUnderWay: somebody else is.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ChangeUnderWay("another change of models is under way") from None
            yield

    def _read(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("%s cannot be read, so the newest versions serve: %s", self.file, error)
            return {}
