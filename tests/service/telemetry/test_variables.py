"""The standard variables, as the OpenTelemetry specification names them."""

import pytest

from service.errors import StartupError
from service.telemetry import ExportSettings, export_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def test_nothing_is_exported_unless_asked_for():
    assert export_settings({}) == ExportSettings()
    assert not export_settings({}).endpoint_configured


@pytest.mark.parametrize(
    "variables",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector.example/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "false"},
        ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_an_endpoint_or_the_exporter_by_name_asks_for_it(variables):
    assert export_settings(variables).endpoint_configured


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_can_be_turned_off(variables):
    assert not export_settings(variables).endpoint_configured


def test_the_queue_is_sized_for_a_thousand_requests_a_second_unless_told_otherwise():
    default, told = (
        export_settings({}),
        export_settings(
            {
                "OTEL_BSP_MAX_QUEUE_SIZE": "100",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
                "OTEL_BSP_SCHEDULE_DELAY": "50",
            }
        ),
    )

    assert (default.max_queue_spans, default.max_batch_spans, default.delay_ms) == (
        16_384,
        2_048,
        1_000,
    )
    assert (told.max_queue_spans, told.max_batch_spans, told.delay_ms) == (100, 10, 50)


def test_a_small_queue_means_small_batches():
    assert export_settings({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}).max_batch_spans == 100


@pytest.mark.parametrize(
    ("variables", "protocol"),
    [
        ({}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "grpc"),
        (
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "http/protobuf",
        ),
    ],
)
def test_the_variable_for_traces_wins_over_the_one_for_everything(variables, protocol):
    assert export_settings(ENDPOINT | variables).protocol == protocol


def test_a_sampler_in_the_variables_is_noticed():
    assert export_settings({"OTEL_TRACES_SAMPLER": "always_on"}).sampler_configured
    assert not export_settings({"OTEL_TRACES_SAMPLER": ""}).sampler_configured


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "must be a URL"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"}, "otlp or none, it is 'zipkin'"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/protobuf .* or grpc"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "above 0"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "1s"}, "OTEL_BSP_SCHEDULE_DELAY must be a whole number"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_name_of_the_variable(variables, says):
    with pytest.raises(StartupError, match=says) as failure:
        export_settings(variables)
    assert "\n" not in str(failure.value)
