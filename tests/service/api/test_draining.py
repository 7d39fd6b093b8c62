"""Requests that the end of a drain cuts off."""

import asyncio

import pytest

from service.api.draining import Draining
from service.health import Health

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v1/rank",
    "query_string": b"",
    "headers": [],
    "client": None,
    "server": None,
    "scheme": "http",
    "state": {},
}
START = {"type": "http.response.start", "status": 200, "headers": []}


async def cut_off(*said_before, draining=True, path="/v1/rank"):
    """What a caller is sent whose request is cancelled; `said_before` has left already."""
    sent, waits = [], asyncio.Event()

    async def stalled(scope, receive, send):
        for message in said_before:
            await send(message)
        waits.set()
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    health = Health({})
    request = asyncio.create_task(Draining(stalled, health)(SCOPE | {"path": path}, None, send))
    await waits.wait()
    if draining:
        health.drain()
    request.cancel()
    await request
    return sent


async def test_a_reply_that_had_not_begun_is_a_refusal():
    start, body = await cut_off()

    assert start["status"] == 503
    assert dict(start["headers"])[b"content-type"].startswith(b"application/problem+json")
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert b'"code":"not_ready"' in body["body"]
    assert not body["more_body"]


async def test_the_open_inference_protocol_is_refused_in_its_own_words():
    start, body = await cut_off(path="/v2/models/ranker/infer")

    assert start["status"] == 503
    assert body["body"] == b'{"error":"this server is shutting down"}'


async def test_a_reply_that_had_begun_is_left_as_it_is():
    assert await cut_off(START) == [START]


async def test_a_cancellation_for_another_reason_is_not_ours():
    with pytest.raises(asyncio.CancelledError):
        await cut_off(draining=False)
