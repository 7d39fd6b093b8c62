"""``GET /v1/models``: what is loaded, how good it is by its gates, and how its engines are."""

from typing import Any

from litestar import Request, get

from service.api.access import Access
from service.api.given import Given
from service.deployments import Deployments
from service.messages import ModelsReply


@get("/v1/models", operation_id="models", summary="Loaded models", tags=["models"])
async def models(
    request: Request[Any, Any, Any],
    deployments: Given[Deployments],
    surfaces: Given[dict[str, str]],
    access: Given[Access],
) -> ModelsReply:
    """Every deployment with its bundle's figures and gates and the state of its engines."""
    access.require(request, "read")
    return deployments.describe(surfaces)
