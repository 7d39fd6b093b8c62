"""``/schema``: the API's document, for browsers as a page (Swagger UI) with scripts of our own.

``/schema/openapi.json`` is the document whoever asks, ``/schema`` where HTML is not preferred.
"""

from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, Router

from service.api.dashboard.files import File, served_folder
from service.api.problems import unknown_path

_FOLDER = Path(__file__).parent / "static"
_PATH: Final = "/schema"
_NOT_FOUND: Final = 404
_PAGE = File(_FOLDER / "docs.html", is_versioned=False)

ROUTES = tuple(served_folder(f"{_PATH}/page", _FOLDER))
"""The scripts and styles of the page."""


def document_router() -> Router:
    """What the framework puts its routes of the document into."""
    return Router(
        _PATH,
        route_handlers=[],
        include_in_schema=False,
        before_request=_page,
        after_request=_ours,
    )


def _page(request: Request[Any, Any, Any]) -> Response[bytes] | None:
    """The page, for who would rather have HTML; else the framework goes on."""
    if request.url.path.rstrip("/") != _PATH:
        return None
    if request.accept.best_match(["application/json", "text/html"]) != "text/html":
        return None
    return _PAGE.response(request)


def _ours(response: Response[Any]) -> Response[Any]:
    """The framework tells of an unknown path in HTML, and of nothing that the answer varies by."""
    if response.status_code == _NOT_FOUND:
        return unknown_path()
    response.headers["Vary"] = "Accept"
    return response
