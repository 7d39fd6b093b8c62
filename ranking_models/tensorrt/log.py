"""What TensorRT says while it works. Its calls answer None or False; the reason is only here."""

import logging
from collections import deque
from typing import Any

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())  # without a handler of the program, nothing is printed

_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG,
}

_KEPT = 20
"""Errors; the first one of a failed call is the reason, later ones follow from it."""


class BuildLog:
    """Forwards TensorRT's messages to `logging` and remembers the last errors.

    TensorRT may call from threads of its own; a deque takes that.
    """

    def __init__(self, trt: Any) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT)
        # TensorRT takes only a subclass of its own class, and that is not known
        # before the module is there.
        kind = type("ForwardingLogger", (trt.ILogger,), {"log": self._forward})
        self.logger = kind()

    @property
    def errors(self) -> tuple[str, ...]:
        """The last error messages, oldest first."""
        return tuple(self._errors)

    def _forward(self, severity: Any, message: str) -> None:
        level = _LEVELS.get(severity.name, logging.WARNING)
        if level == logging.ERROR:
            self._errors.append(message)
        _LOG.log(level, "%s", message)
