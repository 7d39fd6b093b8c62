"""``/dashboard``: the live page. It loads nothing from elsewhere and holds no figures itself;
those come from ``/dashboard/events``, with the reader's key where one is needed."""

from pathlib import Path

from service.api.dashboard.files import File, served, served_folder
from service.api.dashboard.stream import stream

_STATIC = Path(__file__).parent / "static"

ROUTES = (
    served("/dashboard", File(_STATIC / "page.html", is_versioned=False)),
    *served_folder("/dashboard", _STATIC),
    stream,
)
"""The page, its files and its events."""
