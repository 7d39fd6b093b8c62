"""The two clients ask the same in the same words, and hand the caller's trace on."""

import inspect
import json
import re

import pytest
from podium_client import AsyncClient, Client, InvalidRequest, Unreachable


def surface(kind):
    return {
        name: inspect.signature(method)
        for name, method in vars(kind).items()
        if callable(method) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    blocking, awaited = surface(Client), surface(AsyncClient)
    blocking["aclose"] = blocking.pop("close")

    assert blocking == awaited
    assert all(inspect.iscoroutinefunction(getattr(AsyncClient, name)) for name in awaited)


def test_only_what_was_said_is_sent(peer):
    there = peer(None)

    with Client(there.url, api_key="secret") as client:
        client.rank_or_input_order(["a"], timeout_s=0.1)

    head, _, body = there.requests[0].partition(b"\r\n\r\n")
    assert set(json.loads(body)) == {"candidates", "timeout_ms"}
    assert b"authorization: bearer secret" in head.lower()
    assert b"user-agent: podium-client/" in head.lower()


def test_a_ranking_continues_the_trace_that_it_is_asked_in(peer):
    trace = pytest.importorskip("opentelemetry.trace")
    there = peer(None)
    context = trace.SpanContext(
        trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)
    )

    with (
        trace.use_span(trace.NonRecordingSpan(context)),
        Client(there.url) as client,
    ):
        client.rank_or_input_order(["a"], timeout_s=0.1)

    found = re.search(rb"traceparent: (\S+)", there.requests[0], re.IGNORECASE)
    assert found is not None
    assert found[1] == b"00-%032x-%016x-01" % (0xABC, 0xDEF)


def test_item_ids_and_decisions_that_an_address_cannot_carry_are_refused_here():
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="header"):
            client.item_recommendations("i1", external={"a": "b,c=d"})
        with pytest.raises(ValueError, match="list"):
            client.item_recommendations("i1", context={"tags": ["a"]})


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "wrong", ["podium:8080", "", "ftp://podium", "http://", "http://[::1", "http://podium?a=b"]
)
def test_what_is_no_address_does_not_look_like_a_service_that_is_away(kind, wrong):
    with pytest.raises(ValueError, match="base_url"):
        kind(wrong)


@pytest.mark.parametrize("key", ["secret\n", "sécret"])
def test_a_key_that_no_header_carries_is_refused_and_not_told(key):
    with pytest.raises(ValueError, match="api_key") as refused:
        Client("http://127.0.0.1:9", api_key=key)

    assert "cret" not in str(refused.value)


def test_candidates_may_come_only_once_and_are_shown_all_the_same():
    with Client("http://127.0.0.1:9") as client:
        slate = client.rank_or_input_order(iter(["i2", "i1"]))
        none = client.rank_or_input_order(["i2", "i1"], k=-1)

    assert (slate.items, none.items) == (("i2", "i1"), ())


def test_text_that_is_none_is_refused_as_by_the_service():
    with Client("http://127.0.0.1:9") as client:
        slate = client.rank_or_input_order(["i2", "i1"], user="caf\udce9")
        with pytest.raises(InvalidRequest):
            client.item_recommendations("i1", user_id="caf\udce9")
        with pytest.raises(Unreachable):
            client.item_recommendations("\udce9")

    assert (slate.items, slate.reason) == (("i2", "i1"), "invalid_request")


def test_a_misspelt_argument_is_refused_and_not_passed_over():
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(TypeError, match="contxt"):
            client.rank_or_input_order(["i1"], contxt={})
        with pytest.raises(TypeError, match="user"):
            client.item_recommendations("i1", user="u1")
