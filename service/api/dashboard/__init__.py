"""``/dashboard``: a page over the public, read-only API. It loads nothing from elsewhere."""

from pathlib import Path

from litestar import Response, get

_FILES = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def _file(name: str, media_type: str) -> Response[bytes]:
    return Response((_FILES / name).read_bytes(), media_type=media_type, headers=_HEADERS)


@get("/dashboard", include_in_schema=False, sync_to_thread=False)
def page() -> Response[bytes]:
    """The page; its data comes from the API with the reader's own key, where one is needed."""
    return _file("page.html", "text/html")


@get("/dashboard/page.js", include_in_schema=False, sync_to_thread=False)
def script() -> Response[bytes]:
    """What fetches and draws."""
    return _file("page.js", "text/javascript")


@get("/dashboard/page.css", include_in_schema=False, sync_to_thread=False)
def style() -> Response[bytes]:
    """How it looks, light and dark."""
    return _file("page.css", "text/css")
