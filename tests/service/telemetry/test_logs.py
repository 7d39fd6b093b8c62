"""Log lines that machines parse, people read, and nobody's secrets are in."""

import io
import json
import logging
import re
import sys
import threading
import warnings

import pytest
import uvicorn

from service.telemetry import ExportSettings, configure_logging
from service.telemetry.logs import JsonFormatter, announce, log_what_nobody_catches

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
log = logging.getLogger("service.shop")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restore_logging():
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "opentelemetry.exporter")
    before = [
        (logger, logger.handlers, logger.level, logger.propagate)
        for logger in map(logging.getLogger, names)
    ]
    yield
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def stream():
    stream = io.StringIO()
    configure_logging("info", stream)
    return stream


@pytest.fixture
def terminal():
    stream = Terminal()
    configure_logging("info", stream)
    return stream


def lines(stream) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_logger_and_message(stream):
    log.info("loaded %s in %d ms", "market@3f9c2a1b", 12)

    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "service.shop",
        "message": "loaded market@3f9c2a1b in 12 ms",
    }


def test_the_level_is_obeyed(stream):
    log.debug("nobody sees this")

    assert stream.getvalue() == ""


async def test_a_line_of_a_request_carries_its_trace_and_identity(stream, collector, open_shop):
    shop = open_shop()
    shop.after_reply = lambda: log.info("recorded")
    async with shop.client() as http:
        await http.post("/v1/rank", json={"request_id": "r-81"})
    shop.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    (line,) = [line for line in lines(stream) if line["message"] == "recorded"]
    assert line["trace_id"] == server.trace_id.hex()
    assert line["span_id"] == server.span_id.hex()
    assert int(line["trace_flags"], 16) & 1
    assert line["request_id"] == "r-81"
    assert line["variant"] == "fp16-rollout:fp16"


async def test_without_a_collector_lines_still_carry_the_trace_of_the_caller(stream, open_shop):
    shop = open_shop(export=ExportSettings())
    shop.after_reply = lambda: log.info("recorded")
    async with shop.client() as http:
        context = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        await http.post("/v1/rank", json={}, headers=context)
        await http.post("/v1/rank", json={})

    first, second = (line for line in lines(stream) if line["message"] == "recorded")
    assert (first["trace_id"], first["span_id"], first["trace_flags"]) == (TRACE, CALLER, "01")
    assert "trace_id" not in second


async def test_a_line_outside_a_request_belongs_to_none(stream, open_shop):
    shop = open_shop(export=ExportSettings())
    async with shop.client() as http:
        await http.post("/v1/rank", json={"request_id": "r-81"})
    log.info("idle")

    assert "request_id" not in lines(stream)[-1]


def fail() -> None:
    try:
        raise KeyError("i9")
    except KeyError as error:
        raise RuntimeError("no such item") from error


def test_an_exception_is_one_field_of_one_line(stream):
    try:
        fail()
    except RuntimeError:
        log.exception("failed")

    (line,) = lines(stream)
    error = line["error"]
    assert (error["type"], error["message"]) == ("RuntimeError", "no such item")
    assert error["causes"] == ["KeyError: 'i9'"]
    assert re.fullmatch(r".*test_logs\.py:\d+ fail", error["stack"][-1])


def test_a_chain_of_causes_ends_where_the_code_says_so(stream):
    try:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("told") from None
    except ValueError:
        log.exception("failed")

    assert lines(stream)[0]["error"]["causes"] == []


def test_what_the_call_site_adds_is_in_the_line_and_cannot_replace_our_fields(stream):
    extra = {"rows": 128, "level": "forged", "path": re.compile("x"), "share": 0.5}
    log.info("batch", extra=extra)

    (line,) = lines(stream)
    assert (line["rows"], line["share"], line["level"]) == (128, 0.5, "info")
    assert line["path"] == "re.compile('x')"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("redis://app:hunter2@10.0.0.7:6379/0 is away", "redis://***@10.0.0.7:6379/0 is away"),
        ("rediss://:p%40ss@cache", "rediss://***@cache"),
        ("Authorization: Bearer pk_live_123", "Authorization: Bearer ***"),
        ("{'authorization': 'basic dXNlcg=='}", "{'authorization': 'basic ***'}"),
        ("http://127.0.0.1:8080/v1/rank", "http://127.0.0.1:8080/v1/rank"),
    ],
)
def test_credentials_that_slip_into_a_line_are_masked(stream, said, shown):
    log.info(said)
    log.info("extra", extra={"about": said})
    try:
        raise ConnectionError(said)
    except ConnectionError:
        log.exception("error")

    message, extra, error = lines(stream)
    assert message["message"] == shown
    assert extra["about"] == shown
    assert error["error"]["message"] == shown


