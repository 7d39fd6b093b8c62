"""The page's own files: read once, served from memory, nothing from elsewhere."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, route
from litestar.handlers import HTTPRouteHandler

POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",  # the empty icon, and a stylesheet's drawings
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".txt": "text/plain",
}
_ASKED_EACH_TIME: Final = "no-cache"
_KEPT: Final = "public, max-age=31536000, immutable"
"""For files whose path names their version."""


class File:
    """A file as it is sent."""

    def __init__(self, path: Path, *, is_versioned: bool) -> None:
        self._body = path.read_bytes()
        self._media_type = _TYPES[path.suffix]
        self._headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": _KEPT if is_versioned else _ASKED_EACH_TIME,
            "ETag": f'"{hashlib.sha256(self._body).hexdigest()[:16]}"',
        }

    def response(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """The file, or 304 for who has it."""
        known = (tag.strip() for tag in request.headers.get("if-none-match", "").split(","))
        if self._headers["ETag"] in known:
            return Response(
                b"", status_code=304, headers=self._headers, media_type=self._media_type
            )
        return Response(self._body, headers=self._headers, media_type=self._media_type)


def served(path: str, file: File) -> HTTPRouteHandler:
    """A route that gives a file to everybody: it holds no figures."""

    def given(request: Request[Any, Any, Any]) -> Response[bytes]:
        return file.response(request)

    # A server must answer HEAD wherever it answers GET; it leaves the body away itself.
    return route(path, http_method=["GET", "HEAD"], include_in_schema=False, sync_to_thread=False)(
        given
    )


def served_folder(path: str, folder: Path) -> list[HTTPRouteHandler]:
    """A route for each file under a folder; those in ``vendor`` have versions in their names."""
    return [
        served(
            f"{path}/{found.relative_to(folder).as_posix()}",
            File(found, is_versioned="vendor" in found.relative_to(folder).parts),
        )
        for found in sorted(folder.rglob("*"))
        if found.suffix in _TYPES
    ]
