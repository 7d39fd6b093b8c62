"""Log lines: JSON for machines, one readable line each on a terminal.

Every line that is written on behalf of a request carries its trace and
request id. Bodies are never logged; credentials in URLs and headers that slip
into a message are masked.
"""

import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

import msgspec

from service.telemetry.context import current_request

LogLevel = Literal["debug", "info", "warning", "error"]
Value = str | int | float | bool | None
_log = logging.getLogger(__name__)

_MAX_FRAMES = 20
_MAX_CAUSES = 5
_MAX_BITS = 64
"""Of an integer that every reader of JSON takes, with its sign."""
_CREDENTIALS = re.compile(
    r"(?<=://)[^/@\s]+(?=@)|(?<=\bbearer )[^\s'\"]+|(?<=\bbasic )[^\s'\"]+", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""Attributes of every record; all others came in by ``extra``."""
_UVICORN = "uvicorn.error"
"""All of uvicorn's lines but its access log, errors or not."""
_MISTAKES = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket")
_FOR_MACHINES = frozenset(("span_id", "trace_flags"))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, and context."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Value | dict[str, str | list[str]]] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": _name(record),
            "message": clean(_message(record)),
        }
        for name, value in _context(record):
            line.setdefault(name, value)
        error = _error(record)
        if error is not None:
            line["error"] = {
                "type": type(error).__qualname__,
                "message": clean(str(error)),
                "stack": _frames(error),
                "causes": [_summary(cause) for cause in _causes(error)],
            }
        return msgspec.json.encode(line).decode()


class TerminalFormatter(logging.Formatter):
    """One line for a person: local time, level, logger, message, then what is known besides."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        parts = [at, f"{record.levelname:<7}", _name(record), clean(_message(record))]
        parts += [f"{key}={value}" for key, value in _context(record) if key not in _FOR_MACHINES]
        error = _error(record)
        if error is not None:
            failures = [error, *_causes(error)]
            parts.append("| " + " < ".join(_summary(failure) for failure in failures))
            parts.append(f"({' < '.join(reversed(_frames(error)))})")
        # A line break in a message would forge a line, an escape the terminal.
        return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], " ".join(parts))


def configure_logging(level: LogLevel, stream: TextIO | None = None) -> None:
    """Send every logger of the process to one stream, as JSON unless it is a terminal.

    Args:
        level: The least that is written.
        stream: Standard error if None.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    _quieten()


def log_what_nobody_catches() -> None:
    """Let what ends a thread or the process be a line too, in place of a traceback of many."""

    def process(
        kind: type[BaseException], error: BaseException, stack: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, stack)
        else:
            _log.critical("the process ends by an error", exc_info=(kind, error, stack))

    def thread(ended: threading.ExceptHookArgs) -> None:
        name = "a thread" if ended.thread is None else ended.thread.name
        _log.error("%s ended by an error", name, exc_info=ended.exc_value)

    def ignored(lost: "sys.UnraisableHookArgs") -> None:
        _log.error("ignored: %s", lost.err_msg or lost.object, exc_info=lost.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = process, thread, ignored


def announce(text: str, stream: TextIO | None = None) -> None:
    """Write what a person is told at the start, whatever the log level.

    Args:
        text: Lines, as they stand on a terminal. Elsewhere they are one line like any other.
        stream: Standard error if None.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        told = {"time": _moment(time.time()), "level": "info", "logger": "service"}
        # Not cleaned: it names a variable of the shell where a log line could hold a key.
        text = msgspec.json.encode(told | {"message": text}).decode() + "\n"
    stream.write(text)
    stream.flush()


def _quieten() -> None:
    """Other libraries' loggers: through our handler, and without a line per request."""
    for name in ("uvicorn", _UVICORN):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger(_UVICORN).addFilter(_callers_mistakes)
    # Without a handler in reach uvicorn does not even format its access lines.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    for name in ("httpx", "httpcore", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A dead collector is one error per lost batch, without its retries.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)


def _callers_mistakes(record: logging.LogRecord) -> bool:
    """Whether to write a line of uvicorn's: what a caller sent is no warning to who operates us."""
    if str(record.msg).startswith(_MISTAKES):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return record.levelno >= logging.getLogger().level


def clean(text: str) -> str:
    """Text without credentials, and without halves of characters that UTF-8 cannot hold."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return _CREDENTIALS.sub("***", whole)


def _context(record: logging.LogRecord) -> Iterator[tuple[str, Value]]:
    """The request the line belongs to, and what the call site added by ``extra``."""
    request = current_request.get()
    if request is not None:
        yield from request.identity().items()
    for name, value in vars(record).items():
        if name not in _OWN:
            yield name, _plain(value)


def _plain(value: object) -> Value:
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int) and value.bit_length() < _MAX_BITS:
        return value
    return clean(str(value))


def _name(record: logging.LogRecord) -> str:
    return "uvicorn" if record.name == _UVICORN else record.name


def _moment(unix_s: float) -> str:
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    """Without a line logging would print a traceback in its place."""
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} {record.args}"


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _summary(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {clean(str(error))}"


def _frames(error: BaseException) -> list[str]:
    """Where it happened, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    while len(causes) < _MAX_CAUSES:
        hidden = error.__suppress_context__
        cause = error.__cause__ or (None if hidden else error.__context__)
        if cause is None:
            break
        causes.append(cause)
        error = cause
    return causes