def test_text_that_utf8_cannot_hold_is_still_a_line(stream):
    # Given to our handler alone: pytest records what is logged, and could not send it on.
    ours = next(h for h in logging.getLogger().handlers if getattr(h, "stream", None) is stream)
    record = log.makeRecord(log.name, logging.INFO, "shop.py", 1, "broken \ud800 half", (), None)
    ours.handle(record)

    assert lines(stream)[0]["message"] == "broken \\ud800 half"


def test_on_a_terminal_a_line_is_for_people(terminal):
    log.warning("cache is away", extra={"store": "cache"})

    assert re.fullmatch(
        r"\d\d:\d\d:\d\d WARNING service\.shop cache is away store=cache\n", terminal.getvalue()
    )


def test_on_a_terminal_an_exception_stays_on_its_line(terminal):
    try:
        fail()
    except RuntimeError:
        log.exception("failed")

    (line,) = terminal.getvalue().splitlines()
    assert "| RuntimeError: no such item < KeyError: 'i9' (" in line
    assert re.search(r"\(\S*test_logs\.py:\d+ fail < ", line)


def test_a_message_can_neither_forge_a_line_nor_command_the_terminal(terminal):
    log.info("bad\nname \x1b[2J\u2028")

    (line,) = terminal.getvalue().split("\n")[:-1]
    assert line.endswith(r"bad\nname \x1b[2J\u2028")


def test_uvicorn_speaks_through_our_lines_and_writes_no_access_log(stream):
    server = uvicorn.Config(app=lambda scope: None, log_config=None, access_log=False)
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info("GET / 200")

    assert server.access_log is False
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    assert [line["message"] for line in lines(stream)] == ["Started"]


def test_libraries_do_not_write_a_line_per_request_or_retry(stream):
    logging.getLogger("httpx").info("HTTP Request: GET")
    logging.getLogger("opentelemetry.exporter.otlp").warning("Transient error, retrying")
    logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export")

    assert [line["message"] for line in lines(stream)] == ["Failed to export"]


def test_warnings_are_lines_too(stream):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging("info", stream)
        warnings.warn("old setting", stacklevel=1)

    assert "old setting" in lines(stream)[-1]["message"]


def test_configuring_twice_does_not_write_twice(stream):
    configure_logging("info", stream)
    log.info("once")

    assert len(lines(stream)) == 1


def test_what_callers_send_is_no_warning_to_who_operates_us(stream):
    server = logging.getLogger("uvicorn.error")
    server.warning("Invalid HTTP request received.")
    server.warning("Unsupported upgrade request.")
    server.error("Exception in ASGI application")

    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("error", "uvicorn")


def test_a_line_whose_arguments_do_not_fit_is_a_line_all_the_same():
    told = {"msg": "%d of %s", "args": ("many", "all"), "rows": 1 << 90}

    line = json.loads(JsonFormatter().format(logging.makeLogRecord(told)))

    assert line["message"] == "%d of %s ('many', 'all')"
    assert line["rows"] == str(1 << 90)


@pytest.fixture
def hooks(monkeypatch):
    for module, hook in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    log_what_nobody_catches()


def test_what_ends_a_thread_is_one_line(stream, hooks):
    def fail_alone() -> None:
        raise RuntimeError("first line\nsecond line")

    thread = threading.Thread(target=fail_alone, name="podium-gpu")
    thread.start()
    thread.join()

    (line,) = lines(stream)
    assert line["message"] == "podium-gpu ended by an error"
    assert line["error"]["message"] == "first line\nsecond line"
    assert "fail_alone" in line["error"]["stack"][-1]


def test_what_ends_the_process_is_one_line(stream, hooks):
    try:
        fail()
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)

    (line,) = lines(stream)
    assert (line["level"], line["error"]["type"]) == ("critical", "RuntimeError")


def test_the_welcome_is_for_people_on_a_terminal_and_one_line_elsewhere():
    welcome = "Podium serves\n  curl http://h -H 'Authorization: Bearer $PODIUM_API_KEY'\n"
    pipe, terminal = io.StringIO(), Terminal()
    configure_logging("error", pipe)
    announce(welcome, pipe)
    announce(welcome, terminal)

    assert terminal.getvalue() == welcome
    (line,) = lines(pipe)
    assert line["message"] == welcome
