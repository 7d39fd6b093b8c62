"""``/v1/experiments/{key}/...``: running experiments changed, and every decision about them."""

from typing import Any, Literal, get_args

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from experiments.standing import Change, Standing
from service.api.access import Access
from service.api.bodies import decode, read_body
from service.api.given import Given
from service.api.openapi import ChangeOperation, DecisionsOperation
from service.errors import InvalidRequest
from service.messages import DECISIONS, MOST_DECISIONS, DecisionsReply, ExperimentChange
from service.rollouts.changes import Author, ExperimentChanges

Verb = Literal["start", "pause", "ramp", "promote", "rollback", "stop"]

_MEANINGS: dict[Verb, str] = {
    "start": "Starts it, or goes on with it after a pause. Out of an A/A phase, or after its end, "
    "a new phase begins.",
    "pause": "Assigns nobody for now: all are served by the surface's own deployment.",
    "ramp": "Moves the traffic to the next stage, a stage or a share; a new phase begins.",
    "promote": "Serves every eligible unit by one variant. Nobody is counted any more.",
    "rollback": "Serves everybody by the surface's own deployment until it is started again.",
    "stop": "Ends it. Its part of the layer is free.",
}
_PARTS = {"stage": "ramp", "traffic_bp": "ramp", "variant": "promote"}
_decoder = msgspec.json.Decoder(ExperimentChange)


def _changing(verb: Verb) -> HTTPRouteHandler:
    async def change(
        key: FromPath[str],
        request: Request[Any, Any, Any],
        experiment_changes: Given[ExperimentChanges],
        access: Given[Access],
        body_limit: Given[int],
    ) -> Standing:
        by = access.author(request, "admin")
        wanted = await _wanted(request, verb, body_limit)
        change = Change(
            action=verb, stage=wanted.stage, traffic_bp=wanted.traffic_bp, variant=wanted.variant
        )
        author = Author(by=by, reason=wanted.reason)
        return await experiment_changes.change(
            key, change, author, if_generation=wanted.if_generation
        )

    change.__doc__ = f"""{_MEANINGS[verb]}

    Answers with the new standing once it is durable; every replica goes by it within two
    seconds. What is so already stays as it is, and is no change.
    """
    return post(
        f"/v1/experiments/{{key:str}}/{verb}",
        status_code=200,
        operation_class=ChangeOperation,
        operation_id=f"{verb}Experiment",
        summary=f"{verb.capitalize()} an experiment",
        tags=["experiments"],
    )(change)


VERBS: tuple[HTTPRouteHandler, ...] = tuple(_changing(verb) for verb in get_args(Verb))
"""One route per verb."""


@get(
    "/v1/experiments/{key:str}/decisions",
    operation_class=DecisionsOperation,
    operation_id="experimentDecisions",
    summary="What was decided about an experiment",
    tags=["experiments"],
)
async def decisions(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    experiment_changes: Given[ExperimentChanges],
    access: Given[Access],
) -> DecisionsReply:
    """The audit log, newest first: who changed what, when, why, and on which evidence."""
    access.require(request, "read")
    found = await experiment_changes.decisions(key, _limit(request))
    return DecisionsReply(key=key, decisions=found)


async def _wanted(request: Request[Any, Any, Any], verb: Verb, body_limit: int) -> ExperimentChange:
    """The body; none at all says nothing.

    Raises:
        InvalidRequest: something that the verb has no use for.
    """
    body = await read_body(request, body_limit, ("application/json", ""))
    wanted = decode(_decoder, body) if body else ExperimentChange()
    for name, of in _PARTS.items():
        if verb != of and getattr(wanted, name) is not None:
            raise InvalidRequest(f"{name} is for {of} only", f"$.{name}")
    return wanted


def _limit(request: Request[Any, Any, Any]) -> int:
    text = request.query_params.get("limit", str(DECISIONS))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_DECISIONS):
        raise InvalidRequest(f"limit must be 1 to {MOST_DECISIONS}, got {text[:40]!r}", "$.limit")
    return int(text)
