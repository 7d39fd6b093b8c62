"""Reads request bodies: type, size, JSON, and the first thing that is wrong with it."""

from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException, InternalServerException

from service.api.mappings import named_place
from service.errors import (
    BodyTooLarge,
    ClientGone,
    InvalidRequest,
    MalformedBody,
    UnsupportedMediaType,
    split_place,
)

T = TypeVar("T")

JSON = ("application/json",)
TOO_LARGE = 413


def media_type(request: Request[Any, Any, Any]) -> str:
    """The type of the body without parameters, in lower case; empty where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(
    request: Request[Any, Any, Any], limit_bytes: int, types: tuple[str, ...] = JSON
) -> bytes:
    """The whole body.

    Raises:
        UnsupportedMediaType: the content type is none of ``types``.
        BodyTooLarge: more than ``limit_bytes``; reading stops there.
        ClientGone: the client hung up before the body was complete.
    """
    given = media_type(request)
    if given not in types:
        raise UnsupportedMediaType(given, types)
    return await whole_body(request, limit_bytes)


async def whole_body(request: Request[Any, Any, Any], limit_bytes: int) -> bytes:
    """The body, of whatever type.

    Args:
        request: Not read yet.
        limit_bytes: What its route takes, for the words of the refusal.

    Raises:
        BodyTooLarge: more than that; reading stops there.
        ClientGone: the client hung up before the body was complete.
    """
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code == TOO_LARGE:
            raise BodyTooLarge(limit_bytes) from None
        if isinstance(error, InternalServerException):
            # The framework's way to say that the client hung up; no fault of ours.
            raise ClientGone from None
        raise


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A typed value from JSON.

    Raises:
        MalformedBody: not JSON, or nested too deeply to read.
        InvalidRequest: JSON of another shape, with the JSON path.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, path = split_place(error)
        raise InvalidRequest(message, named_place(body, path)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(str(error)) from None
    except RecursionError:
        # msgspec follows nesting on the C stack; Python's limit stops it
        # before the stack ends, but the error is not a DecodeError.
        raise MalformedBody("the JSON is nested too deeply") from None
