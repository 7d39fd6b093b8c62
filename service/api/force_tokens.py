"""``POST /v1/experiments/{key}/force-tokens``: a token that shows one variant to who holds it."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.params import FromPath

from experiments.source import ExperimentSource
from service.api.access import Access
from service.api.bodies import decode, read_body
from service.api.experiments import find_experiment
from service.api.given import Given
from service.api.openapi import ForceTokenOperation
from service.clock import Clock
from service.errors import InvalidRequest
from service.events.force_tokens import ForceClaims, ForceTokens
from service.messages import ForceToken, ForceTokenRequest

_decoder = msgspec.json.Decoder(ForceTokenRequest)


@post(
    "/v1/experiments/{key:str}/force-tokens",
    status_code=201,
    operation_class=ForceTokenOperation,
    operation_id="forceToken",
    summary="Let somebody see a variant",
    tags=["experiments"],
)
async def force_token(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    source: Given[ExperimentSource],
    force_tokens: Given[ForceTokens],
    access: Given[Access],
    clock: Given[Clock],
    body_limit: Given[int],
) -> ForceToken:
    """A token to send as ``force_token`` with rankings and item pages, until it expires.

    What is served for it is not counted in the analysis.
    """
    access.require(request, "admin")
    wanted = decode(_decoder, await read_body(request, body_limit))
    names = [variant.name for variant in find_experiment(source, key).variants]
    if wanted.variant not in names:
        raise InvalidRequest(
            f"experiment {key!r} has no variant {wanted.variant!r}; there are: {', '.join(names)}",
            "$.variant",
        )
    expires = int(clock.wall()) + wanted.ttl_s
    claims = ForceClaims(key=key, variant=wanted.variant, unit=wanted.unit, expires=expires)
    return ForceToken(
        token=force_tokens.sign(claims),
        key=key,
        variant=wanted.variant,
        unit=wanted.unit,
        expires=expires,
    )
