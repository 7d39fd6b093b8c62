"""``/v1/models``: what is loaded and how it is; and versions loaded, activated and unloaded."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from service.api.access import Access
from service.api.bodies import decode, read_body
from service.api.given import Given
from service.api.openapi import VersionOperation
from service.deployments.changes import ModelChanges
from service.deployments.reports import ModelReports
from service.messages import ModelsReply, ModelVersion

_decoder = msgspec.json.Decoder(ModelVersion)


@get("/v1/models", operation_id="models", summary="Loaded models", tags=["models"])
async def loaded(
    request: Request[Any, Any, Any],
    reports: Given[ModelReports],
    access: Given[Access],
) -> ModelsReply:
    """Every deployment with its bundle's figures, gates and engines; every loaded version."""
    access.require(request, "read")
    return await reports.read()


@post(
    "/v1/models/{name:str}/load",
    status_code=200,
    operation_class=VersionOperation,
    operation_id="loadModel",
    summary="Load a version beside the one that serves",
    tags=["models"],
)
async def load(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    changes: Given[ModelChanges],
    reports: Given[ModelReports],
    access: Given[Access],
    body_limit: Given[int],
) -> ModelsReply:
    """Opens the bundle, proves its engines and warms them up; nobody is served by it yet.

    Answers when that is done, which takes minutes where a plan must be compiled.
    """
    version = await _version(request, access, body_limit)
    await changes.load(name, version)
    return await reports.read()


@post(
    "/v1/models/{name:str}/activate",
    status_code=200,
    operation_class=VersionOperation,
    operation_id="activateModel",
    summary="Serve with a loaded version",
    tags=["models"],
)
async def activate(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    changes: Given[ModelChanges],
    reports: Given[ModelReports],
    access: Given[Access],
    body_limit: Given[int],
) -> ModelsReply:
    """Moves the model's default: deployments that name no version follow, and stay so after
    restarts. Requests under way end with the version that they began with; then it is closed."""
    version = await _version(request, access, body_limit)
    await changes.activate(name, version)
    return await reports.read()


@post(
    "/v1/models/{name:str}/unload",
    status_code=200,
    operation_class=VersionOperation,
    operation_id="unloadModel",
    summary="Let a version go that was loaded",
    tags=["models"],
)
async def unload(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    changes: Given[ModelChanges],
    reports: Given[ModelReports],
    access: Given[Access],
    body_limit: Given[int],
) -> ModelsReply:
    """Closes engines that stand by; a version that serves is refused."""
    version = await _version(request, access, body_limit)
    await changes.unload(name, version)
    return await reports.read()


async def _version(request: Request[Any, Any, Any], access: Access, body_limit: int) -> str:
    access.require(request, "admin")
    return decode(_decoder, await read_body(request, body_limit)).version
